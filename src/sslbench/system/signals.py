"""Signals that ask a process to end, and what is made of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import final

#: A lost terminal, and a scheduler's time limit or preemption; submitit asks Slurm for one of the last two.
REQUESTS = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


#: Whether `terminable` was told that one request is all that this process heeds.
_once = False


class Stopped(KeyboardInterrupt):
    """Raised by `Request.check`, at a place that was chosen for it."""


@final
class Request:
    """Whether this process has been asked to end."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def check(self) -> None:
        """Raise if there was a request.

        Raises:
            Stopped: there was one.
        """
        if self:
            raise Stopped(self.number)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell expects of a process that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
    [number] = interrupt.args or [signal.SIGINT]
    return 128 + int(number)


@contextmanager
def terminable(before: Callable[[], object] = lambda: None, *, once: bool = False) -> Iterator[None]:
    """Let a request to end raise `KeyboardInterrupt` in this block, as Ctrl-C does, with the signal's number.

    SIGHUP and SIGINT are left alone where they are ignored (``nohup``, a command that a script has put into
    the background). In another thread than the main one, which alone may set handlers, nothing is done.

    Args:
        before: called first, Ctrl-C included. A second request while it runs is not waited for.
        once: whether further requests are ignored, from then on and for good: for a process that ends
            after this block, and whose parent kills it if that takes too long.
    """
    global _once
    kept = _heeded()
    _once = _once or (once and bool(kept))

    def end(number: int, frame: FrameType | None) -> None:
        for request in kept:
            signal.signal(request, signal.SIG_IGN if once else signal.default_int_handler)
        if once:
            kept.clear()
        before()
        raise KeyboardInterrupt(number)

    for request in kept:
        signal.signal(request, end)
    try:
        yield
    finally:
        for request, handler in kept.items():
            signal.signal(request, handler)


@contextmanager
def held() -> Iterator[Request]:
    """Only note a request to end in this block, which looks for it where it can stop in good order.

    Then, at the end of the block, the request is handed to the handlers from around it. A second request is
    handed to them at once, but for a process that heeds one only (`terminable`). In another thread than the
    main one, nothing is done.

    Yields:
        Whether there has been a request.
    """
    noted, kept = Request(), _heeded()

    def restore() -> None:
        for request, handler in kept.items():
            signal.signal(request, handler)

    def note(number: int, frame: FrameType | None) -> None:
        if noted.number is None:
            noted.number = number
        if not _once:
            restore()

    for request in kept:
        signal.signal(request, note)
    try:
        with suppress(Stopped):
            yield noted
    finally:
        restore()
    if noted.number is not None:
        signal.raise_signal(noted.number)


@contextmanager
def withheld() -> Iterator[None]:
    """Processes that are started in this block are never reached by a request to end, unless they ask for it.

    They inherit that it is blocked. This process is reached by way of another thread, which must have been
    started before; its handlers run in the main one, as ever.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *REQUESTS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reachable() -> None:
    """Let requests reach this process, whoever started it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, *REQUESTS))


def _heeded() -> dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]:
    """The handlers of the requests that this thread may handle."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        request: signal.getsignal(request)
        for request in (signal.SIGINT, *REQUESTS)
        if request not in (signal.SIGHUP, signal.SIGINT) or signal.getsignal(request) != signal.SIG_IGN
    }

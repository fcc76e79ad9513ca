"""Signals that ask a process to stop: raised as an exception, deferred to a safe place, or blocked."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import final

#: A lost terminal, and a scheduler's time limit or preemption; submitit asks Slurm for one of the last two.
STOP_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

#: Whether a `raise_on_signal` around the code that runs now ignores all signals but the first.
_first_only = False


class StopRequested(KeyboardInterrupt):
    """Raised by `PendingStop.check`, at a place where the process can stop."""


@final
class PendingStop:
    """Whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the first

    def __bool__(self) -> bool:
        return self.number is not None

    def check(self) -> None:
        """Raise `StopRequested` if a signal has come."""
        if self:
            raise StopRequested(self.number)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell expects of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    [number] = interrupt.args or [signal.SIGINT]
    return 128 + int(number)


@contextmanager
def raise_on_signal(
    before: Callable[[], object] = lambda: None, *, first_only: bool = False
) -> Iterator[None]:
    """Let each stop signal raise `KeyboardInterrupt` with its number in this block, as Ctrl-C does.

    SIGHUP and SIGINT are left alone where they are ignored (``nohup``, a background command of a script).
    Only the main thread may set handlers: in another thread, this does nothing.

    Args:
        before: called before the exception is raised, after Ctrl-C too. A second signal interrupts it.
        first_only: whether all signals after the first are ignored, also after this block. This is for a
            process that ends after the block, and whose parent kills it if that takes too long.
    """
    global _first_only
    kept, outer = _handlers(), _first_only
    _first_only = outer or (first_only and bool(kept))

    def stop(number: int, frame: FrameType | None) -> None:
        for one in kept:
            signal.signal(one, signal.SIG_IGN if first_only else signal.default_int_handler)
        if first_only:
            kept.clear()
        before()
        raise KeyboardInterrupt(number)

    for number in kept:
        signal.signal(number, stop)
    try:
        yield
    finally:
        _first_only = outer
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def signals_deferred() -> Iterator[PendingStop]:
    """Note a stop signal in this block without raising; the block checks for it where it can stop.

    After the block, the handlers from around it receive the signal. They receive a second signal at once,
    unless `raise_on_signal` ignores all but the first. In a thread other than the main one, this does
    nothing.
    """
    pending, kept = PendingStop(), _handlers()

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        if pending.number is None:
            pending.number = number
        if not _first_only:
            restore()

    for number in kept:
        signal.signal(number, note)
    try:
        with suppress(StopRequested):
            yield pending
    finally:
        restore()
    if pending.number is not None:
        signal.raise_signal(pending.number)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Start processes in this block that no stop signal reaches until they call `unblock_signals`.

    They inherit the mask of this thread. Signals still reach this process if another thread was started
    before the block; the handlers run in the main thread, as always.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *STOP_SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Let stop signals reach this process even if the process that started it has blocked them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, *STOP_SIGNALS))


def _handlers() -> dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]:
    """The present handlers of the stop signals that this thread may handle."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, *STOP_SIGNALS)
        if number not in (signal.SIGHUP, signal.SIGINT) or signal.getsignal(number) != signal.SIG_IGN
    }

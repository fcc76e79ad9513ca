"""Signals that ask a process to end, and what is made of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: A lost terminal, and a scheduler's time limit or preemption; submitit asks Slurm for one of the last two.
REQUESTS = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def terminable(before: Callable[[], object] = lambda: None, *, once: bool = False) -> Iterator[None]:
    """Let a request to end raise `KeyboardInterrupt` in this block, as Ctrl-C does.

    SIGHUP is left alone where it is ignored (``nohup``). In another thread than the main one, which alone
    may set handlers, nothing is done.

    Args:
        before: called first, Ctrl-C included. A second request while it runs is not waited for.
        once: whether further requests are ignored, from then on and for good: for a process that ends
            after this block, and whose parent kills it if that takes too long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {
        request: signal.getsignal(request)
        for request in (signal.SIGINT, *REQUESTS)
        if request != signal.SIGHUP or signal.getsignal(request) != signal.SIG_IGN
    }

    def end(number: int, frame: FrameType | None) -> None:
        for request in kept:
            signal.signal(request, signal.SIG_IGN if once else signal.default_int_handler)
        if once:
            kept.clear()
        before()
        raise KeyboardInterrupt

    for request in kept:
        signal.signal(request, end)
    try:
        yield
    finally:
        for request, handler in kept.items():
            signal.signal(request, handler)

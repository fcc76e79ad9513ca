from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from sslbench.system.signals import (
    STOP_SIGNALS,
    PendingStop,
    StopRequested,
    exit_code,
    raise_on_signal,
    signals_deferred,
)


@pytest.mark.parametrize("request_", [signal.SIGINT, *STOP_SIGNALS])
def test_a_request_is_an_interrupt(request_: signal.Signals) -> None:
    previous = signal.signal(request_, signal.SIG_DFL)  # these tests may themselves run under nohup
    told = []
    try:
        with pytest.raises(KeyboardInterrupt) as interrupt, raise_on_signal(lambda: told.append(1)):
            signal.raise_signal(request_)
        assert told == [1]
        assert exit_code(interrupt.value) == 128 + request_
        assert signal.getsignal(request_) == signal.SIG_DFL
    finally:
        signal.signal(request_, previous)


def test_a_second_request_is_not_waited_for() -> None:
    def patient() -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one ends the waiting")

    with pytest.raises(KeyboardInterrupt), raise_on_signal(patient):
        signal.raise_signal(signal.SIGTERM)


def test_once_and_for_good() -> None:
    script = (
        "import signal\n"
        "from sslbench.system.signals import raise_on_signal\n"
        "try:\n"
        "    with raise_on_signal(first_only=True):\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGUSR1)\n"
        "    print('ends in order')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ends in order\n")


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_stays_ignored(ignored: signal.Signals) -> None:
    previous = signal.signal(ignored, signal.SIG_IGN)
    try:
        with raise_on_signal(), signals_deferred():
            signal.raise_signal(ignored)
        assert signal.getsignal(ignored) == signal.SIG_IGN
    finally:
        signal.signal(ignored, previous)


def test_only_the_main_thread_sets_handlers() -> None:
    found = []

    def work() -> None:
        with raise_on_signal():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_plain_interrupt_is_that_of_the_keyboard() -> None:
    assert exit_code(KeyboardInterrupt()) == 130


def interrupted(block: Callable[[PendingStop], object]) -> KeyboardInterrupt:
    """What comes out of `block`, held within `raise_on_signal`."""
    try:
        with raise_on_signal(), signals_deferred() as request:
            block(request)
    except KeyboardInterrupt as interrupt:
        return interrupt
    pytest.fail("not interrupted")


def test_held_until_the_end_of_the_block() -> None:
    noted = []

    def block(request: PendingStop) -> None:
        request.check()
        signal.raise_signal(signal.SIGTERM)
        noted.append(bool(request))

    assert interrupted(block).args == (signal.SIGTERM,)
    assert noted == [True]


def test_looked_for_within_the_block() -> None:
    def block(request: PendingStop) -> None:
        signal.raise_signal(signal.SIGINT)
        request.check()
        pytest.fail("not reached")

    assert type(interrupted(block)) is not StopRequested, "that of the handlers around it"


def test_an_error_goes_before_a_request() -> None:
    def block(request: PendingStop) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        interrupted(block)


def test_held_leaves_the_handlers_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_deferred():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_handlers_around_it_a_request_kills_as_ever() -> None:
    script = (
        "import signal\n"
        "from sslbench.system.signals import signals_deferred\n"
        "with signals_deferred():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('finished', flush=True)\n"
        "print('not reached', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "finished\n")


def test_a_process_that_heeds_one_request_is_not_hurried_by_a_second() -> None:
    script = (
        "import signal\n"
        "from sslbench.system.signals import exit_code, signals_deferred, raise_on_signal\n"
        "try:\n"
        "    with raise_on_signal(first_only=True), signals_deferred() as request:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "        print('finished', request.number, flush=True)\n"
        "except KeyboardInterrupt as interrupt:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print(exit_code(interrupt))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "finished 2\n130\n"), done.stderr

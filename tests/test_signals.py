from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from sslbench.signals import REQUESTS, terminable


@pytest.mark.parametrize("request_", [signal.SIGINT, *REQUESTS])
def test_a_request_is_an_interrupt(request_: signal.Signals) -> None:
    previous = signal.signal(request_, signal.SIG_DFL)  # these tests may themselves run under nohup
    told = []
    try:
        with pytest.raises(KeyboardInterrupt), terminable(lambda: told.append(1)):
            signal.raise_signal(request_)
        assert told == [1]
        assert signal.getsignal(request_) == signal.SIG_DFL
    finally:
        signal.signal(request_, previous)


def test_a_second_request_is_not_waited_for() -> None:
    def patient() -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one ends the waiting")

    with pytest.raises(KeyboardInterrupt), terminable(patient):
        signal.raise_signal(signal.SIGTERM)


def test_once_and_for_good() -> None:
    script = (
        "import signal\n"
        "from sslbench.signals import terminable\n"
        "try:\n"
        "    with terminable(once=True):\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGUSR1)\n"
        "    print('ends in order')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ends in order\n")


def test_a_lost_terminal_that_is_ignored_stays_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_only_the_main_thread_sets_handlers() -> None:
    found = []

    def work() -> None:
        with terminable():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]

"""Imported by the fork server of a worker, and by nothing else: it is to outlive signals to the whole job.

A scheduler signals every process of a job at its time limit. The cells take that as an interrupt; without
the server, nobody would learn how they ended. It ends when its worker does.
"""

from __future__ import annotations

import signal

from sslbench.system.signals import STOP_SIGNALS

for _request in STOP_SIGNALS:
    signal.signal(_request, signal.SIG_IGN)

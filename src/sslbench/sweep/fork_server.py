"""Imported by the fork server alone: the server ignores signals that are sent to a whole job.

A scheduler signals every process of a job at its time limit. The runs take that as an interrupt; without
the server, nobody would learn how they ended. The server ends when the process that started it does.
"""

import signal

from sslbench.system.signals import STOP_SIGNALS

for _request in STOP_SIGNALS:
    signal.signal(_request, signal.SIG_IGN)

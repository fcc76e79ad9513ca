"""How a run of a sweep may end without a result.

An error of any other kind is one that the run's folder does not hold: the sweep prints it.
"""

from __future__ import annotations

from sslbench.errors import UserError


class RunLockedError(UserError):
    """Another process is training the run."""


class RunInterruptedError(UserError):
    """The run was interrupted or killed, as its ``status.json`` says, or not started in a stopped sweep."""


class RunFailedError(UserError):
    """The run failed, as its ``status.json`` says."""

"""Refuses loggers that lack a method, before a run trains."""

from __future__ import annotations

import inspect

from sslbench.errors import UserError
from sslbench.tracking import Tracker


def check_tracker(tracker: object) -> None:
    """Refuse an object that lacks a method of `Tracker`.

    Raises:
        UserError: naming the class and the method.
    """
    for name, method in vars(Tracker).items():
        if inspect.isfunction(method) and not name.startswith("_") and not hasattr(tracker, name):
            arguments = ", ".join([*inspect.signature(method).parameters][1:])
            raise UserError(f"logger: {type(tracker).__name__} has no method {name}({arguments}): write one")

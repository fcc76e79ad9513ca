"""How often something is done: every few steps, or every few seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Steps of the run, or seconds of the clock: one of the two, at least 1; the other is None."""

    steps: int | None = None
    seconds: int | None = None

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read ``500`` (steps) or ``60s`` (seconds).

        Raises:
            ValueError: it is neither.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,8})(s?)", text, re.ASCII)
        if not found:
            raise ValueError(f"{text!r} is neither a number of steps (500) nor of seconds (60s)")
        count = int(found[1])
        return cls(seconds=count) if found[2] else cls(steps=count)

"""How long the rest of a sweep takes."""

import heapq
from collections.abc import Sequence
from typing import final


@final
class TimeLeft:
    """Estimates the time left from the steps that were made in it so far, on each place where runs train.

    The clock starts with the first change of any run: before that, processes import for long. The time
    between two runs of a place counts, so that starting and evaluating them is in the estimate. The runs that
    are left are laid on the places one after the other: the last ones, with fewer side by side, take longer.
    """

    def __init__(self) -> None:
        self._places = 0
        self._place_seconds = 0.0
        self._steps = 0
        self._last: tuple[float, int, int] | None = None  # seconds, steps made, runs that had not ended

    def update(self, now: float, made: int, running: int, unended: int) -> None:
        """Note the steps `made` in this sweep and the runs that train or have not ended, `now` in seconds."""
        self._places = max(self._places, running)
        if self._last is not None:
            then, before, busy = self._last
            self._place_seconds += (now - then) * min(max(self._places, 1), busy)
            self._steps += made - before
        self._last = now, made, unended

    def seconds(self, remaining: Sequence[int]) -> float | None:
        """Seconds until all runs have ended; None until that can be estimated.

        `remaining` are the steps that each run has still to make, in the order in which they are made.
        """
        if self._steps <= 0 or not remaining:
            return None
        places = [0] * max(self._places, 1)
        for steps in remaining:
            heapq.heapreplace(places, places[0] + steps)
        return max(places) * self._place_seconds / self._steps

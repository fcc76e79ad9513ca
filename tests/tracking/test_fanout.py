from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sslbench.tracking import Fanout, NullTracker, RunInfo, Tracker

MakeRun = Callable[..., RunInfo]


class Listener:
    """Writes down what it hears; fails where it is told to."""

    def __init__(self, name: str, heard: list[Any], fails: str = "") -> None:
        self.name, self.heard, self.fails = name, heard, fails

    def _hear(self, event: str, *what: Any) -> None:
        self.heard.append((self.name, event, *what))
        if event == self.fails:
            raise RuntimeError(f"{self.name} fails to {event}")

    def start(self, run: RunInfo) -> None:
        self._hear("start", run.run_id)

    def advance(self, step: int) -> None:
        self._hear("advance", step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._hear("log", step, dict(metrics))

    def log_image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self._hear("log_image", step, name, image.shape)

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        self._hear("close", status, result)


def test_each_tracker_hears_everything_in_order(make_run: MakeRun) -> None:
    heard: list[Any] = []
    trackers: list[Tracker] = [Listener("a", heard), NullTracker(), Listener("b", heard)]
    fanout = Fanout(trackers)
    fanout.start(make_run(run_id="r"))
    fanout.advance(1)
    fanout.log(1, {"train/loss": 0.5})
    fanout.log_image(1, "generated", np.zeros((4, 5, 3), dtype=np.uint8))
    fanout.close("finished", {"seed": 0})
    events = [
        ("start", "r"),
        ("advance", 1),
        ("log", 1, {"train/loss": 0.5}),
        ("log_image", 1, "generated", (4, 5, 3)),
        ("close", "finished", {"seed": 0}),
    ]
    assert heard == [(name, *event) for event in events for name in "ab"]


class Plain:
    """A tracker that has only what every tracker must have."""

    def __init__(self) -> None:
        self.points: list[int] = []

    def start(self, run: RunInfo) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.points.append(step)

    def close(self, status: str, result: Mapping[str, Any] | None) -> None: ...


def test_steps_and_images_are_optional(make_run: MakeRun) -> None:
    plain = Plain()
    assert isinstance(plain, Tracker)
    fanout = Fanout([plain])
    fanout.start(make_run())
    fanout.advance(1)
    fanout.log(1, {"train/loss": 0.5})
    fanout.log_image(1, "generated", np.zeros((4, 5, 3), dtype=np.uint8))
    fanout.close("finished", None)
    assert plain.points == [1]


def test_closing_reaches_the_others_when_one_raises(make_run: MakeRun) -> None:
    heard: list[Any] = []
    fanout = Fanout([Listener("a", heard, fails="close"), Listener("b", heard)])
    fanout.start(make_run())
    with pytest.raises(RuntimeError, match="a fails to close"):
        fanout.close("finished", None)
    assert heard[-2:] == [("a", "close", "finished", None), ("b", "close", "finished", None)]


def test_those_that_started_are_closed_when_the_next_does_not(make_run: MakeRun) -> None:
    heard: list[Any] = []
    fanout = Fanout([Listener("a", heard), Listener("b", heard, fails="start"), Listener("c", heard)])
    with pytest.raises(RuntimeError, match="b fails to start"):
        fanout.start(make_run(run_id="r"))
    fanout.close("failed", None)  # what a caller's `finally` does
    assert heard == [("a", "start", "r"), ("b", "start", "r"), ("a", "close", "failed", None)]

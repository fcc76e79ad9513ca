from __future__ import annotations

import pytest

from sslbench.config.intervals import Interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [("1", Interval(steps=1)), ("500", Interval(steps=500)), ("60s", Interval(seconds=60))],
)
def test_steps_or_seconds(text: str, interval: Interval) -> None:
    assert Interval.parse(text) == interval


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "1.5", "60 s", "60m", "s", "1e3", "9" * 40, "\u0661", "60s\n"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number of steps"):
        Interval.parse(text)

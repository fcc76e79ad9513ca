from __future__ import annotations

import pytest

from sslbench.sweep.time_left import TimeLeft


def sweep_of(runs: int, places: int, steps: int, seconds: float) -> list[tuple[float, float | None]]:
    """The true and the estimated time left of a sweep of equal runs, looked at each second."""
    length = seconds * -(-runs // places)
    estimate, found = TimeLeft(), []
    for now in range(int(length) + 1):
        wave, into = divmod(now, seconds)
        ended = min(int(wave) * places, runs)
        running = min(places, runs - ended)
        step = round(into / seconds * steps)
        remaining = [steps - step] * running + [steps] * (runs - ended - running)
        estimate.update(float(now), ended * steps + running * step, running, len(remaining))
        found.append((length - now, estimate.seconds(remaining)))
    return found


@pytest.mark.parametrize(("runs", "places"), [(1, 1), (3, 2), (4, 2), (5, 4), (12, 3)])
def test_equal_runs_end_when_it_says_so(runs: int, places: int) -> None:
    for left, estimated in sweep_of(runs, places, 1000, 20.0)[2:-1]:
        assert estimated == pytest.approx(left, rel=0.01)


def test_nothing_is_said_before_a_step_was_made_and_after_the_last() -> None:
    estimate = TimeLeft()
    estimate.update(5.0, 40, 1, 2)  # made before the first look
    assert estimate.seconds([60, 100]) is None
    estimate.update(6.0, 50, 1, 2)
    assert estimate.seconds([50, 100]) == 15.0
    assert estimate.seconds([]) is None


def test_the_time_between_runs_counts() -> None:
    """Runs of 1 s of training and 3 s of starting and evaluating, one after the other."""
    estimate = TimeLeft()
    estimate.update(0.0, 0, 1, 3)
    estimate.update(4.0, 100, 0, 2)
    assert estimate.seconds([100, 100]) == 8.0

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest

from sslbench.engine.schedules import Schedule, constant, cosine, exponential, linear, step_down

SCHEDULES: list[Schedule] = [
    constant,
    partial(exponential, factor=0.9, every=240),
    partial(step_down, factor=0.2, at=0.8),
    partial(linear, start=0.5),
    partial(cosine, cycles=7 / 32),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_starts_at_one_and_never_rises(schedule: Schedule) -> None:
    factors = [schedule(step, 1000) for step in range(1000)]
    assert factors[0] == 1.0
    assert all(0 < after <= before for before, after in pairwise(factors))


def test_constant() -> None:
    assert constant(999, 1000) == 1.0


def test_exponential_falls_once_every_so_many_steps() -> None:
    factors = [exponential(step, 1000, factor=0.9, every=240) for step in (239, 240, 479, 480, 720)]
    assert factors == pytest.approx([1, 0.9, 0.9, 0.81, 0.729])


@pytest.mark.parametrize(("total", "last_of_one"), [(10, 7), (1000, 799), (7, 5)])
def test_step_down_at_its_share(total: int, last_of_one: int) -> None:
    factors = [step_down(step, total, factor=0.2, at=0.8) for step in range(total)]
    assert factors == [1.0] * (last_of_one + 1) + [0.2] * (total - last_of_one - 1)


def test_step_down_at_a_share_that_binary_fractions_miss() -> None:
    assert step_down(54, 100, factor=0.2, at=0.55) == 1.0
    assert step_down(55, 100, factor=0.2, at=0.55) == 0.2


def test_linear_holds_then_falls_to_zero() -> None:
    factors = [linear(step, 100, start=0.6) for step in (0, 60, 70, 80, 99, 100)]
    assert factors == pytest.approx([1, 1, 0.75, 0.5, 0.025, 0])


def test_linear_from_the_start_and_never() -> None:
    assert linear(25, 100, start=0) == pytest.approx(0.75)
    assert [linear(step, 100, start=1) for step in (0, 99, 100)] == [1, 1, 1]


def test_cosine_is_that_of_fixmatch() -> None:
    total = 2**20
    for step in (0, 1000, total // 2, total - 1):
        assert cosine(step, total, cycles=7 / 32) == pytest.approx(
            math.cos(7 * math.pi * step / (16 * total))
        )
    assert cosine(total, total, cycles=7 / 32) == pytest.approx(math.cos(math.radians(78.75)))

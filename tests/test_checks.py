from __future__ import annotations

from collections.abc import Callable

import pytest

from sslbench import checks


@pytest.mark.parametrize(
    ("check", "good", "bad", "rule"),
    [
        (checks.check_positive, (0.1, 2), (0.0, -1.0), "must be above 0"),
        (checks.check_not_negative, (0.0, 2), (-0.1,), "must not be negative"),
        (checks.check_counts, (1, 5), (0, -1), "must be at least 1"),
        (checks.check_probability, (0.0, 1.0), (-0.1, 1.1), "must be from 0 to 1"),
        (checks.check_decay, (0.0, 0.999), (-0.1, 1.0, 1.5), "must be at least 0 and below 1"),
    ],
)
def test_the_first_number_out_of_range_is_named(
    check: Callable[..., None], good: tuple[float, ...], bad: tuple[float, ...], rule: str
) -> None:
    for value in good:
        check(one=value, other=value)
    for value in (*bad, float("nan")):
        with pytest.raises(ValueError, match=f"^other={value} {rule}$"):
            check(one=good[0], other=value)


def test_an_unknown_choice_is_named_with_the_known_ones() -> None:
    checks.check_choice(("soft", "hard"), kind="soft")
    with pytest.raises(ValueError, match=r"^kind=odd: choose from soft, hard$"):
        checks.check_choice(("soft", "hard"), kind="odd")

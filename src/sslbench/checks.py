"""Checks of arguments; each raises a `ValueError` that names the first one out of range."""

from collections.abc import Callable, Collection, Mapping


def check_positive(**values: float) -> None:
    """Each must be above 0."""
    _check(values, lambda value: value > 0, "must be above 0")


def check_not_negative(**values: float) -> None:
    """Each must be 0 or more."""
    _check(values, lambda value: value >= 0, "must not be negative")


def check_counts(**values: int) -> None:
    """Each must be 1 or more."""
    _check(values, lambda value: value >= 1, "must be at least 1")


def check_probability(**values: float) -> None:
    """Each must be in [0, 1]."""
    _check(values, lambda value: 0 <= value <= 1, "must be from 0 to 1")


def check_decay(**values: float) -> None:
    """Each must be in [0, 1): the decay of a moving average, or a probability of dropping."""
    _check(values, lambda value: 0 <= value < 1, "must be at least 0 and below 1")


def check_choice(choices: Collection[str], **values: str) -> None:
    """Each must be one of `choices`."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name}={value}: choose from {', '.join(choices)}")


def check_image_size(image_size: tuple[int, int], smallest: int) -> None:
    """The images must have at least the `smallest` pixels a side that pooling needs."""
    height, width = image_size
    if min(height, width) < smallest:
        raise ValueError(
            f"image_size {height}x{width} is too small for this model: use images of at least "
            f"{smallest}x{smallest} pixels, or a model without pooling such as mlp"
        )


def _check(values: Mapping[str, float], holds: Callable[[float], bool], rule: str) -> None:
    for name, value in values.items():
        if not holds(value):
            raise ValueError(f"{name}={value} {rule}")

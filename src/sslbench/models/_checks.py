"""Checks of constructor arguments that several models share; each error is one line with its remedy."""


def check_image_size(image_size: tuple[int, int], smallest: int) -> None:
    """Raise `ValueError` unless the images have at least the `smallest` pixels a side that pooling needs."""
    height, width = image_size
    if min(height, width) < smallest:
        raise ValueError(
            f"image_size {height}x{width} is too small for this model: use images of at least "
            f"{smallest}x{smallest} pixels, or a model without pooling such as mlp"
        )


def check_at_least(name: str, value: float, minimum: int) -> None:
    """Raise `ValueError` if ``value`` is below ``minimum``."""
    if value < minimum:
        raise ValueError(f"{name} is {value}: set it to {minimum} or more")


def check_dropout(value: float) -> None:
    """Raise `ValueError` unless ``value`` is a probability of dropping that leaves something."""
    if not 0 <= value < 1:
        raise ValueError(f"dropout is {value}: set it to 0 or more and less than 1 (0 turns it off)")

"""Strong augmentation: random operations and cutout, drawn for each sample on the training device."""

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from sslbench.checks import check_choice, check_not_negative, check_probability
from sslbench.data.operations import OPERATIONS
from sslbench.errors import did_you_mean

#: From the name of an operation to its least and greatest magnitude; empty where it takes none.
Ranges = Mapping[str, Sequence[float]]

#: Whose magnitudes, by the name in ``ranges``; `OPERATIONS` says what each means.
RANGES: dict[str, Ranges] = {
    # FixMatch, arXiv:2001.07685, appendix D: photometric factors below 1 only darken and flatten.
    "paper": {
        "rotate": (-30, 30),
        **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.3, 0.3)),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.05, 0.95)),
        "posterize": (4, 8),
        "solarize": (0, 256),
    },
    # github.com/google-research/fixmatch, third_party/auto_augment/augmentations.py, levels 1 to 9 of 10.
    "released": {
        "rotate": (-27, 27),
        **dict.fromkeys(("shear_x", "shear_y"), (-0.27, 0.27)),
        **dict.fromkeys(("translate_x", "translate_y"), (-9 / 32, 9 / 32)),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.28, 1.72)),
        "posterize": (1, 4),
        "solarize": (26, 231),
    },
    # TrivialAugment, arXiv:2103.10158, table 7: its wide space, for images of 32 pixels.
    "wide": {
        "rotate": (-135, 135),
        **dict.fromkeys(("shear_x", "shear_y"), (-0.99, 0.99)),
        **dict.fromkeys(("translate_x", "translate_y"), (-1, 1)),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.01, 1.99)),
        "posterize": (2, 8),
        "solarize": (0, 255),
    },
}
CUTOUT = "cutout"


def check_operations(operations: Mapping[str, Sequence[float] | None]) -> None:
    """Raise `ValueError` unless each is an operation or cutout, with the magnitudes that it takes."""
    known = (*OPERATIONS, CUTOUT)
    for name, limits in operations.items():
        if name not in known:
            raise ValueError(f"operations names '{name}'{did_you_mean(name, known)}: {', '.join(known)}")
        bounds = (0, 1) if name == CUTOUT else OPERATIONS[name].bounds
        if bounds is None and limits is not None:
            raise ValueError(f"operations.{name}={limits}: it takes no magnitude, give null")
        if bounds is not None and not (
            limits is not None and len(limits) == 2 and bounds[0] <= limits[0] <= limits[1] <= bounds[1]
        ):
            raise ValueError(
                f"operations.{name}={limits}: give the least and the greatest magnitude, within {bounds}"
            )


@final
class RandomOperations:
    """Applies some operations to each image, one after the other, then cuts a square out.

    With ``num_ops=2`` and ``probability=0.5`` it is RandAugment as FixMatch has it (arXiv:2001.07685, section
    2.3, and the authors' code); with ``num_ops=1`` and ``probability=1``, TrivialAugment (arXiv:2103.10158).
    An operation is drawn for each image and slot, each as likely as any other, with a magnitude uniform in
    its range, within the limits of the data set.

    Deviations: magnitudes are continuous where the code draws levels of a scale of 10. The draws of a batch
    are balanced: each operation gets the same number of its images, or one more, so that its share is known
    without a look at the draws; the chance of each image is the same as with independent draws. What is moved
    out of view, or cut out, becomes the data set's mean, as in the authors' code.

    Args:
        ranges: whose magnitudes: a key of `RANGES`.
        num_ops: operations for each image, not negative.
        probability: of each, in [0, 1]; otherwise the image stays as it is.
        cutout: side of the square, as a share of the shorter side, in [0, 1]; 0 for none. Its centre may lie
            anywhere in the image.
        operations: names of those that are drawn from; None for all that the data set lists.

    Raises:
        ValueError: an argument is out of range, or an operation does not exist.
    """

    def __init__(
        self,
        ranges: str,
        num_ops: int,
        probability: float,
        cutout: float,
        operations: Sequence[str] | None = None,
    ) -> None:
        check_choice(RANGES, ranges=ranges)
        check_not_negative(num_ops=num_ops)
        check_probability(probability=probability, cutout=cutout)
        for name in operations or ():
            if name not in OPERATIONS:
                raise ValueError(
                    f"operations names '{name}'{did_you_mean(name, OPERATIONS)}: {', '.join(OPERATIONS)}"
                )
        self._ranges, self._num_ops, self._probability = RANGES[ranges], num_ops, probability
        self._cutout, self._operations = cutout, operations

    def within(self, limits: Mapping[str, Sequence[float] | None]) -> "BoundOperations":
        """The same for a data set, of which `limits` lists the operations that keep its labels true.

        Raises:
            ValueError: an operation was asked for that is not listed, or none is left.
        """
        for name in self._operations or ():
            if name not in limits:
                raise ValueError(
                    f"the operation '{name}' is not among dataset.images.operations, which keep the labels "
                    f"of this data set true: {', '.join(limits)}"
                )
        listed = limits if self._operations is None else self._operations
        names = [name for name in OPERATIONS if name in listed]
        if self._num_ops and not names:
            raise ValueError("dataset.images.operations lists no operation: add some, or set num_ops=0")
        ranges: dict[str, tuple[float, float]] = {}
        for name in names:
            least, greatest = limits[name] or (0, 0)
            low, high = self._ranges.get(name, (0, 0))
            ranges[name] = (min(max(low, least), greatest), max(min(high, greatest), least))
        cutout = min(self._cutout, (limits.get(CUTOUT) or (0, 0))[1])
        return BoundOperations(ranges, self._num_ops, self._probability, cutout)


@final
class BoundOperations:
    """`RandomOperations` for one data set.

    Args:
        ranges: of each operation, the least and the greatest magnitude.
        num_ops: operations for each image.
        probability: of each.
        cutout: side of the square, as a share of the shorter side.
    """

    def __init__(
        self, ranges: Mapping[str, tuple[float, float]], num_ops: int, probability: float, cutout: float
    ) -> None:
        self.ranges, self._num_ops = ranges, num_ops
        self._probability, self._cutout = probability, cutout

    def __call__(self, images: Tensor, fill: Tensor, generator: torch.Generator) -> Tensor:
        """Augment `images`, uint8 ``[B, H, W, C]``, in place and as the result.

        `fill` is the pixel ``[C]`` of what is out of view. `generator`, of the images' device, is advanced by
        a fixed amount for a given batch size. Never waits for the device.
        """
        count, device = len(images), images.device
        for _ in range(self._num_ops if self._probability else 0):
            draw = torch.rand(3, count, device=device, generator=generator)
            self._apply_one_each(images, fill, draw[0].argsort(), draw[1], draw[2, 0])
        if self._cutout:
            return self._cut_out(images, fill, torch.rand(2, count, device=device, generator=generator))
        return images

    def _apply_one_each(
        self, images: Tensor, fill: Tensor, order: Tensor, magnitude: Tensor, offset: Tensor
    ) -> None:
        """Apply to each image one operation or none.

        `order` is a random permutation of the images ``[B]``. Along it, each operation has a stretch of
        `width` images, the first of which begins at minus `offset`, in [0, 1).
        """
        count, device = len(images), images.device
        width = self._probability * count / len(self.ranges)
        most = math.ceil(width)
        starts = torch.arange(len(self.ranges) + 1, device=device, dtype=torch.float64) * width - offset
        starts = starts.ceil().long()
        stretch = torch.arange(most, device=device)
        for position, (name, (low, high)) in enumerate(self.ranges.items()):
            place = starts[position] + stretch
            chosen = order[place % count]
            if name == "posterize":  # a number of bits, each as likely as any other
                amount = torch.floor(low + magnitude[chosen] * (high - low + 1)).clamp(max=high)
            else:
                amount = low + magnitude[chosen] * (high - low)
            before = images.index_select(0, chosen)
            after = OPERATIONS[name].apply(before, amount, fill)
            # Stretches differ by one image: the last one here may belong to the next operation.
            own = place[-1] < starts[position + 1]
            images.index_copy_(0, chosen[:-1], after[:-1])
            images.index_copy_(0, chosen[-1:], torch.where(own, after[-1:], before[-1:]))

    def _cut_out(self, images: Tensor, fill: Tensor, centre: Tensor) -> Tensor:
        """Fill a square about a uniformly drawn `centre` ``[2, B]``, in [0, 1), cut off at the borders."""
        height, width = images.shape[1:3]
        side = round(self._cutout * min(height, width))
        square = torch.arange(side, device=images.device) - side // 2
        rows, columns = (
            ((centres * size).long()[:, None] + square).clamp(0, size - 1)  # which the square reaches
            for centres, size in zip(centre, (height, width), strict=True)
        )
        samples = torch.arange(len(images), device=images.device)[:, None, None]
        images[samples, rows[:, :, None], columns[:, None, :]] = fill
        return images

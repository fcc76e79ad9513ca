"""Images on the training device, and the views of them that networks see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslbench.checks import check_choice, check_not_negative
from sslbench.core import View
from sslbench.data.strong import check_operations
from sslbench.data.zca import GcnZca

AUGMENTATIONS = ("crop", "flip", "noise")
PREPROCESSING = ("none", "gcn_zca")


@final
class ImageTransform:
    """How images become network inputs: the section ``images`` of a data set's config.

    The input is ``(pixel / 255 - mean) / std``. The weak view adds, each drawn per sample: a random crop
    after reflect padding, a horizontal flip with probability one half, and Gaussian noise.

    Args:
        mean: per channel, or one for all, in units of pixel / 255.
        std: likewise, above 0.
        valid: the augmentations that keep this data's labels true, of crop, flip and noise.
        crop: padding in pixels before the random crop; 0 switches it off.
        flip: whether the weak view flips.
        noise: standard deviation of the noise, in units of the normalised input; 0 switches it off.
        preprocess: ``none``, or ``gcn_zca``: global contrast normalisation and ZCA whitening fitted on the
            training images (arXiv:1804.09170, section 4.1), in place of mean and std.
        operations: those of strong views that keep this data's labels true, each with its least and greatest
            magnitude, or None where it takes none; see `sslbench.data.operations`.

    Raises:
        ValueError: a value is out of range, or an augmentation is on that is not valid for the data.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        valid: Sequence[str],
        crop: int = 0,
        flip: bool = False,
        noise: float = 0.0,
        preprocess: str = "none",
        operations: Mapping[str, Sequence[float] | None] | None = None,
    ) -> None:
        for name in valid:
            if name not in AUGMENTATIONS:
                raise ValueError(f"valid names '{name}': choose from {', '.join(AUGMENTATIONS)}")
        check_not_negative(crop=crop, noise=noise)
        for name, value in (("crop", crop), ("flip", flip), ("noise", noise)):
            if value and name not in valid:
                raise ValueError(
                    f"{name}={value} is not a valid augmentation of this data set "
                    f"(valid: {', '.join(valid) or 'none'}): leave it off"
                )
        if not std or min(std) <= 0:
            raise ValueError(f"std={list(std)} must be above 0")
        check_choice(PREPROCESSING, preprocess=preprocess)
        self.operations = operations or {}
        check_operations(self.operations)
        self.mean, self.std = tuple(mean), tuple(std)
        self.crop, self.flip, self.noise, self.preprocess = crop, flip, noise, preprocess

    def range(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The inputs for black and for white pixels, one number for each channel; empty with whitening."""
        if self.preprocess != "none":
            return (), ()
        means = self.mean * (channels // len(self.mean))
        stds = self.std * (channels // len(self.std))
        return (
            tuple(-mean / std for mean, std in zip(means, stds, strict=True)),
            tuple((1 - mean) / std for mean, std in zip(means, stds, strict=True)),
        )

    @property
    def is_random(self) -> bool:
        """Whether two weak views of an image can differ."""
        return bool(self.crop or self.flip or self.noise)


@final
class DeviceImages:
    """A whole set of images on the training device, cut into views there, with a draw per sample.

    Kept as ``[N, H + 2p, W + 2p, C]``, reflect-padded once for the crop: uint8, or float32 where they were
    whitened. Crop, flip and gather are one indexed read, which comes out channels_last.

    Attributes:
        height: pixels.
        width: pixels.

    Args:
        images: uint8 or float32 ``[N, H, W, C]``; float32 is taken as normalised already.
        transform: normalisation and augmentation.
        device: where the images live.
        padded: whether to keep the padding that weak views need; evaluation sets go without.

    Raises:
        ValueError: the crop's padding, or the number of means, does not fit the images.
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | NDArray[np.float32],
        transform: ImageTransform,
        device: torch.device,
        padded: bool = True,
    ) -> None:
        _, self.height, self.width, channels = images.shape
        self.device = device
        if transform.crop >= min(self.height, self.width):
            raise ValueError(
                f"crop={transform.crop} must be smaller than the {self.height}x{self.width} images"
            )
        for name, values in (("mean", transform.mean), ("std", transform.std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"{name} has {len(values)} numbers, the images have {channels} channel(s): "
                    f"give one for each, or one for all"
                )
        self._pad = transform.crop if padded else 0
        self.transform = transform
        if self._pad:
            border = (self._pad, self._pad)
            stored: NDArray[Any] = np.pad(images, ((0, 0), border, border, (0, 0)), "reflect")
        else:
            stored = np.ascontiguousarray(images)
        self._store = torch.from_numpy(stored).to(device)
        if images.dtype == np.uint8:
            std = torch.tensor(transform.std, dtype=torch.float64)
            mean = torch.tensor(transform.mean, dtype=torch.float64)
            self._scale = (1 / (255 * std)).float().to(device)
            self._shift = (-mean / std).float().to(device)
        else:
            self._scale, self._shift = torch.ones(1, device=device), torch.zeros(1, device=device)
        self._rows = torch.arange(self.height, device=device)
        self._columns = torch.arange(self.width, device=device)
        means = transform.mean * (channels // len(transform.mean))
        self._fill = torch.tensor([round(255 * mean) for mean in means], dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return len(self._store)

    def _normalise(self, pixels: Tensor) -> Tensor:
        """``[B, H, W, C]`` as kept -> float32 ``[B, C, H, W]``, channels_last."""
        return torch.addcmul(self._shift, pixels.float(), self._scale).permute(0, 3, 1, 2)

    def pixels(self, view: Tensor) -> Tensor:
        """The inverse of normalisation: ``[B, C, H, W]`` -> uint8 ``[B, H, W, C]``.

        Whitened images have no inverse here: they are stretched to the range of pixels.
        """
        values = (view.permute(0, 2, 3, 1) - self._shift) / self._scale
        if self._store.dtype != torch.uint8:
            low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
            values = (values - low) * (255 / (high - low))
        return values.round().clamp(0, 255).to(torch.uint8)

    def clean(self, index: Tensor) -> Tensor:
        """The images at `index` ``[B]`` as evaluation sees them: float32 ``[B, C, H, W]``."""
        pad = self._pad
        return self._normalise(self._store[index, pad : pad + self.height, pad : pad + self.width])

    def _cropped(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """The images at `index` as kept, randomly cropped and flipped: ``[B, H, W, C]``, a new tensor."""
        count, device = len(index), self._store.device
        rows, columns = self._rows.expand(count, -1), self._columns.expand(count, -1)
        if self.transform.flip:
            flipped = torch.rand(count, 1, device=device, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        if self._pad:
            places = 2 * self._pad + 1
            offset = torch.randint(0, places, (2, count, 1), device=device, generator=generator)
            rows, columns = rows + offset[0], columns + offset[1]
        # Pixel by pixel out of one long row of them: a third of the time of three indices.
        _, height, width, channels = self._store.shape
        place = ((index[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
        pixels = self._store.view(-1, channels).index_select(0, place.flatten())
        return pixels.view(count, self.height, self.width, channels)

    def _with_noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.transform.noise:
            return images
        count, channels, height, width = images.shape
        noise = torch.randn(count, height, width, channels, device=images.device, generator=generator)
        return images.add(noise.permute(0, 3, 1, 2), alpha=self.transform.noise)

    def weak(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """A randomly augmented view of the images at `index` ``[B]``: float32 ``[B, C, H, W]``.

        `generator`, of the images' device, is advanced by a fixed amount for a given batch size.
        """
        if self._pad or self.transform.flip:
            images = self._normalise(self._cropped(index, generator))
        else:
            images = self.clean(index)
        return self._with_noise(images, generator)

    def view(self, view: View, index: Tensor, generator: torch.Generator) -> Tensor:
        """The images at `index` ``[B]`` as `view` shows them: float32 ``[B, C, H, W]``; see `weak`."""
        if view == "clean":
            return self.clean(index)
        if isinstance(view, str):
            return self.weak(index, generator)
        augment = view.within(self.transform.operations)
        pixels = augment(self._cropped(index, generator), self._fill, generator)
        return self._with_noise(self._normalise(pixels), generator)


@final
@dataclass(frozen=True, eq=False)
class FittedTransform:
    """How the uint8 images of a run become model inputs, with what was fitted on its training images.

    Attributes:
        images: normalisation and augmentation.
        whitening: fitted on the training images; None where `images` asks for none.
        device: where the inputs live.
    """

    images: ImageTransform
    whitening: GcnZca | None
    device: torch.device

    def store(self, images: NDArray[np.uint8], padded: bool = False) -> DeviceImages:
        """Images, uint8 ``[N, H, W, C]``, on the device; see `DeviceImages`."""
        whitened = self.whitening.apply(images) if self.whitening else images
        return DeviceImages(whitened, self.images, self.device, padded)

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """Images, uint8 ``[N, H, W, C]``, as evaluation sees them: float32 ``[N, C, H, W]``."""
        return self.store(images).clean(torch.arange(len(images), device=self.device))

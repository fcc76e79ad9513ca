from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.seeding import stream

CPU = torch.device("cpu")
MEAN, STD = (0.1, 0.45, 0.7), (0.2, 0.3, 0.9)
ALL = ("crop", "flip", "noise")


def some_images(count: int = 6, height: int = 5, width: int = 7, channels: int = 3) -> NDArray[np.uint8]:
    """Not square, so that rows taken for columns show; noise, so that no two crops are alike."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def transform_with(**arguments: Any) -> ImageTransform:
    return ImageTransform(**{"mean": MEAN, "std": STD, "valid": ALL, **arguments})


def chance(seed: int = 0) -> torch.Generator:
    return stream(seed, "augmentation/labelled")


def by_definition(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """``[N, H, W, C]`` pixels -> normalised ``[N, C, H, W]``, in float64."""
    values: NDArray[np.float64] = (images.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    return values.transpose(0, 3, 1, 2)


def pixels(view: Tensor) -> NDArray[np.uint8]:
    """The inverse: normalised ``[B, C, H, W]`` -> ``[B, H, W, C]`` pixels, exact."""
    values = (view.permute(0, 2, 3, 1).double().numpy() * np.array(STD) + np.array(MEAN)) * 255
    assert np.abs(values - values.round()).max() < 1e-3
    exact: NDArray[np.uint8] = values.round().astype(np.uint8)
    return exact


def reflected(place: int, size: int) -> int:
    """The position within 0..size-1 that `place` shows when the border is a mirror."""
    if place < 0:
        return -place
    return place if place < size else 2 * (size - 1) - place


def possible_crops(image: NDArray[np.uint8], pad: int, flips: bool) -> dict[bytes, tuple[bool, int, int]]:
    """Every result of reflect padding, cropping and flipping, pixel by pixel; ``(flipped, down, right)``."""
    height, width, _ = image.shape
    found: dict[bytes, tuple[bool, int, int]] = {}
    for flip in (False, True) if flips else (False,):
        for down in range(-pad, pad + 1):
            for right in range(-pad, pad + 1):
                rows = [reflected(row + down, height) for row in range(height)]
                columns = [reflected(column + right, width) for column in range(width)]
                crop = image[rows][:, columns[::-1] if flip else columns]
                found[np.ascontiguousarray(crop).tobytes()] = (flip, down, right)
    return found


def outcomes(view: Tensor, images: NDArray[np.uint8], pad: int, flips: bool) -> list[tuple[bool, int, int]]:
    """Which crop each sample of `view` is, of the image of the same position; KeyError if it is none."""
    different = {image.tobytes(): image for image in images}
    tables = {key: possible_crops(image, pad, flips) for key, image in different.items()}
    return [tables[image.tobytes()][crop.tobytes()] for image, crop in zip(images, pixels(view), strict=True)]


@pytest.mark.parametrize("crop", [0, 2])
def test_clean_is_the_definition(crop: int) -> None:
    images = some_images()
    index = torch.tensor([5, 0, 0, 3])
    view = DeviceImages(images, transform_with(crop=crop), CPU).clean(index)
    assert view.shape == (4, 3, 5, 7)
    assert view.dtype == torch.float32
    assert view.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(view.numpy(), by_definition(images[index]), rtol=1e-6, atol=1e-6)


def test_one_mean_for_all_channels() -> None:
    images = some_images()
    view = DeviceImages(images, transform_with(mean=[0.5], std=[0.25]), CPU).clean(torch.arange(6))
    expected = (images.astype(np.float64) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(view.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-6, atol=1e-6)


def test_grey_images() -> None:
    images = some_images(channels=1)
    device_images = DeviceImages(images, transform_with(mean=[0.0], std=[1.0], crop=1), CPU)
    assert len(device_images) == 6
    assert device_images.weak(torch.arange(6), chance()).shape == (6, 1, 5, 7)
    expected = images.transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(device_images.clean(torch.arange(6)).numpy(), expected, atol=1e-7)


def test_clean_is_the_same_bits_with_and_without_padding() -> None:
    transform, images, index = transform_with(crop=3, flip=True), some_images(), torch.tensor([2, 4, 1])
    padded = DeviceImages(images, transform, CPU).clean(index)
    unpadded = DeviceImages(images, transform, CPU, padded=False).clean(index)
    assert torch.equal(padded, unpadded)


@pytest.mark.parametrize(("crop", "flip"), [(2, True), (2, False), (4, True), (0, True)])
def test_weak_is_one_of_the_possible_crops_drawn_for_each_sample(crop: int, flip: bool) -> None:
    images = some_images()
    index = torch.arange(6).repeat(100)
    view = DeviceImages(images, transform_with(crop=crop, flip=flip), CPU).weak(index, chance())
    assert view.is_contiguous(memory_format=torch.channels_last)
    drawn = outcomes(view, images[index.numpy()], crop, flip)
    possible = (2 * crop + 1) ** 2 * (2 if flip else 1)
    # The known trap is one draw for the whole batch.
    assert len(set(drawn)) >= min(possible, 90)
    assert {flipped for flipped, _, _ in drawn} == ({False, True} if flip else {False})
    assert max(abs(place) for _, *places in drawn for place in places) == crop


def test_crops_and_flips_are_uniform_and_independent() -> None:
    images = some_images(1)
    index = torch.zeros(5000, dtype=torch.int64)
    view = DeviceImages(images, transform_with(crop=2, flip=True), CPU).weak(index, chance())
    table = possible_crops(images[0], 2, True)
    counts = Counter(table[crop.tobytes()] for crop in pixels(view))
    assert len(counts) == 50
    # 100 expected of each of 50 outcomes, with a standard deviation of 9.9.
    assert 60 < min(counts.values()) <= max(counts.values()) < 140
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 49 + 5 * (2 * 49) ** 0.5


def test_possible_views_are_those_of_torchvision() -> None:
    from torchvision.transforms import v2

    image = some_images(1)
    reference = v2.Compose(
        [v2.RandomCrop((5, 7), padding=2, padding_mode="reflect"), v2.RandomHorizontalFlip()]
    )
    source = torch.from_numpy(image[0]).permute(2, 0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = {reference(source).permute(1, 2, 0).numpy().tobytes() for _ in range(1000)}
    index = torch.zeros(1000, dtype=torch.int64)
    view = DeviceImages(image, transform_with(crop=2, flip=True), CPU).weak(index, chance())
    assert {crop.tobytes() for crop in pixels(view)} == theirs
    assert len(theirs) == 50


def test_two_draws_differ_and_the_same_state_gives_the_same_view() -> None:
    images = DeviceImages(some_images(), transform_with(crop=2, flip=True, noise=0.1), CPU)
    index = torch.arange(6)
    generator = chance()
    first, second = images.weak(index, generator), images.weak(index, generator)
    assert not torch.equal(first, second)
    again = chance()
    assert torch.equal(images.weak(index, again), first)
    assert torch.equal(images.weak(index, again), second)
    assert not torch.equal(images.weak(index, chance(seed=1)), first)


def test_the_generator_moves_on_by_the_batch_size_alone() -> None:
    images = DeviceImages(some_images(), transform_with(crop=2, flip=True, noise=0.1), CPU)
    one, other = chance(), chance()
    images.weak(torch.tensor([0, 1, 2]), one)
    images.weak(torch.tensor([5, 5, 5]), other)
    assert torch.equal(one.get_state(), other.get_state())


def test_only_the_given_generator_is_used_and_the_images_stay() -> None:
    images = DeviceImages(some_images(), transform_with(crop=2, flip=True, noise=0.5), CPU)
    index = torch.arange(6)
    clean, before = images.clean(index), torch.get_rng_state()
    images.weak(index, chance()).zero_()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images.clean(index), clean)


@pytest.mark.parametrize("geometry", [{}, {"crop": 2}, {"flip": True}])
def test_noise_has_its_standard_deviation(geometry: dict[str, Any]) -> None:
    index = torch.arange(6).repeat(100)
    quiet = DeviceImages(some_images(), transform_with(**geometry), CPU).weak(index, chance())
    noisy = DeviceImages(some_images(), transform_with(noise=0.3, **geometry), CPU).weak(index, chance())
    assert noisy.is_contiguous(memory_format=torch.channels_last)
    noise = (noisy - quiet).double()  # geometry is drawn first, so it is the same in both
    assert noise.numel() == 63_000
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std(dim=0).min() > 0.2, "the noise is shared by samples"
    assert noise.flatten(1).std(dim=1).min() > 0.15, "the noise is shared by pixels"


def test_no_augmentation_gives_the_clean_view() -> None:
    images = DeviceImages(some_images(), transform_with(), CPU)
    index, generator = torch.tensor([3, 1]), chance()
    before = generator.get_state()
    assert torch.equal(images.weak(index, generator), images.clean(index))
    assert torch.equal(generator.get_state(), before)


def test_whitened_images_pass_unscaled() -> None:
    whitened = np.random.default_rng(0).normal(size=(4, 5, 7, 3)).astype(np.float32)
    images = DeviceImages(whitened, transform_with(crop=1, preprocess="gcn_zca"), CPU)
    index = torch.arange(4)
    np.testing.assert_array_equal(images.clean(index).numpy(), whitened.transpose(0, 3, 1, 2))
    view = images.weak(index, chance()).permute(0, 2, 3, 1).numpy()
    padded = np.pad(whitened, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    for sample, image in zip(view, padded, strict=True):
        crops = [image[i : i + 5, j : j + 7] for i in range(3) for j in range(3)]
        assert any(np.array_equal(sample, crop) for crop in crops)


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [(1, [0.1307], [0.3081]), (3, [0.5], [0.25]), (3, MEAN, STD), (3, [0.5], STD)],
)
def test_range_is_what_black_and_white_pixels_become(
    channels: int, mean: list[float], std: list[float]
) -> None:
    transform = transform_with(mean=mean, std=std)
    extremes = np.stack([np.full((2, 2, channels), pixel, dtype=np.uint8) for pixel in (0, 255)])
    views = DeviceImages(extremes, transform, CPU).clean(torch.arange(2))
    for bounds, view in zip(transform.range(channels), views, strict=True):
        assert bounds == pytest.approx(view[:, 0, 0].tolist(), rel=1e-5)


def test_whitened_images_have_no_range() -> None:
    assert transform_with(preprocess="gcn_zca").range(3) == ((), ())


@pytest.mark.parametrize(
    ("arguments", "random"),
    [({}, False), ({"crop": 1}, True), ({"flip": True}, True), ({"noise": 0.1}, True)],
)
def test_is_random(arguments: dict[str, Any], random: bool) -> None:
    transform = transform_with(**arguments)
    assert transform.is_random is random
    images, index, generator = DeviceImages(some_images(), transform, CPU), torch.arange(6), chance()
    views = [images.weak(index, generator) for _ in range(5)]
    assert any(not torch.equal(view, views[0]) for view in views) is random


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"valid": ["crop", "rotate"]}, r"valid names 'rotate': choose from crop, flip, noise"),
        ({"crop": -1}, r"crop=-1 must not be negative"),
        ({"noise": -0.5}, r"noise=-0.5 must not be negative"),
        ({"valid": ["crop", "noise"], "flip": True}, r"flip=True is not a valid augmentation.*crop, noise"),
        ({"valid": ["flip"], "crop": 2}, r"crop=2 is not a valid augmentation"),
        ({"valid": [], "noise": 0.1}, r"noise=0.1 is not a valid augmentation.*valid: none"),
        ({"std": []}, r"std=\[\] must be above 0"),
        ({"std": [0.5, 0.0, 0.5]}, r"std=\[0.5, 0.0, 0.5\] must be above 0"),
        ({"preprocess": "zca"}, r"preprocess=zca: choose from none, gcn_zca"),
    ],
)
def test_a_transform_that_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform_with(**arguments)


def test_what_is_off_need_not_be_valid() -> None:
    assert not transform_with(valid=[], crop=0, flip=False, noise=0.0).is_random


def test_crop_must_be_smaller_than_the_images() -> None:
    DeviceImages(some_images(), transform_with(crop=4), CPU)
    with pytest.raises(ValueError, match=r"crop=5 must be smaller than the 5x7 images"):
        DeviceImages(some_images(), transform_with(crop=5), CPU)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_as_many_numbers_as_channels_or_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has 2 numbers, the images have 3 channel"):
        DeviceImages(some_images(), transform_with(**{name: [0.5, 0.5]}), CPU)


def test_a_strong_view_is_a_weak_one_with_operations_on_its_pixels() -> None:
    images = some_images()
    stored = DeviceImages(images, transform_with(crop=2, flip=True, operations={"rotate": [0, 90]}), CPU)
    index = torch.tensor([0, 5, 3])
    seen: list[Tensor] = []

    class Inverted:
        def within(self, limits: Any) -> Any:
            assert limits == {"rotate": [0, 90]}

            def invert(pixels: Tensor, fill: Tensor, generator: torch.Generator) -> Tensor:
                assert fill.tolist() == [26, 115, 178]  # the means, as pixels
                seen.append(pixels.clone())
                return 255 - pixels

            return invert

    strong = stored.view(Inverted(), index, chance())
    assert torch.equal(torch.from_numpy(pixels(stored.weak(index, chance()))), seen[0])
    np.testing.assert_array_equal(pixels(strong), 255 - seen[0].numpy())
    assert torch.equal(stored.view("weak", index, chance()), stored.weak(index, chance()))
    assert torch.equal(stored.view("clean", index, chance()), stored.clean(index))


def test_pixels_are_the_inverse_of_normalisation() -> None:
    images = some_images()
    stored = DeviceImages(images, transform_with(crop=1), CPU)
    np.testing.assert_array_equal(stored.pixels(stored.clean(torch.arange(6))).numpy(), images)
    whitened = DeviceImages(images.astype(np.float32) / 9 - 4, transform_with(), CPU)
    shown = whitened.pixels(whitened.clean(torch.arange(6)))
    assert shown.amin() == 0
    assert shown.amax() == 255

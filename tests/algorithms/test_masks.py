from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import erfinv

from sslbench.algorithms.masks import BoxMasks, CowMasks, inside

CPU = torch.device("cpu")


def test_pixels_inside_a_box() -> None:
    rows = torch.tensor([0.0, 1.2]), torch.tensor([2.0, 3.4])
    columns = torch.tensor([0.6, -1.0]), torch.tensor([1.4, 9.0])
    found = inside(rows, columns, 4, 3)[:, 0]
    expected = torch.zeros(2, 4, 3, dtype=torch.bool)
    expected[1, 1:3] = True  # centres at 1.5 and 2.5; no centre lies between 0.6 and 1.4
    assert torch.equal(found, expected)


def test_boxes_are_those_of_the_authors_code() -> None:
    """Area, ratio of sides and place from uniform draws, with the formulas of the code in numpy."""
    count, height, width = 50, 12, 20
    torch.manual_seed(0)
    area, shape, row, column = torch.rand(4, count).double().numpy()
    ratio = np.exp((2 * shape - 1) * np.log(area))
    tall, wide = height * np.sqrt(area) * np.sqrt(ratio), width * np.sqrt(area) / np.sqrt(ratio)
    top, left = row * (height - tall), column * (width - wide)
    torch.manual_seed(0)
    found = BoxMasks()(count, height, width, CPU).numpy()
    assert found.shape == (count, 1, height, width)
    for number in range(count):
        y, x = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
        tall_enough = (y >= top[number]) & (y <= top[number] + tall[number])
        wide_enough = (x >= left[number]) & (x <= left[number] + wide[number])
        assert np.array_equal(found[number, 0], tall_enough & wide_enough)


def test_the_area_of_boxes_is_uniform() -> None:
    torch.manual_seed(1)
    shares = BoxMasks()(4000, 32, 32, CPU).float().mean(dim=(1, 2, 3))
    quantiles = torch.quantile(shares, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.5, 0.9]), rtol=0, atol=0.03)


def cow(smoothing: tuple[float, float], partner: tuple[float, float]) -> CowMasks:
    return CowMasks(smoothing, partner)


def test_cow_masks_are_smoothed_noise_above_a_threshold() -> None:
    count, height, width = 20, 9, 14
    masks = cow((0.1, 0.4), (0.2, 0.8))
    torch.manual_seed(0)
    draw = torch.rand(2, count, 1, 1).double().numpy()
    noise = torch.randn(count, height, width).double().numpy()
    torch.manual_seed(0)
    found = masks(count, height, width, CPU).numpy()
    assert found.shape == (count, 1, height, width)
    for number in range(count):
        sigma = 0.1 * height * 4 ** draw[0, number, 0, 0]
        share = 0.2 + 0.6 * draw[1, number, 0, 0]
        smooth = gaussian_filter(noise[number], sigma, mode="constant", truncate=50 / sigma)
        threshold = smooth.mean() + math.sqrt(2) * erfinv(2 * share - 1) * smooth.std()
        sure = np.abs(smooth - threshold) > 1e-4 * smooth.std()  # float32 rounds
        assert sure.mean() > 0.95
        assert np.array_equal(found[number, 0][sure], (smooth > threshold)[sure])


def test_the_partner_has_about_its_share() -> None:
    torch.manual_seed(0)
    for share in (0.2, 0.5, 0.8):
        masks = cow((0.125, 0.125), (share, share))(500, 32, 32, CPU)
        assert 1 - masks.float().mean().item() == pytest.approx(share, abs=0.03)


def test_smoother_masks_have_fewer_borders() -> None:
    def borders(smoothing: float) -> float:
        torch.manual_seed(0)
        masks = cow((smoothing, smoothing), (0.5, 0.5))(100, 32, 32, CPU)
        return (masks[..., 1:] != masks[..., :-1]).float().mean().item()

    assert borders(0.05) > 1.5 * borders(0.125) > 2.25 * borders(0.5)


def test_images_have_masks_of_their_own_and_of_their_own_smoothing() -> None:
    torch.manual_seed(0)
    for masks in (BoxMasks(), cow((0.05, 0.5), (0.2, 0.8))):
        found = masks(30, 16, 16, CPU).flatten(1)
        assert len(torch.unique(found, dim=0)) > 25
        assert found.dtype == torch.bool


def test_masks_are_not_rounded_under_autocast() -> None:
    masks = cow((0.1, 0.4), (0.2, 0.8))
    torch.manual_seed(0)
    expected = masks(20, 16, 16, CPU)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(masks(20, 16, 16, CPU), expected)


@pytest.mark.parametrize(
    ("smoothing", "partner", "message"),
    [
        ((0.0, 0.5), (0.2, 0.8), "smoothing="),
        ((0.5, 0.1), (0.2, 0.8), "smoothing="),
        ((0.5,), (0.2, 0.8), "smoothing="),
        ((0.1, 0.5), (0.0, 0.8), "partner="),
        ((0.1, 0.5), (0.2, 1.0), "partner="),
        ((0.1, 0.5), (0.8, 0.2), "partner="),
    ],
)
def test_ranges_are_checked(smoothing: tuple[float, ...], partner: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CowMasks(smoothing, partner)

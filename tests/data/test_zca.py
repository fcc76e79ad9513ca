from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sslbench.data import zca


def smooth_images(count: int, seed: int) -> NDArray[np.uint8]:
    """Random images whose neighbouring pixels correlate, as in photographs; ``[count, 6, 5, 3]``."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, 6, 5, 3))
    smooth = noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2) + noise.mean(axis=3, keepdims=True)
    return np.clip(128 + 30 * smooth, 0, 255).astype(np.uint8)


def by_definition(train: NDArray[np.uint8], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The formula of the module, written in the plainest way."""

    def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        return 55 * flat / np.linalg.norm(flat, axis=1, keepdims=True)

    base = normalise(train)
    left, values, _ = np.linalg.svd(np.cov(base, rowvar=False))
    whiten = left @ np.diag(1 / np.sqrt(values + 0.1)) @ left.T
    return ((normalise(images) - base.mean(axis=0)) @ whiten).reshape(images.shape)


def test_it_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zca, "_CHUNK", 37)  # divides neither count
    train, test = smooth_images(500, seed=0), smooth_images(50, seed=1)
    fitted = zca.fit(train)
    for images in (train, test):
        white = fitted.apply(images)
        assert white.dtype == np.float32
        np.testing.assert_allclose(white, by_definition(train, images), atol=1e-4)


def test_whitened_pixels_are_uncorrelated_with_variance_one() -> None:
    train = smooth_images(4000, seed=0)
    size = train[0].size
    before = np.cov(train.reshape(-1, size), rowvar=False)
    after = np.cov(zca.fit(train, bias=1e-4).apply(train).reshape(-1, size), rowvar=False)
    # Contrast normalisation takes the direction of constant images out; all others get variance 1.
    identity = np.eye(size) - 1 / size
    assert np.abs(before / before.max() - identity).max() > 0.3
    np.testing.assert_allclose(after, identity, atol=2e-3)


def test_brightness_and_contrast_are_taken_out() -> None:
    train = smooth_images(200, seed=0) // 4
    fitted = zca.fit(train)
    np.testing.assert_allclose(fitted.apply(3 * train + 20), fitted.apply(train), atol=1e-4)


def test_flat_images_stay_finite() -> None:
    train = smooth_images(100, seed=0)
    train[0] = 77
    white = zca.fit(train).apply(train)
    assert np.isfinite(white).all()


def test_repeating_gives_the_same_bits() -> None:
    train = smooth_images(300, seed=0)
    np.testing.assert_array_equal(zca.fit(train).apply(train), zca.fit(train).apply(train))


def test_fewer_images_than_pixels() -> None:
    train = smooth_images(20, seed=0)
    assert np.isfinite(zca.fit(train).apply(train)).all()

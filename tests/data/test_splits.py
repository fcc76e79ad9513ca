from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sslbench.data.splits import Split, make_split
from sslbench.errors import UserError


def some_targets(count: int = 300, num_classes: int = 5) -> NDArray[np.int64]:
    """Labels in an order without a pattern, classes of unequal size."""
    return np.random.default_rng(0).choice(num_classes, count, p=[0.4, 0.3, 0.1, 0.1, 0.1])


def same(one: Split, other: Split) -> bool:
    return all(
        np.array_equal(getattr(one, part), getattr(other, part))
        for part in ("labelled", "valid", "unlabelled")
    )


def test_labelled_images_are_balanced() -> None:
    targets = some_targets()
    split = make_split(targets, 5, 20, 100, split_seed=3)
    assert np.bincount(targets[split.labelled]).tolist() == [4, 4, 4, 4, 4]


def test_validation_is_disjoint_and_drawn_without_regard_to_class() -> None:
    targets = some_targets()
    split = make_split(targets, 5, 20, 100, split_seed=3)
    assert len(split.valid) == 100
    assert not np.intersect1d(split.valid, split.unlabelled).size
    assert not np.intersect1d(split.valid, split.labelled).size
    # Balanced validation would have 20 of each; class 0 is 40% of the data.
    assert np.bincount(targets[split.valid])[0] > 30


@pytest.mark.parametrize("among", [True, False])
def test_union_covers_every_image(among: bool) -> None:
    split = make_split(some_targets(), 5, 20, 100, 3, labelled_in_unlabelled=among)
    parts = (split.labelled, split.valid, split.unlabelled)
    assert np.array_equal(np.unique(np.concatenate(parts)), np.arange(300))
    assert len(split.unlabelled) == (200 if among else 180)
    assert len(np.intersect1d(split.labelled, split.unlabelled)) == (20 if among else 0)


def test_positions_are_int64_and_sorted() -> None:
    split = make_split(some_targets().astype(np.int64), 5, 20, 100, 3)
    for part in (split.labelled, split.valid, split.unlabelled):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def test_a_pure_function_of_the_split_seed() -> None:
    targets = some_targets()
    np.random.seed(1)  # noqa: NPY002 - the global stream must not matter
    first = make_split(targets, 5, 20, 100, 3)
    np.random.seed(2)  # noqa: NPY002
    second = make_split(targets, 5, 20, 100, 3)
    assert same(first, second)
    assert first.digest == second.digest
    other = make_split(targets, 5, 20, 100, 4)
    assert not np.array_equal(first.labelled, other.labelled)
    assert not np.array_equal(first.valid, other.valid)
    assert first.digest != other.digest


def test_the_split_is_equal_on_every_machine() -> None:
    # Written down once. If this fails, published split hashes no longer mean what they meant.
    split = make_split(np.arange(30) % 3, 3, 6, 5, split_seed=7)
    assert split.labelled.tolist() == [1, 2, 9, 13, 17, 18]
    assert split.valid.tolist() == [3, 4, 15, 22, 25]
    assert split.digest == "a991218907a0df5c6c6a43789b49ed3de20623b3707206610fb02a4acd263474"


def test_digest_is_that_of_the_documented_bytes() -> None:
    split = Split(np.array([1, 4]), np.array([2]), np.array([0, 3, 5]))
    content = struct.pack("<q2q", 2, 1, 4) + struct.pack("<qq", 1, 2) + struct.pack("<q3q", 3, 0, 3, 5)
    assert split.digest == hashlib.sha256(content).hexdigest()


def test_digest_tells_where_a_part_ends() -> None:
    one = Split(np.array([1, 2]), np.array([3]), np.array([4]))
    other = Split(np.array([1]), np.array([2, 3]), np.array([4]))
    assert one.digest != other.digest


def test_few_labels_are_a_subset_of_more_labels() -> None:
    targets = np.random.default_rng(0).integers(0, 10, 1000)
    few, many = make_split(targets, 10, 50, 200, 11), make_split(targets, 10, 100, 200, 11)
    assert np.isin(few.labelled, many.labelled).all()
    assert np.array_equal(few.valid, many.valid)
    assert np.array_equal(few.unlabelled, many.unlabelled)


def test_validation_does_not_depend_on_labels_or_the_switch() -> None:
    targets = some_targets()
    splits = [make_split(targets, 5, n, 100, 3, among) for n in (5, 25) for among in (True, False)]
    assert all(np.array_equal(split.valid, splits[0].valid) for split in splits)


@pytest.mark.parametrize(
    ("num_labels", "num_valid", "among", "message"),
    [
        (4, 10, True, r"num_labels=4 is smaller than the 5 classes: use a multiple of 5, at least 5"),
        (0, 10, True, r"num_labels=0 is smaller"),
        (13, 10, True, r"num_labels=13 is not divisible by the 5 classes: use 10 or 15"),
        (100, 201, True, r"num_labels=100 and num_valid=201 together exceed the 300 training images"),
        (200, 50, True, r"num_labels=200 asks for 40 images a class, but class \d has only \d+ outside"),
    ],
)
def test_counts_that_do_not_fit(num_labels: int, num_valid: int, among: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_split(some_targets(), 5, num_labels, num_valid, 0, among)


def test_the_class_that_is_short_is_named() -> None:
    targets = np.array([0] * 50 + [1] * 3 + [2] * 50)
    with pytest.raises(UserError, match=r"asks for 4 images a class, but class 1 has only [0-3] outside"):
        make_split(targets, 3, 12, 1, 0)


def test_all_images_used_up() -> None:
    targets = np.arange(20) % 2
    validation = 10
    for seed in range(1000):  # a seed whose validation images are balanced, so that the rest is too
        rest = make_split(targets, 2, 2, validation, seed).unlabelled
        if np.bincount(targets[rest]).tolist() == [5, 5]:
            break
    assert len(make_split(targets, 2, 10, validation, seed, True).unlabelled) == 10
    message = r"num_labels=10 and num_valid=10 leave no unlabelled image.*labelled_in_unlabelled=true"
    with pytest.raises(UserError, match=message):
        make_split(targets, 2, 10, validation, seed, False)


def test_saved_split_comes_back_without_pickle(tmp_path: Path) -> None:
    split = make_split(some_targets(), 5, 20, 100, 3, labelled_in_unlabelled=False)
    split.save(tmp_path / "split.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["split.npz"]
    with np.load(tmp_path / "split.npz", allow_pickle=False) as saved:
        assert sorted(saved.files) == ["hash", "labelled", "unlabelled", "valid"]
        loaded = Split(saved["labelled"], saved["valid"], saved["unlabelled"])
        assert same(loaded, split)
        assert str(saved["hash"]) == split.digest == loaded.digest


@settings(max_examples=60, deadline=None)
@given(
    num_classes=st.integers(2, 6),
    per_class=st.integers(1, 4),
    num_valid=st.integers(1, 30),
    extra=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
    among=st.booleans(),
)
def test_any_split_keeps_its_promises_or_says_why_not(
    num_classes: int, per_class: int, num_valid: int, extra: int, seed: int, among: bool
) -> None:
    targets = np.random.default_rng(extra).permutation(
        np.arange(num_classes * per_class + num_valid + extra) % num_classes
    )
    try:
        split = make_split(targets, num_classes, num_classes * per_class, num_valid, seed, among)
    except UserError as error:
        assert "num_labels=" in str(error)  # noqa: PT017 - either outcome is right
        return
    assert (np.bincount(targets[split.labelled], minlength=num_classes) == per_class).all()
    assert len(split.valid) == num_valid
    held_out = np.setdiff1d(np.arange(len(targets)), split.valid)
    expected = held_out if among else np.setdiff1d(held_out, split.labelled)
    assert np.array_equal(split.unlabelled, expected)
    assert np.isin(split.labelled, held_out).all()
    assert len(split.unlabelled) > 0

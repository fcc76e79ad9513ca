from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from sslbench.core import Batch, Views
from sslbench.data.batches import BatchSource
from sslbench.data.splits import Split, make_split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.seeding import stream

CPU = torch.device("cpu")
COUNT = 120
TARGETS = np.random.default_rng(0).permutation(np.arange(COUNT) % 4)
SPLIT = make_split(TARGETS, 4, 16, 30, split_seed=0)


def some_images(noise: float = 0.0, flip: bool = False) -> DeviceImages:
    """Each image holds its own position in every pixel but one, so that a batch tells what it is made of."""
    pixels = np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, 4, 4, 1)).copy()
    pixels[:, 0, 0] = 255
    transform = ImageTransform([0.0], [1.0], ["flip", "noise"], noise=noise, flip=flip)
    return DeviceImages(pixels, transform, CPU)


def source(
    views: Views,
    seed: int = 0,
    images: DeviceImages | None = None,
    labelled_size: int = 6,
    unlabelled_size: int = 10,
    split: Split = SPLIT,
) -> BatchSource:
    return BatchSource(
        images or some_images(noise=0.1, flip=True),
        torch.from_numpy(TARGETS),
        split,
        views,
        labelled_size,
        unlabelled_size,
        seed,
        CPU,
    )


def position_in(view: torch.Tensor) -> torch.Tensor:
    return (view[:, 0, 2, 1] * 255).round().long()


def assert_equal(ones: Iterable[Batch], others: Iterable[Batch]) -> None:
    for one, other in zip(ones, others, strict=True):
        pairs = zip((*one.labelled, *one.unlabelled), (*other.labelled, *other.unlabelled), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.labelled_index, other.labelled_index)
        assert torch.equal(one.unlabelled_index, other.unlabelled_index)


def test_targets_are_those_of_the_labelled_images() -> None:
    batches = source(Views(("weak", "clean"), ("weak",)), images=some_images())
    seen: set[int] = set()
    for _ in range(10):
        batch = batches.next()
        assert batch.targets.shape == (6,)
        assert batch.targets.dtype == torch.int64
        for view in batch.labelled:
            assert view.shape == (6, 1, 4, 4)
            positions = position_in(view)
            assert torch.equal(positions, batch.labelled_index)
            assert torch.equal(torch.from_numpy(TARGETS)[positions], batch.targets)
            seen.update(positions.tolist())
    assert seen == set(SPLIT.labelled.tolist())


def test_unlabelled_images_are_those_of_their_index_and_never_validate() -> None:
    batches = source(Views(("weak",), ("weak", "clean")), images=some_images())
    seen: set[int] = set()
    for _ in range(20):
        batch = batches.next()
        assert batch.unlabelled_index.dtype == torch.int64
        for view in batch.unlabelled:
            assert torch.equal(position_in(view), batch.unlabelled_index)
        seen.update(batch.unlabelled_index.tolist())
    assert seen == set(SPLIT.unlabelled.tolist())
    assert not seen & set(SPLIT.valid.tolist())


def test_labelled_images_stay_out_where_the_split_says_so() -> None:
    split = make_split(TARGETS, 4, 16, 30, split_seed=0, labelled_in_unlabelled=False)
    batches = source(Views(("weak",), ("clean",)), split=split)
    seen = {position for _ in range(20) for position in batches.next().unlabelled_index.tolist()}
    assert seen == set(split.unlabelled.tolist())
    assert not seen & set(split.labelled.tolist())


def test_targets_of_unlabelled_images_are_never_read() -> None:
    secret = torch.full((COUNT,), -1)
    secret[SPLIT.labelled] = torch.from_numpy(TARGETS)[SPLIT.labelled]
    batches = BatchSource(some_images(), secret, SPLIT, Views(("weak",), ("weak",)), 6, 10, 0, CPU)
    assert all((batches.next().targets >= 0).all() for _ in range(20))


def test_views_are_drawn_apart() -> None:
    batch = source(Views(("weak", "weak"), ("weak", "weak", "clean"))).next()
    assert not torch.equal(batch.labelled[0], batch.labelled[1])
    assert not torch.equal(batch.unlabelled[0], batch.unlabelled[1])
    assert torch.equal(position_in(batch.unlabelled[2]), batch.unlabelled_index)


def test_labelled_and_unlabelled_views_have_random_streams_of_their_own() -> None:
    views = Views(("weak", "clean"), ("weak", "clean"))
    batch = source(views, images=some_images(noise=0.1), labelled_size=8, unlabelled_size=8).next()
    labelled = batch.labelled[0] - batch.labelled[1]
    unlabelled = batch.unlabelled[0] - batch.unlabelled[1]
    together = torch.stack([labelled.flatten(), unlabelled.flatten()])
    assert torch.corrcoef(together)[0, 1].abs() < 0.4


def test_labelled_batches_do_not_depend_on_the_unlabelled_ones() -> None:
    alone = source(Views(("weak",)))
    beside = source(Views(("weak",), ("weak", "weak")), unlabelled_size=23)
    for _ in range(30):
        one, other = alone.next(), beside.next()
        assert torch.equal(one.labelled[0], other.labelled[0])
        assert torch.equal(one.targets, other.targets)
        assert one.unlabelled == ()
        assert one.unlabelled_index.shape == (0,)


def test_unlabelled_batches_do_not_depend_on_the_labelled_ones() -> None:
    few = source(Views(("weak",), ("weak",)), labelled_size=2)
    many = source(Views(("weak", "weak"), ("weak",)), labelled_size=9)
    for _ in range(30):
        one, other = few.next(), many.next()
        assert torch.equal(one.unlabelled[0], other.unlabelled[0])
        assert torch.equal(one.unlabelled_index, other.unlabelled_index)


@pytest.mark.parametrize("more", [("weak",), ("weak", "weak"), ("clean", "weak")])
def test_the_first_view_is_the_same_whatever_other_views_there_are(more: tuple[str, ...]) -> None:
    one = source(Views(("weak",), ("weak",)))
    several = source(Views(("weak", *more), ("weak", *more)))
    for _ in range(8):
        alone, beside = one.next(), several.next()
        assert torch.equal(alone.labelled[0], beside.labelled[0])
        assert torch.equal(alone.unlabelled[0], beside.unlabelled[0])
        views = [*beside.labelled, *beside.unlabelled]
        assert len({view.numpy().tobytes() for view in views}) == len(views), "each is drawn apart"


def test_each_view_has_the_stream_of_its_position() -> None:
    images = some_images(noise=0.1, flip=True)
    batches = source(Views(("weak",), ("weak", "weak")), seed=5, images=images)
    names = ("augmentation/unlabelled", "augmentation/unlabelled/1")
    generators = [stream(5, name) for name in names]
    for _ in range(3):
        batch = batches.next()
        for view, generator in zip(batch.unlabelled, generators, strict=True):
            assert torch.equal(view, images.weak(batch.unlabelled_index, generator))


def test_a_stage_with_more_views_goes_on_in_its_streams() -> None:
    """Also when it is resumed, and when a later stage has fewer views again."""
    few, many = Views(("weak",), ("weak",)), Views(("weak",), ("weak", "weak"))
    batches = source(few)
    batches.next()
    batches.change(many, None)
    batches.next()
    batches.change(few, None)
    saved = batches.state_dict()
    batches.change(many, None)
    fresh = source(few)
    fresh.load_state_dict(saved)
    fresh.change(many, None)
    assert_equal([fresh.next() for _ in range(3)], [batches.next() for _ in range(3)])


def test_images_that_no_view_needs_are_not_drawn_anew() -> None:
    batches = source(Views(("weak",)))
    (_, one), (_, other) = batches.draw(), batches.draw()
    assert one is other, "an empty copy to the device in each step"
    assert (one.shape, one.dtype) == ((0,), torch.int64)


def test_the_seed_decides() -> None:
    views = Views(("weak",), ("weak",))
    assert_equal([source(views, seed=3).next()], [source(views, seed=3).next()])
    one, other = source(views, seed=3).next(), source(views, seed=4).next()
    assert not torch.equal(one.labelled[0], other.labelled[0])
    assert not torch.equal(one.unlabelled_index, other.unlabelled_index)
    assert not torch.equal(one.unlabelled[0], other.unlabelled[0])


def test_the_global_stream_decides_nothing() -> None:
    views = Views(("weak",), ("weak",))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = source(views).next()
        before = torch.get_rng_state()
        torch.manual_seed(2)
        assert_equal([source(views).next()], [first])
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("before", [0, 1, 5, 700])
def test_state_round_trip(before: int) -> None:
    views = Views(("weak",), ("weak", "weak"))
    batches = source(views)
    for _ in range(before):  # 700 steps cross a border of the labelled and of the unlabelled order
        batches.next()
    content = io.BytesIO()
    torch.save(batches.state_dict(), content)
    content.seek(0)
    expected = [batches.next() for _ in range(5)]
    fresh = source(views)
    fresh.next()
    fresh.load_state_dict(torch.load(content, weights_only=True))
    assert_equal([fresh.next() for _ in range(5)], expected)


def test_a_stage_draws_from_its_pool_alone() -> None:
    batches = source(Views(("weak",), ("weak",)), images=some_images())
    pool = torch.from_numpy(SPLIT.unlabelled[5:12])  # smaller than a batch
    batches.change(Views(("weak",), ("weak", "clean")), pool)
    drawn = [batches.next() for _ in range(7)]
    for batch in drawn:
        assert len(batch.unlabelled) == 2
        assert torch.equal(position_in(batch.unlabelled[1]), batch.unlabelled_index)
    counts = torch.bincount(torch.cat([batch.unlabelled_index for batch in drawn]), minlength=COUNT)
    assert counts[pool].tolist() == [10] * 7
    assert counts.sum() == 70
    batches.change(Views(("weak",), ("weak",)), None)
    seen = {position for _ in range(20) for position in batches.next().unlabelled_index.tolist()}
    assert seen == set(SPLIT.unlabelled.tolist())


def test_a_stage_goes_on_in_the_random_streams() -> None:
    views = Views(("weak",), ("weak",))
    whole, changed = source(views), source(views)
    before = [(whole.next(), changed.next()) for _ in range(3)]
    changed.change(views, None)
    after = [(whole.next(), changed.next()) for _ in range(3)]
    for one, other in after:
        assert torch.equal(one.labelled[0], other.labelled[0])
    assert not torch.equal(after[0][1].unlabelled_index, before[0][1].unlabelled_index)
    assert not torch.equal(after[0][1].unlabelled[0], before[0][1].unlabelled[0])


def test_a_stage_without_labelled_images() -> None:
    batches = source(Views(("weak",), ("weak",)))
    batches.change(Views((), ("weak",)), None)
    batch = batches.next()
    assert batch.labelled == ()
    assert batch.targets.shape == (0,)
    assert batch.targets.dtype == torch.int64
    assert batch.unlabelled[0].shape == (10, 1, 4, 4)
    assert batches.images_per_step == 10


@pytest.mark.parametrize("before", [0, 1, 500])
def test_state_round_trip_of_a_stage(before: int) -> None:
    first, second = Views(("weak",), ("weak",)), Views((), ("weak", "clean"))
    batches = source(first)
    batches.next()
    batches.change(second, torch.from_numpy(SPLIT.unlabelled[:23]))
    for _ in range(before):  # 500 steps cross a border of the order
        batches.next()
    content = io.BytesIO()
    torch.save(batches.state_dict(), content)
    content.seek(0)
    expected = [batches.next() for _ in range(5)]
    fresh = source(first)
    fresh.change(second, None)
    fresh.load_state_dict(torch.load(content, weights_only=True))
    assert_equal([fresh.next() for _ in range(5)], expected)


def test_images_per_step() -> None:
    assert source(Views(("weak",))).images_per_step == 6
    assert source(Views(("weak",), ("weak", "weak"))).images_per_step == 16


@pytest.mark.parametrize("views", [Views(("strong",)), Views(("weak",), ("weak", "strong"))])
def test_unknown_view(views: Views) -> None:
    with pytest.raises(ValueError, match=r"it asks for the view 'strong': there are weak, clean"):
        source(views)

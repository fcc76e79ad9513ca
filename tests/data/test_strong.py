from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sslbench.data.operations import OPERATIONS
from sslbench.data.strong import CUTOUT, RANGES, BoundOperations, RandomOperations, check_operations

FILL = torch.tensor([7], dtype=torch.uint8)
Limits = Mapping[str, Sequence[float] | None]
EVERYTHING: Limits = {name: operation.bounds for name, operation in OPERATIONS.items()} | {CUTOUT: (0, 1)}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int = 64, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 12, 16, channels), dtype=torch.uint8, generator=chance(5))


def policy(**arguments: Any) -> RandomOperations:
    return RandomOperations(
        **{"ranges": "paper", "num_ops": 2, "probability": 0.5, "cutout": 0.0, **arguments}
    )


def marked(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> dict[str, list[float]]:
    """Operations that write their number into the images; the magnitudes of each, once they are applied."""
    seen: dict[str, list[float]] = {name: [] for name in names}

    def write(number: int, name: str) -> None:
        def apply(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
            seen[name] += amount.tolist()
            return torch.full_like(images, number)

        monkeypatch.setitem(OPERATIONS, name, OPERATIONS[name]._replace(apply=apply))

    for number, name in enumerate(names, start=1):
        write(number, name)
    return seen


@pytest.mark.parametrize("count", [1, 3, 8, 64, 100])
@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_each_operation_is_as_likely_as_any_other(
    monkeypatch: pytest.MonkeyPatch, count: int, probability: float
) -> None:
    names = ("brightness", "contrast", "rotate", "shear_x", "translate_y")
    marked(monkeypatch, names)
    augment = BoundOperations(dict.fromkeys(names, (0.0, 1.0)), 1, probability, 0)
    generator, rounds = chance(), 6000 // count
    by_operation: Counter[int] = Counter()
    by_place = torch.zeros(count)
    for _ in range(rounds):
        numbers = augment(torch.zeros(count, 2, 2, 1, dtype=torch.uint8), FILL, generator)[:, 0, 0, 0]
        here = Counter(numbers.tolist())
        share = probability * count / len(names)
        assert all(int(share) <= here[number] <= -(-share // 1) for number in range(1, 6))
        by_operation += here
        by_place += numbers > 0
    total = count * rounds
    for number in range(1, 6):
        assert by_operation[number] / total == pytest.approx(probability / 5, abs=0.02)
    assert by_place / rounds == pytest.approx(torch.full((count,), probability), abs=0.25)


def test_operations_of_two_slots_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        OPERATIONS, "brightness", OPERATIONS["brightness"]._replace(apply=lambda images, *_: images + 1)
    )
    augment = BoundOperations({"brightness": (0, 1)}, 3, 0.5, 0)
    sums = augment(torch.zeros(4000, 1, 1, 1, dtype=torch.uint8), FILL, chance()).flatten()
    shares = [(sums == number).float().mean().item() for number in range(4)]
    assert shares == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8], abs=0.03)


def test_magnitudes_fill_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = marked(monkeypatch, ("rotate",))
    BoundOperations({"rotate": (-10, 30)}, 1, 1.0, 0)(some_images(2000), FILL, chance())
    quarters = torch.tensor(seen["rotate"]).quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert quarters.tolist() == pytest.approx([-10, 0, 10, 20, 30], abs=1.5)


def test_each_number_of_bits_is_as_likely_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = marked(monkeypatch, ("posterize",))
    BoundOperations({"posterize": (4, 8)}, 1, 1.0, 0)(some_images(3000), FILL, chance())
    counts = Counter(seen["posterize"])
    assert sorted(counts) == [4, 5, 6, 7, 8]
    assert all(count == pytest.approx(600, rel=0.15) for count in counts.values())


@pytest.mark.parametrize("ranges", RANGES)
def test_samples_of_a_batch_differ_and_runs_repeat(ranges: str) -> None:
    same = some_images(1, 3).expand(64, -1, -1, -1).clone()
    augment = policy(ranges=ranges, cutout=0.5).within(EVERYTHING)
    fill = torch.tensor([1, 2, 3], dtype=torch.uint8)
    view = augment(same.clone(), fill, chance())
    assert len({image.numpy().tobytes() for image in view}) > 50
    assert torch.equal(view, augment(same.clone(), fill, chance()))
    assert not torch.equal(view, augment(same.clone(), fill, chance(1)))
    assert view.dtype == torch.uint8


def test_the_generator_advances_by_a_fixed_amount() -> None:
    augment, places = policy(cutout=0.5).within(EVERYTHING), []
    for images in (some_images(), torch.zeros_like(some_images())):
        generator = chance()
        augment(images, FILL, generator)
        places.append(generator.get_state())
    assert torch.equal(*places)


def test_no_operation_leaves_the_bits() -> None:
    images = some_images()
    assert torch.equal(policy(num_ops=0).within({})(images.clone(), FILL, chance()), images)
    assert torch.equal(policy(probability=0.0).within(EVERYTHING)(images.clone(), FILL, chance()), images)
    only = policy(operations=["identity"], probability=1.0).within(EVERYTHING)
    assert torch.equal(only(images.clone(), FILL, chance()), images)


def test_cutout_is_a_square_about_any_pixel() -> None:
    augment = policy(num_ops=0, cutout=0.5).within({CUTOUT: (0, 1)})
    images = torch.zeros(20_000, 12, 16, 1, dtype=torch.uint8)
    cut = augment(images, FILL, chance())[..., 0] == FILL
    seen = set()
    for mask in cut[:500]:
        rows, columns = (mask.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert int(mask.sum()) == len(rows) * len(columns)
        seen.add((len(rows), len(columns)))
    assert max(seen) == (6, 6)
    assert min(rows for rows, _ in seen) == 3, "a centre on the border leaves half of the square"
    shares = cut.float().mean(dim=0)
    assert shares[3:-3, 3:-3].std() < 0.01, "the middle is covered equally often"
    assert shares[5, 7] == pytest.approx(36 / (12 * 16), abs=0.01)


def test_a_data_set_limits_the_magnitudes() -> None:
    limits: Limits = {"identity": None, "rotate": (-15, 15), "brightness": (0.3, 1.7), CUTOUT: (0, 0.25)}
    bound = policy(cutout=0.5).within(limits)
    assert bound.ranges == {"identity": (0, 0), "brightness": (0.3, 0.95), "rotate": (-15, 15)}
    images = torch.zeros(50, 12, 16, 1, dtype=torch.uint8)
    cut = policy(num_ops=0, cutout=0.5).within(limits)(images, FILL, chance())
    assert int((cut == FILL).sum(dim=(1, 2, 3)).max()) == 9  # 3 of 12 pixels a side
    assert not (policy(num_ops=0, cutout=0.5).within({})(torch.zeros_like(cut), FILL, chance())).any()


def test_an_operation_that_the_data_set_does_not_list_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'solarize' is not among"):
        policy(operations=["rotate", "solarize"]).within({"rotate": (-15, 15)})
    with pytest.raises(ValueError, match="lists no operation"):
        policy().within({CUTOUT: (0, 0.5)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranges": "papre"}, "ranges=papre"),
        ({"num_ops": -1}, "num_ops=-1"),
        ({"probability": 1.1}, "probability=1.1"),
        ({"cutout": 1.5}, "cutout=1.5"),
        ({"operations": ["rotat"]}, "'rotat'.*rotate"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy(**arguments)


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ({"rotat": (0, 1)}, "'rotat'"),
        ({"rotate": None}, "operations.rotate=None"),
        ({"rotate": (5,)}, "operations.rotate="),
        ({"rotate": (10, -10)}, "operations.rotate="),
        ({"posterize": (0, 8)}, "operations.posterize="),
        ({"equalize": (0, 1)}, "operations.equalize=.*takes no magnitude"),
        ({CUTOUT: (0, 2)}, "operations.cutout="),
    ],
)
def test_what_a_data_set_lists_is_checked(operations: Limits, message: str) -> None:
    check_operations(EVERYTHING)
    with pytest.raises(ValueError, match=message):
        check_operations(operations)


@pytest.mark.parametrize("ranges", RANGES)
def test_every_magnitude_is_within_its_bounds(ranges: str) -> None:
    check_operations(dict(RANGES[ranges]))

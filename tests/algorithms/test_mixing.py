from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Beta

from sslbench.algorithms import mixing
from sslbench.algorithms.mixing import CutMix, Mixing, Mixup

COUNT, CLASSES = 6, 4


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(COUNT, 2, 6, 8), torch.eye(CLASSES)[torch.tensor([0, 1, 2, 3, 0, 1])]


def test_mixup_is_the_papers_formula() -> None:
    images, targets = example()
    torch.manual_seed(1)
    partner, concentration = torch.randperm(COUNT), torch.full((COUNT,), 0.4)
    share = Beta(concentration, concentration).sample()
    torch.manual_seed(1)
    mixed, mixed_targets = Mixup(0.4)(images, targets)
    for own in range(COUNT):
        other, lam = partner[own], share[own]
        torch.testing.assert_close(mixed[own], lam * images[own] + (1 - lam) * images[other])
        torch.testing.assert_close(mixed_targets[own], lam * targets[own] + (1 - lam) * targets[other])


def test_cutmix_pastes_a_box_and_mixes_labels_by_its_pixels() -> None:
    images, targets = example()
    torch.manual_seed(1)
    partner, ones = torch.randperm(COUNT), torch.ones(COUNT)
    side = (1 - Beta(ones, ones).sample()).sqrt().numpy()
    row, column = torch.rand(2, COUNT).numpy()
    torch.manual_seed(1)
    mixed, mixed_targets = CutMix(1.0)(images, targets)
    pasted = 0
    for own in range(COUNT):
        y, x = np.arange(6)[:, None] + 0.5, np.arange(8) + 0.5
        tall = np.abs(y - 6 * row[own]) <= 6 * side[own] / 2
        wide = np.abs(x - 8 * column[own]) <= 8 * side[own] / 2
        box = torch.from_numpy(tall & wide)
        pasted += int(box.sum())
        assert torch.equal(mixed[own], torch.where(box, images[partner[own]], images[own]))
        share = 1 - box.float().mean()  # of the pixels that are left, also where the border cuts the box off
        expected = share * targets[own] + (1 - share) * targets[partner[own]]
        torch.testing.assert_close(mixed_targets[own], expected)
    assert 0 < pasted < COUNT * 48


def test_a_box_that_the_border_cuts_off_gives_less_of_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda is not the share of the labels then."""
    monkeypatch.setattr(mixing, "mixup_coefficients", lambda count, *_: torch.full((count,), 0.19))
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(*shape))  # centres in a corner
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count).roll(1))
    images, targets = example()
    _, mixed_targets = CutMix(1.0)(images, targets)
    # Sides of 0.9, half of which lies outside: 2.7 by 3.6 pixels, with 3 by 4 centres.
    share = 1 - 12 / 48
    torch.testing.assert_close(mixed_targets, share * targets + (1 - share) * targets.roll(1, dims=0))


@pytest.mark.parametrize("mixes", [Mixup(0.4), CutMix(1.0)])
def test_targets_stay_distributions(mixes: Mixing) -> None:
    _, mixed_targets = mixes(*example())
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(COUNT))


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_alpha_is_checked(kind: type[Mixup | CutMix]) -> None:
    with pytest.raises(ValueError, match=r"alpha=0.0 must be above 0"):
        kind(0.0)

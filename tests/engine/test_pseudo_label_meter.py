from __future__ import annotations

import numpy as np
import pytest
import torch

from sslbench.core import PseudoLabelled
from sslbench.engine.pseudo_label_meter import PseudoLabelMeter

TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
LABELLED = torch.tensor([0, 1, 2, 3])  # half of them of class 0


def test_means_are_those_of_all_images_since_it_was_cleared() -> None:
    chance = np.random.default_rng(0)
    meter = PseudoLabelMeter(TARGETS, LABELLED, 3)
    right, weights, targets = [], [], []
    for _ in range(4):
        probabilities, weight = chance.dirichlet(np.ones(3), 5), chance.random(5) * (chance.random(5) < 0.6)
        index = chance.integers(0, 8, 5)
        pseudo_labels = PseudoLabelled(torch.from_numpy(probabilities), torch.from_numpy(weight))
        meter.add(pseudo_labels, torch.from_numpy(index))
        right.append(probabilities.argmax(axis=1) == TARGETS.numpy()[index])
        weights.append(weight)
        targets.append(probabilities)
    hits, weight, probabilities = (np.concatenate(parts) for parts in (right, weights, targets))
    mean = (weight[:, None] * probabilities).sum(axis=0) / weight.sum()
    assert meter.means() == pytest.approx(
        {
            "pseudo_label/accuracy": hits.mean(),
            "pseudo_label/coverage": weight.mean(),
            "pseudo_label/accepted_accuracy": (weight * hits).sum() / weight.sum(),
            "pseudo_label/class_distance": np.abs(mean - [0.5, 0.25, 0.25]).sum() / 2,
        }
    )
    meter.clear()
    assert meter.means() == {}


def test_nothing_accepted_has_no_accuracy() -> None:
    meter = PseudoLabelMeter(TARGETS, LABELLED, 3)
    meter.add(PseudoLabelled(torch.eye(3), torch.zeros(3)), torch.tensor([0, 1, 0]))
    assert meter.means() == pytest.approx({"pseudo_label/accuracy": 2 / 3, "pseudo_label/coverage": 0})


def test_state_survives() -> None:
    meter, other = (PseudoLabelMeter(TARGETS, LABELLED, 3) for _ in range(2))
    meter.add(PseudoLabelled(torch.eye(3), torch.ones(3)), torch.tensor([0, 1, 5]))
    other.load_state_dict(meter.state_dict())
    assert other.means() == meter.means() != {}

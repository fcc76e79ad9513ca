from __future__ import annotations

import torch
from torch import Tensor

from sslbench.models.targets import PseudoLabels

SOFT = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])


def one_hot(*classes: int) -> Tensor:
    return torch.eye(3)[list(classes)]


def test_no_image_has_a_pseudo_label_at_first() -> None:
    targets = PseudoLabels(5, 3)
    assert not targets.has_pseudo_label.any()
    assert torch.equal(targets(torch.arange(5)), torch.zeros(5, 3))


def test_targets_are_found_by_position() -> None:
    targets = PseudoLabels(5, 3)
    targets.assign(torch.tensor([4, 1]), SOFT)
    assert torch.equal(targets(torch.tensor([1, 4, 1])), SOFT[[1, 0, 1]])
    assert targets.has_pseudo_label.tolist() == [False, True, False, False, True]


def test_a_second_assignment_forgets_the_first() -> None:
    targets = PseudoLabels(5, 3)
    targets.assign(torch.tensor([0, 1]), SOFT)
    targets.assign(torch.tensor([1]), SOFT[:1])
    assert torch.equal(targets(torch.arange(3)), torch.stack([torch.zeros(3), SOFT[0], torch.zeros(3)]))
    assert targets.has_pseudo_label.tolist() == [False, True, False, False, False]


def test_hard_targets_of_any_type_become_probabilities() -> None:
    for kind in (torch.bool, torch.int64, torch.float64):
        targets = PseudoLabels(5, 3)
        targets.assign(torch.tensor([2, 3]), one_hot(2, 0).to(kind))
        found = targets(torch.tensor([2, 3]))
        assert found.dtype == torch.float32
        assert torch.equal(found, one_hot(2, 0))


def test_accuracy_is_of_the_pseudo_labels_alone() -> None:
    targets = PseudoLabels(6, 3)
    targets.assign(torch.tensor([1, 2, 3, 5]), one_hot(1, 2, 0, 2))
    # Images without a pseudo-label count neither as right (0, as an empty row would say) nor as wrong (4).
    assert targets.diagnose(torch.tensor([0, 1, 2, 0, 1, 0]))["diagnostic/pseudo_labels_acc"] == 0.75
    assert targets.diagnose(torch.tensor([0, 0, 0, 1, 0, 0]))["diagnostic/pseudo_labels_acc"] == 0.0


def test_targets_survive_a_checkpoint_and_are_not_trained() -> None:
    targets, other = PseudoLabels(5, 3), PseudoLabels(5, 3)
    targets.assign(torch.tensor([4, 1]), SOFT)
    other.load_state_dict(targets.state_dict())
    assert torch.equal(other(torch.arange(5)), targets(torch.arange(5)))
    assert torch.equal(other.has_pseudo_label, targets.has_pseudo_label)
    assert not list(targets.parameters())

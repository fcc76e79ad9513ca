from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.curriculum_threshold import CurriculumThreshold

UNLABELLED = 12
BATCHES = [
    [0, 1, 2, 3, 4, 5],
    [6, 7, 8, 9, 10, 11],
    [3, 1, 5, 7, 9, 11],
    [0, 2, 4, 6, 8, 10],
    [0, 1, 2, 3, 4, 5],
]


def prepared(
    warm_up: bool = True, threshold: float = 0.7, num_unlabelled: int = UNLABELLED
) -> CurriculumThreshold:
    part = CurriculumThreshold(threshold, warm_up)
    part.prepare(replace(SPEC, num_unlabelled=num_unlabelled), nn.Identity())
    return part


@pytest.mark.parametrize("warm_up", [True, False])
def test_thresholds_and_kept_classes_follow_the_paper_over_several_steps(warm_up: bool) -> None:
    """Images that are not unlabelled (the last 8 of 20) are not unused ones."""
    part = prepared(warm_up)
    kept: dict[int, int] = {}
    below = 0
    for step, batch in enumerate(BATCHES):
        weak = logits(6, step, scale=5 if step < 2 else 1)
        count = np.array([sum(k == label for label in kept.values()) for k in range(5)])
        most = max(count.max(), UNLABELLED - len(kept)) if warm_up else max(count.max(), 1)
        beta = count / most
        thresholds = 0.7 * beta / (2 - beta)
        expected = []
        for image, row in zip(batch, weak.softmax(dim=1).tolist(), strict=True):
            confidence, label = max(row), int(np.argmax(row))
            expected.append(float(confidence >= thresholds[label]))
            below += not expected[-1]
            if confidence >= 0.7:
                kept[image] = label
        assert part(predicted(weak, index=torch.tensor(batch))).tolist() == expected
        assert part.selected.tolist() == [kept.get(image, -1) for image in range(20)]
    assert below > 0, "the thresholds decide somewhere"


def test_everything_passes_at_the_start_and_only_confident_images_are_noted() -> None:
    part = prepared()
    weak = (
        torch.tensor([[0.9, 0.1, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0]], dtype=torch.float64).clamp(min=1e-9).log()
    )
    assert part(predicted(weak, index=torch.tensor([4, 2]))).tolist() == [1, 1]
    assert part.selected.tolist() == [0 if image == 4 else -1 for image in range(20)]


def test_an_image_keeps_its_class_until_it_is_confident_of_another() -> None:
    part = prepared()
    unsure = torch.zeros(1, 5, dtype=torch.float64)
    for row, expected in [([9, 0, 0, 0, 0], 0), (unsure[0].tolist(), 0), ([0, 0, 9, 0, 0], 2)]:
        part(predicted(torch.tensor([row], dtype=torch.float64), index=torch.tensor([3])))
        assert part.selected[3].item() == expected


def test_a_new_class_has_its_full_threshold_in_the_next_step_without_warm_up() -> None:
    confident = torch.tensor([[9.0, 0, 0, 0, 0]], dtype=torch.float64)
    half = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1]], dtype=torch.float64).log()
    for warm_up, expected in [(False, 0), (True, 1)]:
        part = prepared(warm_up)
        part(predicted(confident, index=torch.tensor([0])))
        assert part(predicted(half, index=torch.tensor([1]))).tolist() == [expected]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_a_repeated_image_does_not_depend_on_the_order(order: list[int]) -> None:
    weak = torch.tensor([[0.0, 9, 0, 0, 0], [9.0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.float64)
    part = prepared()
    part(predicted(weak[order], index=torch.tensor([5, 5, 5])))
    assert part.selected[5].item() == 1


def test_the_order_of_a_batch_does_not_matter() -> None:
    one, other = prepared(), prepared()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for step, batch in enumerate(BATCHES):
        weak, index = logits(6, step), torch.tensor(batch)
        weights = one(predicted(weak, index=index))
        assert torch.equal(weights[order], other(predicted(weak[order], index=index[order])))
    assert torch.equal(one.selected, other.selected)


def test_state_survives() -> None:
    part = prepared()
    part(predicted(logits(6, 0, scale=9), index=torch.arange(6)))
    assert_state_survives(part, prepared())


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"^threshold="):
        CurriculumThreshold(threshold, warm_up=True)

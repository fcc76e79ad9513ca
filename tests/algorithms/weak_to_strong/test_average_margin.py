from __future__ import annotations

from typing import final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.average_margin import AveragePseudoMargin, margins_of
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.algorithms.weak_to_strong.thresholds import FixedThreshold
from sslbench.core import DataSpec

BATCHES = [[0, 1, 2, 3], [3, 0, 7, 8], [0, 3, 1, 9], [9, 8, 0, 3], [0, 1, 2, 3]]


def prepared(
    least: float = 0.0, smoothing: float = 0.9, threshold: float = 0.0, warm_up: float = 0.0
) -> AveragePseudoMargin:
    part = AveragePseudoMargin(FixedThreshold(threshold), smoothing, least, warm_up)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def numpy_margins(scores: np.ndarray) -> np.ndarray:
    return np.array([[row[k] - np.delete(row, k).max() for k in range(len(row))] for row in scores])


def test_margins_are_to_the_greatest_other_logit_where_all_are_negative_too() -> None:
    scores = torch.cat([logits(6, 1), logits(6, 2) - 20])
    np.testing.assert_allclose(margins_of(scores).numpy(), numpy_margins(scores.numpy()))


@pytest.mark.parametrize("least", [0.0, 0.8])
def test_averages_and_weights_follow_the_formula_over_several_steps(least: float) -> None:
    part = prepared(least, threshold=0.5)
    average, visits = np.zeros((20, 5)), np.zeros(20)
    seen = set()
    for step, batch in enumerate(BATCHES):
        weak = logits(4, step)
        margins = numpy_margins(weak.numpy())
        expected = []
        for place, image in enumerate(batch):
            share = 0.9 / (1 + visits[image])
            average[image] = share * margins[place] + (1 - share) * average[image]
            visits[image] += 1
            label = int(weak[place].argmax())
            confident = weak[place].softmax(dim=0).max().item() >= 0.5
            expected.append(float(confident and average[image, label] >= least))
            seen.add((confident, average[image, label] >= least))
        found = part(predicted(weak, index=torch.tensor(batch)))
        assert found.tolist() == expected
        np.testing.assert_allclose(part.margins.numpy(), average, rtol=1e-6, atol=1e-6)
        assert part.visits.tolist() == visits.tolist()
    assert seen >= {(True, True), (True, False)}, "the average margin decides somewhere"


def test_a_new_opinion_does_not_count_at_once() -> None:
    part = prepared(smoothing=1.0)
    old, new = torch.eye(5, dtype=torch.float64)[:1] * 9, torch.eye(5, dtype=torch.float64)[1:2] * 9
    index = torch.tensor([4])
    found = [part(predicted(weak, index=index)).item() for weak in (old, old, old, new, new, new, new)]
    assert found == [1, 1, 1, 0, 0, 1, 1]


def test_during_the_warm_up_the_inner_weights_stand_and_averages_move() -> None:
    part = prepared(least=100.0, warm_up=0.5, threshold=0.5)
    weak = logits(8, 1)
    expected = FixedThreshold(0.5)(predicted(weak))
    assert set(expected.tolist()) == {0, 1}
    assert torch.equal(part(predicted(weak, fraction=0.49)), expected)
    assert part.visits.sum() == 8
    assert not part(predicted(weak, fraction=0.5)).any()


def test_an_image_that_is_twice_in_a_batch_is_visited_once() -> None:
    weak = logits(3, 1)
    part, once = prepared(), prepared()
    twice = part(predicted(weak, index=torch.tensor([5, 6, 5])))
    once(predicted(weak[1:], index=torch.tensor([6, 5])))
    assert part.visits[5] == 1
    torch.testing.assert_close(part.margins, once.margins)
    assert twice.shape == (3,)


def test_the_order_of_the_batch_does_not_matter() -> None:
    one, other = prepared(0.3), prepared(0.3)
    for step, batch in enumerate(BATCHES):
        weak, index = logits(4, step), torch.tensor(batch)
        order = torch.tensor([2, 0, 3, 1])
        found = one(predicted(weak, index=index))
        assert torch.equal(other(predicted(weak[order], index=index[order])), found[order])
    assert torch.equal(one.margins, other.margins)


@final
class Counting(nn.Module):
    """A weighting with a state: how often each image came."""

    count: Tensor

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        self.register_buffer("count", torch.zeros(spec.num_train))

    def forward(self, predictions: Predictions) -> Tensor:
        self.count.index_add_(0, predictions.index, torch.ones(len(predictions.index)))
        return 0.5 * torch.ones(len(predictions.index))


def test_the_inner_weighting_keeps_its_own_state_and_weights() -> None:
    part, fresh = (AveragePseudoMargin(Counting(), 0.9, 0.0, 0.0) for _ in range(2))
    for each in (part, fresh):
        each.prepare(SPEC, nn.Identity())
    assert part(predicted(logits(3, 1), index=torch.tensor([1, 2, 9]))).tolist() == [0.5, 0.5, 0.5]
    assert part.state_dict()["_inner.count"].sum() == 3
    assert_state_survives(part, fresh)


def test_arguments_out_of_range_are_refused() -> None:
    for arguments, name in (((1.1, 0.0, 0.0), "smoothing=1.1"), ((0.9, 0.0, -0.1), "warm_up=-0.1")):
        with pytest.raises(ValueError, match=f"^{name}"):
            AveragePseudoMargin(FixedThreshold(0.9), *arguments)

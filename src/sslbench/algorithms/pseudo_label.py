"""Pseudo-label: the student's own confident predictions serve as labels."""

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.outputs import accepted, weighted_sum
from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_not_negative, check_probability
from sslbench.core import Batch, ModelFactory, Progress, PseudoLabelled, StepOutput, Views
from sslbench.losses import ce, one_hot
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats


@final
class PseudoLabel:
    """Lee 2013 (ICML workshop on representation learning), with the threshold of arXiv:1804.09170.

    ``loss = CE(labelled) + weight * ramp(t) * mean m(x) CE(f(x), y(x))`` over unlabelled x, where y is the
    class that the student finds most probable and m is 1 where its probability reaches the threshold, else
    0. The mean is over all unlabelled images of the batch, so that few confident ones weigh little.

    With `soft_below`, the other images count too, with the whole predicted distribution as their target. It
    is then the prediction at a second view: a soft target from the pass that it trains has no gradient.

    Deviations: the ramp is that of Laine & Aila (arXiv:1610.02242) where Lee's is linear.

    Args:
        threshold: least probability of a class that becomes a label, in [0, 1].
        soft_below: whether images below the threshold get soft targets.
    """

    trained = ("student",)
    predictors = ("student",)

    def __init__(self, threshold: float, soft_below: bool, weight: float, ramp_up: float) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_probability(threshold=threshold)
        self._threshold, self._soft_below = threshold, soft_below
        self._weight, self._ramp_up = weight, ramp_up
        self.views = Views(labelled=("weak",), unlabelled=("weak", "weak") if soft_below else ("weak",))

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student = models["student"]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        logits = student(batch.unlabelled[0])
        if self._soft_below:
            with torch.no_grad(), frozen_batch_stats(student):
                predicted = student(batch.unlabelled[1]).softmax(dim=1)
        else:
            predicted = logits.detach().softmax(dim=1)
        confidence, label = predicted.max(dim=1)
        confident = confidence >= self._threshold
        hard = one_hot(label, predicted.shape[1], predicted.dtype)
        if self._soft_below:
            targets = torch.where(confident[:, None], hard, predicted)
            pseudo_labels = accepted(targets)
            pseudo = ce(logits, targets).mean()
        else:
            pseudo_labels = PseudoLabelled(hard, confident.to(hard.dtype))
            pseudo = (ce(logits, hard) * confident).mean()
        weight = self._weight * sigmoid_ramp_up(progress.fraction, self._ramp_up)
        share = confident.float().mean()
        return weighted_sum(supervised, pseudo, weight, "pseudo", pseudo_labels, confident_share=share)

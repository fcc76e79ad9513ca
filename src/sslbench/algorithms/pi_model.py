"""The Pi-model: two noisy passes over an image must agree."""

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.outputs import weighted_sum
from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_not_negative
from sslbench.core import Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats


@final
class PiModel:
    """Laine & Aila 2017, arXiv:1610.02242, algorithm 1.

    ``loss = CE(labelled) + weight * ramp(t) * mean distance(f(x'), softmax f(x''))`` with x', x'' two
    augmented views of an unlabelled image and dropout drawn anew in each pass.

    Deviations: the second pass is a target without gradient, as in Oliver et al. 2018 (arXiv:1804.09170),
    where the paper lets gradients into both; it leaves the batch-norm running statistics alone.
    """

    views = Views(labelled=("weak",), unlabelled=("weak", "weak"))
    trained = ("student",)
    predictors = ("student",)

    def __init__(self, distance: Distance, weight: float, ramp_up: float) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        self._distance, self._weight, self._ramp_up = distance, weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student = models["student"]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        with torch.no_grad(), frozen_batch_stats(student):
            target = student(batch.unlabelled[1]).softmax(dim=1)
        consistency = self._distance(student(batch.unlabelled[0]), target).mean()
        weight = self._weight * sigmoid_ramp_up(progress.fraction, self._ramp_up)
        return weighted_sum(supervised, consistency, weight)

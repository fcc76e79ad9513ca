"""Interpolation consistency training: the prediction at a mixture is the mixture of predictions."""

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.outputs import weighted_sum
from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_decay, check_not_negative, check_positive
from sslbench.core import Average, Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy
from sslbench.losses.mixup import mix, mixup_coefficients
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy


@final
class ICT:
    """Verma et al. 2019, arXiv:1903.03825, algorithm 1.

    ``loss = CE(labelled) + weight * ramp(t) * mean distance(f(mix(x1, x2)), mix(softmax g(x1), softmax
    g(x2)))`` over pairs of unlabelled images, with mixup coefficients from Beta(alpha, alpha). The weights of
    the teacher g are a moving average of the student's.

    Deviations: the teacher's probabilities are mixed, where the authors' code
    (github.com/vikasverma1077/ICT) mixes its logits and takes their softmax. Each pair has a coefficient of
    its own, where the paper draws one for the batch, and partners come from the same batch, where the paper
    draws two batches. The mixed pass leaves the batch-norm running statistics alone; the student sees the
    unmixed images once more, without gradient, to feed them.

    Args:
        distance: between student logits and mixed probabilities; mse in the paper.
        alpha: of the Beta distribution, above 0; small values mix little.
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("teacher", "student")

    def __init__(self, distance: Distance, alpha: float, ema: float, weight: float, ramp_up: float) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_decay(ema=ema)
        check_positive(alpha=alpha)
        self.averages = {"teacher": Average("student", ema)}
        self._distance, self._alpha = distance, alpha
        self._weight, self._ramp_up = weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        student = new_model()
        return {"student": student, "teacher": frozen_copy(student)}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, teacher, images = models["student"], models["teacher"], batch.unlabelled[0]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        with torch.no_grad():
            student(images)  # for the batch-norm statistics
            with frozen_batch_stats(teacher):
                predicted = teacher(images).softmax(dim=1)
            partner = torch.randperm(len(images), device=images.device)
            coefficient = mixup_coefficients(len(images), self._alpha, images.device)
            mixed = mix(images, images[partner], coefficient)
            target = mix(predicted, predicted[partner], coefficient)
        with frozen_batch_stats(student):
            logits = student(mixed)
        consistency = self._distance(logits, target).mean()
        weight = self._weight * sigmoid_ramp_up(progress.fraction, self._ramp_up)
        return weighted_sum(supervised, consistency, weight)

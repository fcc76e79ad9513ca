"""Interpolation consistency training: the prediction at a mixture is the mixture of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.ramp_up import check_ramp_up, sigmoid_ramp_up
from sslbench.core import Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy
from sslbench.losses.mixup import mix, mixup_coefficients
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import check_decay, frozen_copy, update_average, warmed_up


@final
class ICT:
    """Verma et al. 2019, arXiv:1903.03825, algorithm 1.

    ``loss = CE(labelled) + weight * ramp(t) * mean distance(f(mix(x1, x2)), mix(softmax g(x1), softmax
    g(x2)))`` over pairs of unlabelled images, with shares from Beta(alpha, alpha). The weights of the
    teacher g are a moving average of the student's.

    Deviations: a share for each pair, where the paper draws one for the batch, and partners from the same
    batch, where it draws two batches. The mixed pass leaves the batch-norm running statistics alone; the
    student sees the unmixed images once more, without gradient, to feed them.

    Args:
        distance: between student logits and mixed probabilities; mse in the paper.
        alpha: of the Beta distribution, above 0; small values mix little.
        ema: decay of the teacher's average, reached after a warm-up.
        weight: of the consistency term at the end of the ramp, not negative.
        ramp_up: share of the run over which the weight grows; 0 for none.

    Raises:
        ValueError: an argument is out of range.
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("teacher", "student")

    def __init__(self, distance: Distance, alpha: float, ema: float, weight: float, ramp_up: float) -> None:
        check_ramp_up(weight, ramp_up)
        check_decay(ema)
        if alpha <= 0:
            raise ValueError(f"alpha={alpha} must be above 0")
        self._distance, self._alpha, self._ema = distance, alpha, ema
        self._weight, self._ramp_up = weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """The student, and a teacher that starts equal."""
        student = new_model()
        return {"student": student, "teacher": frozen_copy(student)}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        """See `Algorithm.step`."""
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
        return StepOutput(
            supervised + weight * consistency,
            {"supervised": supervised, "consistency": consistency},
            {"consistency_weight": weight},
        )

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        """Move the teacher."""
        update_average(models["teacher"], models["student"], warmed_up(self._ema, progress.step))

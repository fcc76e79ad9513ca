"""Mean Teacher: the student agrees with an average of its own weights."""

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.outputs import weighted_sum
from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_decay, check_not_negative
from sslbench.core import Average, Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy


@final
class MeanTeacher:
    """Tarvainen & Valpola 2017, arXiv:1703.01780, section 2.

    ``loss = CE(labelled) + weight * ramp(t) * mean distance(f(x'), softmax g(x''))`` over two augmented
    views of an unlabelled image. The weights of the teacher g are a moving average of the student's.

    The teacher predicts in training mode, with the batch's own statistics and dropout, as the authors' does.
    Its batch-norm statistics, which evaluation uses, are averaged with the weights (see
    `sslbench.models.ema.update_average`); the authors' teacher gathers them in its own passes.

    Args:
        distance: between student logits and teacher probabilities; mse in the paper.
    """

    views = Views(labelled=("weak",), unlabelled=("weak", "weak"))
    trained = ("student",)
    predictors = ("teacher", "student")

    def __init__(self, distance: Distance, ema: float, weight: float, ramp_up: float) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_decay(ema=ema)
        self.averages = {"teacher": Average("student", ema)}
        self._distance, self._weight, self._ramp_up = distance, weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        student = new_model()
        return {"student": student, "teacher": frozen_copy(student)}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, teacher = models["student"], models["teacher"]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        with torch.no_grad(), frozen_batch_stats(teacher):
            target = teacher(batch.unlabelled[1]).softmax(dim=1)
        consistency = self._distance(student(batch.unlabelled[0]), target).mean()
        weight = self._weight * sigmoid_ramp_up(progress.fraction, self._ramp_up)
        return weighted_sum(supervised, consistency, weight)

"""An algorithm whose step looks ahead, as that of Meta Pseudo Labels (arXiv:2003.10580) does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from sslbench.core import Average, Batch, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import ce, cross_entropy, one_hot


class LookAhead:
    """The student learns the teacher's pseudo-labels; then the teacher learns whether that helped it.

    Two updates a step. The teacher's loss needs the student's labelled loss before and after its update.
    """

    views = Views(("weak",), ("weak",))
    predictors = ("average", "student")

    def __init__(self, bad_step: int | None = None) -> None:
        self.trained = {"student": ("student",), "teacher": ("teacher",)}
        self.averages = {"average": Average("student", 0.75)}
        self._bad_step = bad_step
        self.autocast: list[bool] = []

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {name: new_model() for name in ("student", "teacher", "average")}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> Iterator[StepOutput]:
        student, teacher = models["student"], models["teacher"]
        (labelled,), (unlabelled,) = batch.labelled, batch.unlabelled
        before = self._loss(student, labelled, batch.targets)
        logits = teacher(unlabelled)
        pseudo_labels = one_hot(logits.detach().argmax(dim=1), logits.shape[1])
        pseudo = ce(student(unlabelled), pseudo_labels).mean()
        yield StepOutput({"student": pseudo}, {"pseudo": pseudo}, {"before": before})
        after = self._loss(student, labelled, batch.targets)
        supervised = cross_entropy(teacher(labelled), batch.targets)
        feedback = (before - after) * ce(logits, pseudo_labels).mean()
        if self._bad_step:
            feedback = feedback / (progress.step + 1 != self._bad_step)
        yield StepOutput(
            {"teacher": supervised + feedback},
            {"supervised": supervised, "feedback": feedback},
            {"after": after},
        )

    def _loss(self, student: nn.Module, labelled: Tensor, targets: Tensor) -> Tensor:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        with torch.no_grad():
            return cross_entropy(student(labelled), targets)

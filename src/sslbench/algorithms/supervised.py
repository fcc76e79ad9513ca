"""The baseline that every algorithm must beat: the labelled images alone."""

from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from sslbench.algorithms.mixing import Mixing
from sslbench.core import Batch, ModelFactory, Progress, StepOutput, StrongView, Views
from sslbench.losses import ce, one_hot
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats


@final
class Supervised:
    """Cross-entropy on the labelled images; unlabelled ones are not drawn.

    What a method gains may come from its augmentation alone. With `strong` or `mixing`, the baseline has such
    an augmentation too.

    With `mixing`, the mixed pass leaves the batch-norm running statistics alone; the student sees the unmixed
    images once more, without gradient, to feed them.

    Args:
        strong: the strong view that labelled images have in place of the weak one; None for the weak one.
        mixing: mixes labelled images and their labels; None for none.
    """

    trained = ("student",)
    predictors = ("student",)

    def __init__(self, strong: StrongView | None = None, mixing: Mixing | None = None) -> None:
        self.views = Views(labelled=("weak" if strong is None else strong,))
        self._mixing = mixing

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, images = models["student"], batch.labelled[0]
        if self._mixing is None:
            supervised = cross_entropy(student(images), batch.targets)
        else:
            with torch.no_grad():
                logits = student(images)  # for the batch-norm statistics
                labels = one_hot(batch.targets, logits.shape[1])
                mixed, targets = self._mixing(images, labels)
            with frozen_batch_stats(student):
                supervised = ce(student(mixed), targets).mean()
        return StepOutput(supervised, {"supervised": supervised})

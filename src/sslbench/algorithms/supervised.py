"""The baseline that every algorithm must beat: the labelled images alone."""

from collections.abc import Mapping
from typing import final

from torch import nn

from sslbench.core import Batch, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy


@final
class Supervised:
    """Cross-entropy on the labelled images; unlabelled ones are not drawn."""

    views = Views(labelled=("weak",))
    trained = ("student",)
    predictors = ("student",)

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        supervised = cross_entropy(models["student"](batch.labelled[0]), batch.targets)
        return StepOutput(supervised, {"supervised": supervised})

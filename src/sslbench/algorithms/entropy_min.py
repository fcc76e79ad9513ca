"""Entropy minimisation: the model is to predict one class with certainty, on unlabelled images too."""

from collections.abc import Mapping
from typing import final

from torch import nn
from torch.nn.functional import log_softmax

from sslbench.checks import check_not_negative
from sslbench.core import Batch, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import entropy
from sslbench.losses.classification import cross_entropy


@final
class EntropyMinimisation:
    """Grandvalet & Bengio 2004 (NIPS): ``loss = CE(labelled) + weight * mean H(f(x))`` over unlabelled x.

    With few labels the model may become certain of one class for all images. The monitor `mean_entropy`, of
    the mean prediction, shows it: it falls from about ln K to 0.

    Args:
        weight: of the entropy, not negative.
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("student",)

    def __init__(self, weight: float) -> None:
        check_not_negative(weight=weight)
        self._weight = weight

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student = models["student"]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        logits = student(batch.unlabelled[0])
        uncertainty = entropy(logits).mean()
        # The log of the mean prediction, up to a constant, which the entropy does not see.
        log_mean = log_softmax(logits.detach(), dim=1).logsumexp(dim=0, keepdim=True)
        return StepOutput(
            supervised + self._weight * uncertainty,
            {"supervised": supervised, "entropy": uncertainty},
            {"mean_entropy": entropy(log_mean).mean()},
        )

"""Temporal ensembling: agree with an average of one's own earlier predictions of the same image."""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from sslbench.algorithms.outputs import weighted_sum
from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_decay, check_not_negative
from sslbench.core import Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy


@final
class PredictionAverages(nn.Module):
    """A moving average of the predictions of each training image, and how often each was visited.

    Args:
        num_train: images of the training set.
        num_classes: classes.
        decay: of the averages, in [0, 1).
    """

    averages: Tensor
    visits: Tensor

    def __init__(self, num_train: int, num_classes: int, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("averages", torch.zeros(num_train, num_classes))
        self.register_buffer("visits", torch.zeros(num_train, dtype=torch.int64))

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The average predictions of the images at `index` ``[U]``: ``[U, K]``, and whether there is one.

        An average that began at 0 after n visits is divided by ``1 - decay^n``, so that its rows sum to 1. An
        image without a visit has a row of zeros, and False in the second result, bool ``[U]``.
        """
        averages, visits = self.averages[index], self.visits[index]
        visited = visits > 0
        total = 1 - self._decay ** visits.to(averages.dtype)  # of the weights of the visits
        return averages / torch.where(visited, total, 1)[:, None], visited

    @torch.no_grad()
    def update(self, index: Tensor, predictions: Tensor) -> None:
        """Count a visit of each image at `index` ``[U]``, with its probabilities ``[U, K]``.

        An image that is in the batch twice, where a pass over the images ends and the next begins, is
        visited once, with its first prediction: which of two writes to a row wins is not known.
        """
        position = torch.arange(len(index), device=index.device)
        same = index[:, None] == index
        first = torch.where(same, position, len(index)).amin(dim=1)
        predictions = predictions[first].to(self.averages.dtype)
        self.averages[index] = self._decay * self.averages[index] + (1 - self._decay) * predictions
        self.visits[index] = self.visits[index] + 1


@final
class TemporalEnsembling:
    """Laine & Aila 2017, arXiv:1610.02242, algorithm 2.

    ``loss = CE(labelled) + weight * ramp(t) * mean v(x) distance(f(x), Z(x))`` over unlabelled x, where Z is
    the average of the student's predictions at earlier visits of x, each at a view and with dropout of its
    own, and v is 1 where there was such a visit, else 0. The prediction of this step enters Z after it was
    compared: it counts at the next visit.

    Deviations: the authors' code (github.com/s-laine/tempens) updates all averages at the end of an epoch,
    and has a weight of 0 in the first. Here there are no epochs: an average moves at each visit of its image,
    its start at zero is corrected by the visits of that image, and an image without a visit counts as 0 in
    the mean. The code divides the supervised loss by all images of a batch that holds both kinds and scales
    the weight by the share of labelled images, so that the two terms are to each other as here. The ramps of
    the learning rate and of Adam's beta1 are settings of the schedule and the optimizer.

    Args:
        distance: between student logits and average predictions; mse in the paper.
        decay: of the average predictions, in [0, 1); alpha in the paper.
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("student",)

    def __init__(self, distance: Distance, decay: float, weight: float, ramp_up: float) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_decay(decay=decay)
        self._distance, self._decay = distance, decay
        self._weight, self._ramp_up = weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        spec = new_model.spec
        averages = PredictionAverages(spec.num_train, spec.num_classes, self._decay)
        return {"student": new_model(), "averages": averages}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, averages = models["student"], cast("PredictionAverages", models["averages"])
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        logits = student(batch.unlabelled[0])
        target, visited = averages(batch.unlabelled_index)
        consistency = (self._distance(logits, target) * visited).mean()
        averages.update(batch.unlabelled_index, logits.detach().softmax(dim=1))
        weight = self._weight * sigmoid_ramp_up(progress.fraction, self._ramp_up)
        return weighted_sum(supervised, consistency, weight, visited_share=visited.float().mean())

"""Consistency under mixing masks: the prediction at a collage of two images is the mixture of predictions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import nn

from sslbench.algorithms.masks import Masks
from sslbench.algorithms.outputs import weighted_sum
from sslbench.checks import check_decay, check_not_negative, check_probability
from sslbench.core import Average, Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses.classification import cross_entropy
from sslbench.losses.mixup import mix
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy


@final
class MaskMixing:
    """French et al., arXiv:1906.01916 with boxes (CutMix) and arXiv:2003.12022 with cow masks (CowMix).

    ``loss = CE(labelled) + weight * c * mean distance(f(collage(x1, x2)), mix(softmax g(x1), softmax
    g(x2)))`` over pairs of unlabelled images. A collage has the pixels of x1 where the mask says so and those
    of x2 elsewhere; predictions are mixed by the share of its mask. The weights of the teacher g are a moving
    average of the student's, and it predicts in evaluation mode. Partners are neighbours in the batch.

    The factor c is the share of pairs of the batch whose confidence, the mixture of the teacher's greatest
    probabilities, reaches the threshold. So every pair counts alike, and the weight grows with the teacher's
    confidence; there is no ramp. All this is as in the authors' code for arXiv:2003.12022
    (github.com/google-research/google-research, milking_cowmask).

    Deviations: the mixed pass leaves the batch-norm running statistics alone, where the authors' feeds them;
    the student sees the unmixed images once more, without gradient, to feed them. The weight is that of a
    mean over the classes, where the code sums over them. arXiv:1906.01916 is on segmentation: its boxes are
    here in the form that the later code gives them for classification.

    Args:
        distance: between student logits and mixed probabilities; mse in the papers.
        masks: draws the masks.
        threshold: least confidence of a pair that counts as confident, in [0, 1].
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("teacher", "student")

    def __init__(self, distance: Distance, masks: Masks, threshold: float, ema: float, weight: float) -> None:
        check_not_negative(weight=weight)
        check_decay(ema=ema)
        check_probability(threshold=threshold)
        self.averages = {"teacher": Average("student", ema)}
        self._distance, self._masks = distance, masks
        self._threshold, self._weight = threshold, weight

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        student = new_model()
        return {"student": student, "teacher": frozen_copy(student)}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, teacher, images = models["student"], models["teacher"], batch.unlabelled[0]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        with torch.no_grad():
            student(images)  # for the batch-norm statistics
            with _evaluation_mode(teacher):
                predicted = teacher(images).softmax(dim=1)
            own = self._masks(len(images), images.shape[2], images.shape[3], images.device)
            share = own.to(predicted.dtype).mean(dim=(1, 2, 3))
            collage = torch.where(own, images, images.roll(1, dims=0))
            target = mix(predicted, predicted.roll(1, dims=0), share)
            confidence = predicted.amax(dim=1)
            confidence = mix(confidence, confidence.roll(1, dims=0), share)
            confident = (confidence >= self._threshold).float().mean()
        with frozen_batch_stats(student):
            logits = student(collage)
        consistency = self._distance(logits, target).mean()
        return weighted_sum(supervised, consistency, self._weight * confident, confident_share=confident)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Running batch-norm statistics and no dropout; each layer is set back to its mode on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

"""MixMatch: sharpened pseudo-labels for unlabelled images, and everything mixed up."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.outputs import accepted, weighted_sum
from sslbench.algorithms.ramp_up import linear_ramp_up
from sslbench.checks import check_counts, check_decay, check_not_negative, check_positive
from sslbench.core import Average, Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import ce, one_hot
from sslbench.losses.mixup import mix, mixup_coefficients, sharpen
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy


@final
class MixMatch:
    """Berthelot et al. 2019, arXiv:1905.02249, algorithm 1.

    The pseudo-label of an unlabelled image is the student's mean prediction over `num_augmentations` views,
    sharpened; it is the target of each view. Labelled and unlabelled images are mixed with partners from the
    two together. The mixup coefficient is ``max(s, 1 - s)`` with s from Beta(alpha, alpha), so that a mixture
    stays nearer to its own image. ``loss = CE(mixed labelled) + weight * ramp(t) * mean distance(mixed
    unlabelled, mixed pseudo-label)``. An average of the student's weights is evaluated, as in the paper.

    The batch-norm running statistics come from the pass over the first view, which is of unmixed images; the
    mixed pass leaves them alone. Deviation: decoupled weight decay, which the paper has, is a setting of the
    optimizer.

    Args:
        distance: between student logits and mixed pseudo-labels; mse in the paper.
        temperature: of the sharpening, above 0.
        num_augmentations: views of an unlabelled image, at least 1.
        alpha: of the Beta distribution, above 0.
        mix_labelled: false leaves labelled images as they are and mixes unlabelled ones among themselves.
        ramp_up: share of the run over which the weight grows, linearly.
    """

    trained = ("student",)
    predictors = ("average", "student")

    def __init__(
        self,
        distance: Distance,
        temperature: float,
        num_augmentations: int,
        alpha: float,
        mix_labelled: bool,
        ema: float,
        weight: float,
        ramp_up: float,
    ) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_decay(ema=ema)
        check_positive(temperature=temperature, alpha=alpha)
        check_counts(num_augmentations=num_augmentations)
        self.views = Views(labelled=("weak",), unlabelled=("weak",) * num_augmentations)
        self._distance, self._temperature, self._alpha = distance, temperature, alpha
        self._mix_labelled, self._weight, self._ramp_up = mix_labelled, weight, ramp_up
        self.averages = {"average": Average("student", ema)}

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        student = new_model()
        return {"student": student, "average": frozen_copy(student)}

    def _pseudo_label(self, student: nn.Module, views: tuple[Tensor, ...]) -> Tensor:
        """The sharpened mean prediction ``[U, K]``; the first view feeds the batch-norm statistics."""
        predictions = [student(views[0]).softmax(dim=1)]
        with frozen_batch_stats(student):
            predictions += [student(view).softmax(dim=1) for view in views[1:]]
        return sharpen(torch.stack(predictions).mean(dim=0), self._temperature)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, labelled = models["student"], batch.labelled[0]
        count = len(labelled)
        with torch.no_grad():
            pseudo_label = self._pseudo_label(student, batch.unlabelled)
            labels = one_hot(batch.targets, pseudo_label.shape[1], pseudo_label.dtype)
            images = torch.cat([labelled, *batch.unlabelled])
            targets = torch.cat([labels, *[pseudo_label] * len(batch.unlabelled)])
            first = 0 if self._mix_labelled else count  # the first image that is mixed
            partner = first + torch.randperm(len(images) - first, device=images.device)
            coefficient = mixup_coefficients(len(partner), self._alpha, images.device)
            coefficient = torch.maximum(coefficient, 1 - coefficient)
            mixed = torch.cat([images[:first], mix(images[first:], images[partner], coefficient)])
            targets = torch.cat([targets[:first], mix(targets[first:], targets[partner], coefficient)])
        with frozen_batch_stats(student):
            logits = student(mixed)
        supervised = ce(logits[:count], targets[:count]).mean()
        consistency = self._distance(logits[count:], targets[count:]).mean()
        weight = self._weight * linear_ramp_up(progress.fraction, self._ramp_up)
        confidence = pseudo_label.amax(dim=1).mean()
        labelled_as = accepted(pseudo_label)
        return weighted_sum(
            supervised, consistency, weight, pseudo_labels=labelled_as, guess_confidence=confidence
        )

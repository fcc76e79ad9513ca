"""MixMatch: sharpened guesses for unlabelled images, and everything mixed up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.ramp_up import check_ramp_up, linear_ramp_up
from sslbench.core import Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import ce, one_hot
from sslbench.losses.mixup import mix, mixup_coefficients, sharpen
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import check_decay, frozen_copy, update_average, warmed_up


@final
class MixMatch:
    """Berthelot et al. 2019, arXiv:1905.02249, algorithm 1.

    The guess for an unlabelled image is the student's mean prediction over `num_augmentations` views,
    sharpened; each view carries it. Labelled and unlabelled images are mixed with partners from the two
    together, by ``max(s, 1 - s)`` with s from Beta(alpha, alpha), so that a mixture stays nearer to its
    own image. ``loss = CE(mixed labelled) + weight * ramp(t) * mean distance(mixed unlabelled, mixed
    guess)``. An average of the student's weights is evaluated, as in the paper.

    The batch-norm running statistics come from the guess at the first view, which is of unmixed images; the
    mixed pass leaves them alone. Deviation: the paper's decoupled weight decay is the optimizer's matter.

    Args:
        distance: between student logits and mixed guesses; mse in the paper.
        temperature: of the sharpening, above 0.
        num_augmentations: views of an unlabelled image, at least 1.
        alpha: of the Beta distribution, above 0.
        mix_labelled: false leaves labelled images as they are and mixes unlabelled ones among themselves.
        ema: decay of the evaluated average, reached after a warm-up.
        weight: of the unlabelled term at the end of the ramp, not negative.
        ramp_up: share of the run over which the weight grows, linearly; 0 for none.

    Raises:
        ValueError: an argument is out of range.
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
        check_ramp_up(weight, ramp_up)
        check_decay(ema)
        for name, value in (("temperature", temperature), ("alpha", alpha)):
            if value <= 0:
                raise ValueError(f"{name}={value} must be above 0")
        if num_augmentations < 1:
            raise ValueError(f"num_augmentations={num_augmentations} must be at least 1")
        self.views = Views(labelled=("weak",), unlabelled=("weak",) * num_augmentations)
        self._distance, self._temperature, self._alpha = distance, temperature, alpha
        self._mix_labelled, self._ema, self._weight, self._ramp_up = mix_labelled, ema, weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """The student, and an average that starts equal."""
        student = new_model()
        return {"student": student, "average": frozen_copy(student)}

    def _guess(self, student: nn.Module, views: tuple[Tensor, ...]) -> Tensor:
        """The sharpened mean prediction ``[U, K]``; the first view feeds the batch-norm statistics."""
        predictions = [student(views[0]).softmax(dim=1)]
        with frozen_batch_stats(student):
            predictions += [student(view).softmax(dim=1) for view in views[1:]]
        return sharpen(torch.stack(predictions).mean(dim=0), self._temperature)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        """See `Algorithm.step`."""
        student, labelled = models["student"], batch.labelled[0]
        count = len(labelled)
        with torch.no_grad():
            guess = self._guess(student, batch.unlabelled)
            labels = one_hot(batch.targets, guess.shape[1], guess.dtype)
            images = torch.cat([labelled, *batch.unlabelled])
            targets = torch.cat([labels, *[guess] * len(batch.unlabelled)])
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
        return StepOutput(
            supervised + weight * consistency,
            {"supervised": supervised, "consistency": consistency},
            {"consistency_weight": weight, "guess_confidence": guess.amax(dim=1).mean()},
        )

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        """Move the average."""
        update_average(models["average"], models["student"], warmed_up(self._ema, progress.step))

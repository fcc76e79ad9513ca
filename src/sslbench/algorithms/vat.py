"""Virtual adversarial training: predictions must not change in the direction in which they change most."""

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_not_negative, check_positive
from sslbench.core import Batch, Distance, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import cross_entropy, entropy
from sslbench.models import SameNoise, frozen_batch_stats


def unit_length(direction: Tensor) -> Tensor:
    """Scale each sample of ``[B, ...]`` to L2 norm 1; a zero direction stays zero.

    Divides by the largest entry first, since the squares of a tiny gradient underflow in float32.
    """
    flat = direction.flatten(1)
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return (flat / length.clamp(min=torch.finfo(flat.dtype).tiny)).view_as(direction)


def adversarial_direction(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    target: Tensor,
    distance: Distance,
    xi: float,
    iterations: int,
) -> Tensor:
    """The unit perturbation of each image that moves the prediction most, by power iteration.

    Near r = 0 the distance is a quadratic form in r, so that ``grad_r distance(x + xi d)`` is, to first
    order, xi times its Hessian applied to d (arXiv:1704.03976, eqs. 9-12). This holds only if all passes have
    the same noise. The search runs in float32 even under autocast: in bfloat16 ``x + xi d`` rounds back to x.

    Args:
        model: images -> logits; for a model with dropout or noise, a `SameNoise`. The caller sets its mode
            and freezes its batch-norm statistics.
        images: ``[B, C, H, W]``.
        target: the prediction at `images` with the same noise, probabilities ``[B, K]``, detached.
        distance: between logits and target, at its least where they agree.
        xi: length of the finite difference, in units of the images.
        iterations: of the power method, at least 1.

    Returns:
        ``[B, C, H, W]``, L2 norm 1 a sample, detached.
    """
    direction = unit_length(torch.randn_like(images))
    rounded = torch.is_autocast_enabled(images.device.type)
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        if rounded:
            # With a target from rounded logits, the gradient would point along the rounding.
            with torch.no_grad():
                target = model(images).softmax(dim=1)
        for _ in range(iterations):
            direction.requires_grad_()
            moved = distance(model(images + xi * direction), target).sum()
            (gradient,) = torch.autograd.grad(moved, direction)
            direction = unit_length(gradient.detach())
    return direction


@final
class VAT:
    """Miyato et al. 2018, arXiv:1704.03976.

    ``loss = CE(labelled) + weight * ramp(t) * mean distance(f(x + r), softmax f(x)) + entropy_weight * mean
    H(f(x))`` over unlabelled x, with r of L2 norm `eps` in the adversarial direction. The search for that
    direction and the perturbed pass have the dropout masks and the noise of the clean pass, as in the
    authors' code (github.com/takerum/vat_tf); each step draws new ones. All terms are minimised in one
    update.

    Deviations from that code: the clean pass over unlabelled images updates the batch-norm running
    statistics, where there only the labelled pass does; `xi` is 0.1 by default, where there it is 1e-6, which
    float32 rounds away; the search runs in float32 whatever the precision; a `ramp_up` is possible.

    Args:
        distance: between student logits and target probabilities; KL in the paper.
        eps: L2 norm of the perturbation, in units of the normalised input, above 0.
        xi: length of the finite difference that finds the direction, above 0.
        iterations: of the power method, at least 1.
        entropy_weight: of the conditional entropy (the paper's VAT+EntMin), not negative; 0 for none; it
            grows with `weight`.
    """

    views = Views(labelled=("weak",), unlabelled=("weak",))
    trained = ("student",)
    predictors = ("student",)

    def __init__(
        self,
        distance: Distance,
        eps: float,
        xi: float,
        iterations: int,
        weight: float,
        entropy_weight: float,
        ramp_up: float,
    ) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up, entropy_weight=entropy_weight)
        check_positive(eps=eps, xi=xi, iterations=iterations)
        self._distance, self._eps, self._xi, self._iterations = distance, eps, xi, iterations
        self._weight, self._entropy_weight, self._ramp_up = weight, entropy_weight, ramp_up

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        student, images = models["student"], batch.unlabelled[0]
        supervised = cross_entropy(student(batch.labelled[0]), batch.targets)
        student_with_same_noise = SameNoise(student)
        with torch.set_grad_enabled(self._entropy_weight > 0 and torch.is_grad_enabled()):
            clean = student_with_same_noise(images)
        target = clean.detach().softmax(dim=1)
        with frozen_batch_stats(student):
            direction = adversarial_direction(
                student_with_same_noise, images, target, self._distance, self._xi, self._iterations
            )
            perturbed = student_with_same_noise(images + self._eps * direction)
        consistency = self._distance(perturbed, target).mean()
        ramp = sigmoid_ramp_up(progress.fraction, self._ramp_up)
        loss = supervised + self._weight * ramp * consistency
        terms = {"supervised": supervised, "consistency": consistency}
        uncertainty = entropy(clean).mean()
        if self._entropy_weight > 0:
            loss = loss + self._entropy_weight * ramp * uncertainty
            terms["entropy"] = uncertainty
        return StepOutput(
            loss,
            terms,
            {"consistency_weight": self._weight * ramp, "unlabelled_entropy": uncertainty.detach()},
        )

"""Semi-supervised GAN: a classifier that also tells real images from generated ones."""

from collections.abc import Callable, Mapping
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.parametrize import cached

from sslbench.algorithms.ramp_up import sigmoid_ramp_up
from sslbench.checks import check_choice, check_decay, check_not_negative
from sslbench.core import Average, Batch, FeatureModel, ModelFactory, Progress, StepOutput, Views
from sslbench.losses import mse
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy
from sslbench.models.generator import Generator

GENERATOR_LOSSES = ("feature_matching", "plain")
_SHOWN = 10  # rows and columns of generated images


@final
class SampleNoise(nn.Module):
    """The noise of the sample images, the same throughout a run."""

    noise: Tensor

    def __init__(self, noise_size: int) -> None:
        super().__init__()
        self.register_buffer("noise", torch.rand(_SHOWN**2, noise_size))


@final
class SGAN:
    """Salimans et al. 2016 (Improved-GAN), arXiv:1606.03498, sections 3.1 and 5.

    The discriminator has one logit a class; that of "generated" is fixed at 0, without loss of generality.
    With ``Z(x) = logsumexp`` of its logits, an image is real with probability ``exp Z / (exp Z + 1)``:

    ``loss = CE(labelled) + weight * (mean softplus(-Z(x)) + mean softplus(Z(G(z)))) / 2``

    over unlabelled x and uniform noise z. The generator either matches the mean features of real images
    (``feature_matching``: the mean squared difference over features) or fools the discriminator
    (``plain``: ``mean softplus(-Z(G(z)))``). Both are updated at the same time, by two optimizers; in the
    paper they take turns. An average of the discriminator's weights is evaluated, as in
    the authors' code for MNIST (decay 0.9999 there, over far more steps).

    With a `consistency_weight`, ``weight * ramp(t) * mean mse(f(x'), softmax g(x''))`` is added over two
    views of an unlabelled image, g being the average. Two passes over a real image must agree in CT-GAN
    (Wei et al. 2018, arXiv:1803.01541), too; it perturbs them by dropout, and both are trained.

    The pass over generated images leaves batch-norm statistics alone, and is normalised by its own: a
    discriminator with batch normalisation meets real and generated images in batches of their own.

    Args:
        generator: makes it, from the images' shape and the model inputs for black and white.
        generator_loss: ``feature_matching`` or ``plain``.
        weight: of the real-or-generated term, not negative.
        consistency_weight: of the consistency term at the end of the ramp, not negative; 0 for none.
    """

    predictors = ("average", "discriminator")

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        generator_loss: str,
        weight: float,
        ema: float,
        consistency_weight: float,
        ramp_up: float,
    ) -> None:
        check_decay(ema=ema)
        check_not_negative(weight=weight, consistency_weight=consistency_weight, ramp_up=ramp_up)
        check_choice(GENERATOR_LOSSES, generator_loss=generator_loss)
        self._new_generator, self._weight = generator, weight
        self._match_features = generator_loss == "feature_matching"
        self._consistency_weight, self._ramp_up = consistency_weight, ramp_up
        self.trained = {"main": ("discriminator",), "generator": ("generator",)}
        self.averages = {"average": Average("discriminator", ema)}
        self.views = Views(
            labelled=("weak",), unlabelled=("weak", "weak") if consistency_weight else ("weak",)
        )

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        discriminator = new_model()
        if not isinstance(discriminator, FeatureModel):
            raise TypeError(
                f"sgan needs a model with `features` and `classifier`, as those of sslbench.models are; "
                f"{type(discriminator).__name__} lacks one of them"
            )
        spec = new_model.spec
        generator = self._new_generator(spec=spec, black=spec.black, white=spec.white)
        return {
            "discriminator": discriminator,
            "average": frozen_copy(discriminator),
            "generator": generator,
            "sample_noise": SampleNoise(cast("Generator", generator).noise_size),
        }

    @cached()  # weight norm is worked out once for the three passes
    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        discriminator, real = models["discriminator"], batch.unlabelled[0]
        generator = cast("Generator", models["generator"])
        supervised = cross_entropy(discriminator(batch.labelled[0]), batch.targets)
        real_features, logits, real_score = _judge(discriminator, real)
        fake = generator(torch.rand(len(real), generator.noise_size, device=real.device))
        with frozen_batch_stats(discriminator):
            fake_features, _, fake_score = _judge(discriminator, fake)
        adversarial = (softplus(-real_score).mean() + softplus(fake_score).mean()) / 2
        if self._match_features:
            generated = (real_features.detach().mean(dim=0) - fake_features.mean(dim=0)).square().mean()
        else:
            generated = softplus(-fake_score).mean()
        loss = supervised + self._weight * adversarial
        terms = {"supervised": supervised, "adversarial": adversarial}
        if self._consistency_weight:
            average = models["average"]
            with torch.no_grad(), frozen_batch_stats(average):
                target = average(batch.unlabelled[1]).softmax(dim=1)
            terms["consistency"] = mse(logits, target).mean()
            ramp = sigmoid_ramp_up(progress.fraction, self._ramp_up)
            loss = loss + self._consistency_weight * ramp * terms["consistency"]
        return StepOutput(
            {"main": loss, "generator": generated},
            terms,
            {
                "real_rate": real_score.detach().sigmoid().mean(),
                "generated_rate": fake_score.detach().sigmoid().mean(),
            },
        )

    def sample_images(self, models: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """A square of generated images, always from the same noise."""
        module = models["generator"]
        generator, was_training = cast("Generator", module), module.training
        module.eval()
        with torch.no_grad():
            pixels = generator.range.pixels(generator(cast("SampleNoise", models["sample_noise"]).noise))
        module.train(was_training)
        _, channels, height, width = pixels.shape
        rows = pixels.view(_SHOWN, _SHOWN, channels, height, width).permute(0, 3, 1, 4, 2)
        return {"generated": rows.reshape(_SHOWN * height, _SHOWN * width, channels)}


def _judge(discriminator: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``[B, D]``, class logits ``[B, K]``, and their log-sum-exp, ``[B]``: of being real."""
    model = cast("FeatureModel", discriminator)
    features = model.features(images)
    logits: Tensor = model.classifier(features)
    return features.float(), logits, logits.float().logsumexp(dim=1)

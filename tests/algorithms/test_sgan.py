from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from helpers.small_data import SmallData, weights
from sslbench.algorithms.protocol import SampleImages, stages_of
from sslbench.algorithms.sgan import SGAN
from sslbench.config.build import user_error_context
from sslbench.core import Average, Batch, DataSpec, FeatureModel, Progress, StepOutput
from sslbench.engine.state import TrainingState
from sslbench.engine.step import training_step
from sslbench.errors import UserError
from sslbench.models import CNN, MLP, ConvGenerator, ConvLarge, MLPGenerator, NoisyMLP, WideResNet
from sslbench.models.generator import PixelRange

SPEC = DataSpec(1, 3, 4, 4, 20, (-1.0,), (1.0,))
BOTH = pytest.mark.parametrize("generator_loss", ["feature_matching", "plain"])


class Discriminator(nn.Module):
    """In float64; with `batch_norm`, it keeps statistics."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(6) if batch_norm else nn.Identity()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), norm, nn.Tanh())
        self.classifier = nn.Linear(6, 4)
        self.double()

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


class LinearGenerator(nn.Module):
    """In float64."""

    noise_size = 5

    def __init__(self, spec: DataSpec, black: tuple[float, ...], white: tuple[float, ...]) -> None:
        super().__init__()
        self.range = PixelRange(black, white)
        self.body = nn.Linear(5, spec.height * spec.width)
        self.double()

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.range(self.body(noise.double()).view(-1, 1, 3, 4))
        return images


class Factory:
    """A `sslbench.core.ModelFactory`."""

    spec = SPEC

    def __init__(self, make: Callable[[], nn.Module] = Discriminator) -> None:
        self._make = make

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        return self._make()


def method(generator: Callable[..., nn.Module] = LinearGenerator, **changes: Any) -> SGAN:
    defaults = {
        "generator_loss": "feature_matching",
        "weight": 0.7,
        "ema": 0.9,
        "consistency_weight": 0.0,
        "ramp_up": 0.5,
    }
    return SGAN(generator, **{**defaults, **changes})


def progress(step: int = 1) -> Progress:
    return Progress(torch.tensor(float(step)), 8)


def example(
    make: Callable[[], nn.Module] = Discriminator, **changes: Any
) -> tuple[SGAN, dict[str, Any], Batch]:
    torch.manual_seed(0)
    algorithm = method(**changes)
    models = algorithm.build(Factory(make))
    labelled, targets = torch.randn(6, 1, 3, 4).double(), torch.randint(0, 4, (6,))
    views = torch.randn(2, 9, 1, 3, 4).double()
    return (
        algorithm,
        models,
        Batch((labelled,), targets, (views[0], views[1]), torch.arange(6), torch.arange(9)),
    )


def numbers(module: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = module(x).numpy()
    return found


def step(algorithm: SGAN, models: dict[str, Any], batch: Batch) -> tuple[StepOutput, Tensor]:
    """One step, and the images that were generated in it."""
    torch.manual_seed(3)
    output = algorithm.step(models, batch, progress())
    torch.manual_seed(3)
    with torch.no_grad():
        fake = models["generator"](torch.rand(len(batch.unlabelled[0]), 5))
    return output, fake


@BOTH
def test_losses_are_the_papers_formulas(generator_loss: str) -> None:
    """Arithmetic with ``Z / (Z + 1)`` itself; only the classes' log-sum-exp is taken in float32."""
    algorithm, models, batch = example(generator_loss=generator_loss)
    output, fake = step(algorithm, models, batch)
    discriminator, (real, _) = models["discriminator"], batch.unlabelled
    likelihoods = log_softmax(numbers(discriminator, batch.labelled[0]), axis=1)
    supervised = -likelihoods[np.arange(6), batch.targets.numpy()].mean()
    z_real, z_fake = (np.exp(numbers(discriminator, x)).sum(axis=1) for x in (real, fake))
    adversarial = (-np.log(z_real / (z_real + 1)).mean() - np.log(1 / (z_fake + 1)).mean()) / 2
    if generator_loss == "plain":
        generated = -np.log(z_fake / (z_fake + 1)).mean()
    else:
        means = [numbers(discriminator.features, x).mean(axis=0) for x in (real, fake)]
        generated = ((means[0] - means[1]) ** 2).mean()
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    assert output.terms["adversarial"].item() == pytest.approx(adversarial, rel=1e-6)
    assert output.losses["main"].item() == pytest.approx(supervised + 0.7 * adversarial, rel=1e-6)
    assert set(output.terms) == {"supervised", "adversarial"}
    assert set(output.losses) == {"main", "generator"}
    assert output.losses["generator"].item() == pytest.approx(generated, rel=1e-6)
    assert output.monitors["real_rate"].item() == pytest.approx((z_real / (z_real + 1)).mean(), rel=1e-6)
    assert output.monitors["generated_rate"].item() == pytest.approx((z_fake / (z_fake + 1)).mean(), rel=1e-6)
    assert all(not value.requires_grad for value in output.monitors.values())


def test_consistency_is_with_the_average_on_the_other_view() -> None:
    algorithm, models, batch = example(consistency_weight=3.0)
    with torch.no_grad():
        for parameter in models["average"].parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    output, _ = step(algorithm, models, batch)
    ours = softmax(numbers(models["discriminator"], batch.unlabelled[0]), axis=1)
    target = softmax(numbers(models["average"], batch.unlabelled[1]), axis=1)
    consistency = ((ours - target) ** 2).mean()
    assert consistency > 1e-3
    assert output.terms["consistency"].item() == pytest.approx(consistency, rel=1e-12)
    ramp = math.exp(-5 * (1 - 0.25) ** 2)
    rest = output.terms["supervised"] + 0.7 * output.terms["adversarial"]
    assert output.losses["main"].item() == pytest.approx(rest.item() + 3 * ramp * consistency, rel=1e-6)
    output.losses["main"].backward()
    assert all(parameter.grad is None for parameter in models["average"].parameters())


def test_losses_stay_finite_where_the_probability_would_not() -> None:
    for scale in (1e4, -1e4):
        algorithm, models, batch = example(generator_loss="plain")
        with torch.no_grad():
            models["discriminator"].classifier.bias.fill_(scale)
        output, _ = step(algorithm, models, batch)
        for loss in output.losses.values():
            assert loss.isfinite()
        # Certain of "real", it has lost on generated images; certain of "generated", the generator has.
        lost = output.terms["adversarial"] * 2 if scale > 0 else output.losses["generator"]
        assert lost.item() == pytest.approx(1e4, rel=0.01)


def test_views_and_stage() -> None:
    (stage,) = stages_of(method())
    assert stage.optimizers == {"main": ("discriminator",), "generator": ("generator",)}
    assert stage.averages == {"average": Average("discriminator", 0.9)}
    assert stage.predictors == ("average", "discriminator")
    assert (stage.views.labelled, stage.views.unlabelled) == (("weak",), ("weak",))
    assert method(consistency_weight=1.0).views.unlabelled == ("weak", "weak")
    assert isinstance(method(), SampleImages)


def small_discriminator(num_classes: int) -> nn.Module:
    return NoisyMLP(1, (8, 8), num_classes, hidden=[6])


def small_run(seed: int = 1, **changes: Any) -> TrainingState:
    """On small images, with a discriminator that has weight norm and noise."""
    algorithm = method(partial(ConvGenerator, noise_size=5, width=2), **changes)
    return SmallData(size=8).state(algorithm, small_discriminator, seed)


@BOTH
def test_each_loss_moves_its_own_network_alone(generator_loss: str) -> None:
    state = small_run(generator_loss=generator_loss)
    twins, batch = copy.deepcopy(state.models), state.batches.next()
    torch.manual_seed(5)
    output = state.algorithm.step(twins, batch, progress(0))
    losses = {"discriminator": output.losses["main"], "generator": output.losses["generator"]}
    crossed = torch.autograd.grad(
        losses["generator"], list(twins["discriminator"].parameters()), retain_graph=True, allow_unused=True
    )
    assert any(g is not None and g.abs().max() > 0 for g in crossed), "else there is nothing to keep apart"
    expected = {}
    for name, loss in losses.items():
        parameters = dict(twins[name].named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        for (key, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            assert gradient.abs().max() > 0
            expected[f"{name}.{key}"] = (parameter - 0.1 * gradient).detach()
    torch.manual_seed(5)
    training_step(state, batch, progress(0), None)
    moved = weights(state)
    for key, value in expected.items():
        torch.testing.assert_close(moved[key], value, msg=lambda m, key=key: f"{key}: {m}")
    average = {key: value for key, value in moved.items() if key.startswith("average.")}
    assert average
    for key, value in average.items():  # after the first step it is a copy
        assert torch.equal(value, moved[key.replace("average.", "discriminator.")])


def test_both_networks_learn_over_a_few_steps_in_bfloat16_passes() -> None:
    state = small_run(consistency_weight=1.0)
    before = weights(state)
    for number in range(3):
        training_step(state, state.batches.next(), progress(number), torch.bfloat16)
    after = weights(state)
    assert all(value.isfinite().all() for value in after.values())
    changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {"discriminator", "average", "generator"}


def test_generated_images_leave_batch_norm_statistics_alone() -> None:
    algorithm, models, batch = example(partial(Discriminator, batch_norm=True))
    reference = copy.deepcopy(models["discriminator"])
    reference(batch.labelled[0])
    reference(batch.unlabelled[0])
    step(algorithm, models, batch)
    for key, value in reference.named_buffers():
        torch.testing.assert_close(models["discriminator"].get_buffer(key), value)


@pytest.mark.parametrize("kind", [ConvGenerator, MLPGenerator])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_same_at_two_looks_and_change_nothing(kind: type[nn.Module], channels: int) -> None:
    torch.manual_seed(0)
    algorithm, factory = method(partial(kind, noise_size=5)), Factory()
    factory.spec = DataSpec(channels, 6, 8, 4, 20, (-1.0,) * channels, (1.0,) * channels)
    models = algorithm.build(factory)
    models["generator"](torch.rand(50, 5))  # moves the batch-norm statistics
    state, buffers = torch.get_rng_state(), copy.deepcopy(dict(models["generator"].named_buffers()))
    first, second = (algorithm.sample_images(models)["generated"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert models["generator"].training
    for key, value in models["generator"].named_buffers():
        assert torch.equal(value, buffers[key])
    assert first.dtype == torch.uint8
    assert first.shape == (60, 80, channels)
    assert first.float().std() > 1


def test_a_picture_is_a_square_of_images_row_by_row() -> None:
    _, models, _ = example()
    algorithm = method()
    picture = algorithm.sample_images(models)["generated"].numpy()
    images = numbers(models["generator"], models["sample_noise"].noise)
    for row, column in ((0, 0), (0, 1), (1, 0), (9, 9)):
        tile = picture[3 * row : 3 * row + 3, 4 * column : 4 * column + 4, 0]
        expected = np.round((images[10 * row + column, 0] + 1) / 2 * 255)
        np.testing.assert_allclose(tile, expected, atol=1)  # halves may round either way
    with torch.no_grad():
        models["generator"].body.bias.add_(1.0)
    assert (algorithm.sample_images(models)["generated"].numpy() >= picture).all()
    assert (algorithm.sample_images(models)["generated"].numpy() > picture).any()


@pytest.mark.parametrize("model", [CNN, ConvLarge, MLP, NoisyMLP, WideResNet])
def test_shipped_models_have_features(model: Callable[..., nn.Module]) -> None:
    made = model(1, (12, 12), 3)
    made.eval()
    assert isinstance(made, FeatureModel)
    images = torch.randn(4, 1, 12, 12)
    features = made.features(images)
    assert features.dim() == 2
    torch.testing.assert_close(made.classifier(features), made(images), rtol=0, atol=0)


def test_a_model_without_features_is_refused_in_one_line() -> None:
    plain = cast("Callable[[], nn.Module]", lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)))
    message = (
        r"^algorithm: sgan needs a model with `features` and `classifier`.*Sequential lacks one of them$"
    )
    with pytest.raises(UserError, match=message) as error, user_error_context("algorithm"):
        method().build(Factory(plain))
    assert "\n" not in str(error.value)

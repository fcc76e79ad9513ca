from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf
from torch import nn

import sslbench.models
from sslbench.models import CNN, MLP, Classifier, ConvLarge, NoisyMLP, WideResNet

Constructor = Callable[..., Classifier]
CONF = Path(__file__).parents[2] / "conf" / "model"
SMALL: dict[Constructor, dict[str, Any]] = {
    MLP: {"hidden": [16, 8]},
    CNN: {"width": 4},
    ConvLarge: {},
    NoisyMLP: {"hidden": [16, 8]},
    WideResNet: {"depth": 10, "width": 1},
}
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 20, 24)]


def build(model: Constructor, shape: tuple[int, int, int] = (1, 28, 28), **options: Any) -> Any:
    return model(in_channels=shape[0], image_size=shape[1:], num_classes=5, **{**SMALL[model], **options})


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def of_type(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_names_exported() -> None:
    assert sslbench.models.__all__ == [
        "CNN",
        "MLP",
        "Classifier",
        "ConvGenerator",
        "ConvLarge",
        "MLPGenerator",
        "NoisyMLP",
        "SameNoise",
        "WideResNet",
        "frozen_batch_stats",
    ]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(kind, shape) for kind in SMALL for shape in SHAPES if not (kind is ConvLarge and shape[1] < 12)],
)
def test_shapes_and_gradients(kind: Constructor, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = build(kind, shape).eval()
    images = torch.randn(3, *shape)
    features, logits = model.features(images), model(images)
    assert features.shape == (3, model.classifier.in_features)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(logits, model.classifier(features))
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


#: Saved weights have these names: weights of finished runs must load in later versions.
KEYS = {
    MLP: "1.weight 2.* 5.weight 6.*",
    CNN: "0.weight 2.* 4.weight 6.* 8.weight 10.* 12.weight 13.*",
    ConvLarge: "0.weight 1.* 3.weight 4.* 6.weight 7.* 11.weight 12.* 14.weight 15.* 17.weight 18.*"
    " 22.weight 23.* 25.weight 26.* 28.weight 29.*",
    NoisyMLP: "2.bias 2.parametrizations.weight.original0 2.parametrizations.weight.original1"
    " 5.bias 5.parametrizations.weight.original0 5.parametrizations.weight.original1",
    WideResNet: "0.weight 1.activation.0.* 1.residual.0.weight 1.residual.1.* 1.residual.3.weight"
    " 2.activation.0.* 2.residual.0.weight 2.residual.1.* 2.residual.3.weight"
    " 2.shortcut.weight 3.activation.0.* 3.residual.0.weight 3.residual.1.* 3.residual.3.weight"
    " 3.shortcut.weight 4.*",
}
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("kind", SMALL)
def test_names_of_saved_weights_stay(kind: Constructor) -> None:
    expected = []
    for key in KEYS[kind].split():
        expected += [key.replace("*", name) for name in _BATCH_NORM] if key.endswith("*") else [key]
    found = [key for key in build(kind).state_dict() if not key.startswith("classifier.")]
    assert found == [f"body.{key}" for key in expected]


def test_cnn_takes_96_pixels() -> None:
    assert build(CNN, (3, 96, 96))(torch.randn(2, 3, 96, 96)).shape == (2, 5)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (WideResNet, {"depth": 28, "width": 2}, 1_467_610),
        (ConvLarge, {}, 3_121_802),
        (MLP, {}, 3072 * 1200 + 1200 * 1200 + 4 * 1200 + 1200 * 10 + 10),
        (CNN, {}, 232_794),
    ],
)
def test_parameter_counts(kind: Constructor, options: dict[str, Any], expected: int) -> None:
    assert parameters(kind(in_channels=3, image_size=(32, 32), num_classes=10, **options)) == expected


def test_wrn_depth_counts_convolutions() -> None:
    main_path = [c for c in of_type(build(WideResNet, depth=16), nn.Conv2d) if c.kernel_size == (3, 3)]
    assert len(main_path) == 1 + 12  # with three shortcuts or dense layers more, 16


def test_wrn_batch_norm_options_reach_every_layer() -> None:
    layers = of_type(build(WideResNet, bn_momentum=0.37, bn_eps=0.02), nn.BatchNorm2d)
    assert len(layers) == 7
    assert {(layer.momentum, layer.eps) for layer in layers} == {(0.37, 0.02)}


def test_wrn_only_the_first_shortcut_is_activated() -> None:
    units = [m for m in build(WideResNet, depth=16, width=2).modules() if hasattr(m, "activate_shortcut")]
    assert [unit.activate_shortcut for unit in units] == [True] + 5 * [False]
    for first, unit in ((True, units[0]), (False, units[2])):
        seen: list[torch.Tensor] = []
        unit.shortcut.register_forward_hook(lambda _m, args, _out, seen=seen: seen.append(args[0]))
        x = torch.randn(2, 16 if first else 32, 8, 8)
        unit.eval()(x)
        torch.testing.assert_close(seen[0], unit.activation(x) if first else x)


def test_wrn_initialisation() -> None:
    torch.manual_seed(0)
    model = build(WideResNet, width=4)
    for conv in of_type(model, nn.Conv2d):
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.15)
    assert not model.classifier.bias.any()


@pytest.mark.parametrize(("kind", "count"), [(MLP, 2), (CNN, 1), (ConvLarge, 2)])
def test_dropout_reaches_its_layers(kind: Constructor, count: int) -> None:
    model = build(kind, dropout=0.3)
    assert [layer.p for layer in of_type(model, nn.Dropout)] == count * [0.3]
    images = torch.randn(4, 1, 28, 28)
    assert not torch.equal(model.features(images), model.features(images))
    steady = build(kind, dropout=0.0)
    assert torch.equal(steady.features(images), steady.features(images))


def test_mlp_layers_follow_the_options() -> None:
    assert [(m.in_features, m.out_features) for m in of_type(build(MLP), nn.Linear)] == [
        (784, 16),
        (16, 8),
        (8, 5),
    ]
    assert [m.num_features for m in of_type(build(MLP), nn.BatchNorm1d)] == [16, 8]
    assert of_type(build(MLP, batch_norm=False), nn.BatchNorm1d) == []
    assert len(of_type(build(MLP, hidden=[]), nn.Linear)) == 1


def test_convolutions_use_leaky_relu() -> None:
    for kind in (ConvLarge, WideResNet):
        slopes = {m.negative_slope for m in of_type(build(kind), nn.LeakyReLU)}
        assert slopes == {0.1}
        assert of_type(build(kind), nn.ReLU) == []


def test_no_adaptive_pooling() -> None:
    for kind in SMALL:
        assert of_type(build(kind), nn.AdaptiveAvgPool2d) == []


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (WideResNet, {"depth": 27}, r"depth is 27: it must be 6n \+ 4"),
        (WideResNet, {"depth": 4}, r"depth is 4: it must be 6n \+ 4"),
        (WideResNet, {"width": 0}, "width=0 must be at least 1"),
        (WideResNet, {"bn_momentum": 0.0}, "bn_momentum is 0.0: set it above 0"),
        (WideResNet, {"bn_eps": 0.0}, "bn_eps is 0.0: set it above 0"),
        (CNN, {"width": 1}, "width=1 must be at least 2"),
        (CNN, {"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        (CNN, {"shape": (1, 7, 28)}, "image_size 7x28 is too small .* at least 8x8"),
        (ConvLarge, {"shape": (3, 32, 11)}, "image_size 32x11 is too small .* at least 12x12"),
        (ConvLarge, {"dropout": -0.1}, "dropout=-0.1"),
        (MLP, {"hidden": [16, 0]}, r"hidden\[1\]=0"),
        (MLP, {"dropout": 2.0}, "dropout=2.0"),
    ],
)
def test_bad_hyperparameters_are_named(kind: Constructor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(kind, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "size"), [(CNN, 8), (ConvLarge, 12), (WideResNet, 1)])
def test_smallest_images_train(kind: Constructor, size: int) -> None:
    assert build(kind, (1, size, size))(torch.randn(2, 1, size, size)).shape == (2, 5)


def test_constructors_begin_with_what_the_data_says() -> None:
    for kind in SMALL:
        assert list(inspect.signature(kind).parameters)[:3] == ["in_channels", "image_size", "num_classes"]


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_list_every_hyperparameter(path: Path) -> None:
    config = OmegaConf.load(path)
    model = instantiate(config, in_channels=1, image_size=(28, 28), num_classes=10)
    constructor = get_method(config._target_)
    hyperparameters = list(inspect.signature(constructor).parameters)[3:]
    assert list(config) == ["_target_", *hyperparameters]
    default = constructor(in_channels=1, image_size=(28, 28), num_classes=10)
    if path.stem != "wrn":
        assert str(model) == str(default)

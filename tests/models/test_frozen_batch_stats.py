from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sslbench.models import CNN, MLP, WideResNet, frozen_batch_stats

MODELS = {
    "mlp": lambda: MLP(in_channels=1, image_size=(8, 8), num_classes=3, hidden=[8]),
    "cnn": lambda: CNN(in_channels=1, image_size=(8, 8), num_classes=3, width=4),
    "wrn": lambda: WideResNet(in_channels=1, image_size=(8, 8), num_classes=3, depth=10, width=1),
}
every_model = pytest.mark.parametrize("name", MODELS)


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def images() -> Tensor:
    return 3 + 2 * torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@every_model
def test_buffers_stay_bit_identical(name: str) -> None:
    model = MODELS[name]()
    model(images())  # moves them off their initial values
    before = buffers(model)
    with frozen_batch_stats(model):
        model(images() + 1).sum().backward()
    after = buffers(model)
    assert before.keys() == after.keys()
    assert before
    assert all(torch.equal(before[key], after[key]) for key in before)


@every_model
def test_batch_statistics_are_used(name: str) -> None:
    model = MODELS[name]()
    with frozen_batch_stats(model):
        frozen = model(images())
    # The same pass as an ordinary one in train mode, and another one than evaluation's.
    torch.testing.assert_close(frozen, model(images()), rtol=0, atol=0)
    assert not torch.allclose(frozen, model.eval()(images()))


def test_statistics_move_again_afterwards() -> None:
    model = MODELS["cnn"]()
    with frozen_batch_stats(model):
        model(images())
    before = buffers(model)
    model(images())
    assert all(not torch.equal(before[key], value) for key, value in buffers(model).items())


def test_layers_in_eval_mode_keep_running_statistics() -> None:
    model = MODELS["cnn"]()
    model(images())
    model.eval()
    expected = model(images())
    with frozen_batch_stats(model):
        torch.testing.assert_close(model(images()), expected, rtol=0, atol=0)


def fail_inside(model: nn.Module) -> None:
    with frozen_batch_stats(model):
        raise RuntimeError("inside")


def test_set_back_on_exception_and_when_nested() -> None:
    model = MODELS["cnn"]()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with pytest.raises(RuntimeError, match="inside"):
        fail_inside(model)
    assert all(layer.track_running_stats for layer in layers)
    with frozen_batch_stats(model):
        with frozen_batch_stats(model):
            pass
        assert not any(layer.track_running_stats for layer in layers)
    assert all(layer.track_running_stats for layer in layers)


def test_layers_that_never_track_are_left_so() -> None:
    layer = nn.BatchNorm1d(4, track_running_stats=False)
    with frozen_batch_stats(layer):
        layer(torch.randn(3, 4))
    assert not layer.track_running_stats

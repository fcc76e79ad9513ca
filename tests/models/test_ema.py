from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sslbench.models.ema import frozen_copy, update_average, warmed_up


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def move(model: nn.Module) -> None:
    """A change of the weights, and an ordinary pass that changes the batch-norm statistics."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(2 + 3 * torch.randn(8, 3, dtype=torch.float64))


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def step_of(number: int) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)


def test_average_follows_the_formula() -> None:
    """Over the warm-up and past it, in parameters and batch-norm statistics; the counter is copied."""
    model = network()
    average = frozen_copy(model)
    expected = {name: value.numpy() for name, value in state(average).items()}
    for step in range(7):
        move(model)
        update_average(average, model, warmed_up(0.75, step_of(step)))
        decay = min(1 - 1 / (step + 1), 0.75)
        for name, value in state(model).items():
            if name.endswith("num_batches_tracked"):
                expected[name] = value.numpy()
            else:
                expected[name] = decay * expected[name] + (1 - decay) * value.numpy()
    assert {"0.weight", "1.weight", "1.running_mean", "1.running_var"} < expected.keys()
    for name, value in state(average).items():
        torch.testing.assert_close(value, torch.as_tensor(expected[name]), rtol=1e-12, atol=1e-12, msg=name)
    assert state(average)["1.num_batches_tracked"] == 7


def test_the_first_step_forgets_the_start() -> None:
    model = network()
    average = frozen_copy(model)
    before = state(average)
    move(model)
    update_average(average, model, warmed_up(0.999, torch.tensor(0.0)))
    after, theirs = state(average), state(model)
    assert all(torch.equal(after[name], theirs[name]) for name in after)
    assert all(not torch.equal(after[name], before[name]) for name in after)


def test_the_warm_up_is_a_plain_mean() -> None:
    model = network()
    average = frozen_copy(model)
    weights = []
    for step in range(10):
        move(model)
        weights.append(state(model)["0.weight"])
        update_average(average, model, warmed_up(0.999, step_of(step)))
    torch.testing.assert_close(state(average)["0.weight"], torch.stack(weights).mean(0))


@pytest.mark.parametrize(
    ("decay", "step", "expected"),
    [
        (0.95, 0, 0.0),
        (0.95, 1, 0.5),
        (0.95, 3, 0.75),
        (0.95, 18, 18 / 19),
        (0.95, 20, 0.95),
        (0.95, 10_000, 0.95),
        (0.0, 50, 0.0),
    ],
)
def test_warm_up(decay: float, step: int, expected: float) -> None:
    value = warmed_up(decay, torch.tensor(float(step)))
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, abs=1e-7)


def test_the_model_is_left_alone() -> None:
    model = network()
    average = frozen_copy(model)
    move(model)
    before = state(model)
    update_average(average, model, torch.tensor(0.5))
    after = state(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.grad is None and p.grad_fn is None for p in [*model.parameters(), *average.parameters()])


def test_frozen_copy_is_equal_apart_and_without_gradient() -> None:
    model = network()
    move(model)
    twin = frozen_copy(model)
    assert twin.training
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    ours, theirs = state(twin), state(model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    storages = {value.data_ptr() for value in model.state_dict().values()}
    assert not any(value.data_ptr() in storages for value in twin.state_dict().values())
    move(model)
    assert all(torch.equal(value, ours[name]) for name, value in twin.state_dict().items())

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

import sslbench.losses
from sslbench.config.build import build
from sslbench.losses import ce, entropy, js, kl, l1, mse

CONF = Path(__file__).parents[2] / "conf" / "loss"
DISTANCES = {"mse": mse, "l1": l1, "kl": kl, "js": js, "ce": ce}
ROW_REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mse": lambda p, q: float(np.mean((p - q) ** 2)),
    "l1": lambda p, q: float(np.mean(np.abs(p - q))),
    "kl": lambda p, q: float(np.sum(rel_entr(q, p))),
    "js": lambda p, q: float(jensenshannon(p, q) ** 2),
    "ce": lambda p, q: float(np.sum(rel_entr(q, p)) + scipy_entropy(q)),
}
BOUNDED = settings(max_examples=50, deadline=None)
every_distance = pytest.mark.parametrize("name", DISTANCES)


def drawn(seed: int, rows: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits and target probabilities in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    other = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, other.softmax(1)


def reference(name: str, logits: Tensor, target: Tensor) -> np.ndarray:
    p = softmax(logits.double().numpy(), axis=1)
    return np.array([ROW_REFERENCES[name](*row) for row in zip(p, target.double().numpy(), strict=True)])


def extremes(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every pairing of saturated or flat logits with one-hot, part-zero and uniform targets."""
    logits = [[1e4, -1e4, 0.0], [-1e4, 1e4, -1e4], [1e4, 1e4, -1e4], [0.0, 0.0, 0.0]]
    target = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    return torch.tensor(logits, dtype=dtype)[pairs[:, 0]], torch.tensor(target, dtype=dtype)[pairs[:, 1]]


def test_names_exported() -> None:
    assert sslbench.losses.__all__ == ["ce", "cross_entropy", "entropy", "js", "kl", "l1", "mse", "one_hot"]


@every_distance
def test_equals_scipy_in_float64(name: str) -> None:
    logits, target = drawn(0)
    value = DISTANCES[name](logits, target)
    assert value.shape == (6,)
    np.testing.assert_allclose(value.numpy(), reference(name, logits, target), rtol=1e-10)


@every_distance
def test_equals_scipy_for_one_hot_targets(name: str) -> None:
    logits, _ = drawn(1, rows=5)
    value = DISTANCES[name](logits, torch.eye(5, dtype=torch.float64))
    np.testing.assert_allclose(value.numpy(), reference(name, logits, torch.eye(5)), rtol=1e-10)


@every_distance
def test_gradients_into_logits_and_target(name: str) -> None:
    logits, target = drawn(2)
    assert torch.autograd.gradcheck(DISTANCES[name], (logits.requires_grad_(), target.requires_grad_()))


@pytest.mark.parametrize("name", ["kl", "ce"])
def test_gradient_is_prediction_minus_target(name: str) -> None:
    logits, target = drawn(3)
    DISTANCES[name](logits.requires_grad_(), target).sum().backward()
    torch.testing.assert_close(logits.grad, logits.softmax(1).detach() - target)


@pytest.mark.parametrize("name", ["mse", "l1", "js"])
def test_symmetric(name: str) -> None:
    a, b = drawn(4)[0], drawn(5)[0]
    forth, back = DISTANCES[name](a, b.softmax(1)), DISTANCES[name](b, a.softmax(1))
    torch.testing.assert_close(forth, back)


def test_kl_is_from_target_to_student() -> None:
    logits = torch.zeros(1, 2)
    certain = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(kl(logits, certain), torch.tensor([math.log(2)]))
    # The other direction is infinite for this pair.
    assert kl(torch.tensor([[50.0, -50.0]]), torch.tensor([[0.5, 0.5]])) > 40


@pytest.mark.parametrize("name", ["mse", "l1", "kl", "js"])
def test_zero_at_equality(name: str) -> None:
    logits, _ = drawn(6)
    logits.requires_grad_()
    value = DISTANCES[name](logits, logits.detach().softmax(1))
    torch.testing.assert_close(value.detach(), torch.zeros(6, dtype=torch.float64))
    value.sum().backward()
    # The slope of |x| jumps at 0, where rounding picks its sign.
    if name != "l1":
        torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_ce_at_equality_is_the_entropy() -> None:
    logits, _ = drawn(6)
    torch.testing.assert_close(ce(logits, logits.softmax(1)), entropy(logits))


@every_distance
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite_with_gradients(name: str, dtype: torch.dtype) -> None:
    logits, target = (x.requires_grad_() for x in extremes(dtype))
    value = DISTANCES[name](logits, target)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert target.grad is not None
    assert target.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mse", "l1", "js"])
def test_extremes_equal_scipy(name: str) -> None:
    logits, target = extremes(torch.float32)
    value = DISTANCES[name](logits, target)
    np.testing.assert_allclose(value.numpy(), reference(name, logits, target), atol=1e-6)


@every_distance
def test_wrong_certainty_still_learns(name: str) -> None:
    """A confident mistake keeps a gradient in kl and ce; the bounded distances saturate there by nature."""
    logits = torch.tensor([[1e4, 0.0]], requires_grad=True)
    DISTANCES[name](logits, torch.tensor([[0.0, 1.0]])).sum().backward()
    expected = [[1.0, -1.0]] if name in ("kl", "ce") else [[0.0, 0.0]]
    torch.testing.assert_close(logits.grad, torch.tensor(expected))


def test_js_keeps_its_gradient_where_rounding_leaves_the_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 10, generator=generator)
    target = (logits + 1e-4 * torch.randn(500, 10, generator=generator)).softmax(1)
    value = js(logits.requires_grad_(), target)
    value.sum().backward()
    at_zero = value == 0
    assert at_zero.any()
    assert (value >= 0).all()
    assert logits.grad is not None
    assert (logits.grad[at_zero].abs().sum(1) > 0).all()


@every_distance
@BOUNDED
@given(
    logits=arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32)),
    weights=arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
)
def test_bounds_hold_for_any_input(name: str, logits: np.ndarray, weights: np.ndarray) -> None:
    weights[:, 0] += 1e-3  # so that no row is all zeros
    target = torch.from_numpy(weights / weights.sum(1, keepdims=True))
    student = torch.from_numpy(logits).requires_grad_()
    value = DISTANCES[name](student, target)
    value.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    upper = {"mse": 0.5, "l1": 0.5, "js": math.log(2)}.get(name, 2.1e4)
    assert (value >= -1e-6).all()
    assert (value <= upper + 1e-6).all()


@BOUNDED
@given(logits=arrays(np.float64, (2, 4), elements=st.floats(-50, 50)))
def test_shift_of_logits_changes_nothing(logits: np.ndarray) -> None:
    target = torch.full((2, 4), 0.25, dtype=torch.float64)
    for distance in DISTANCES.values():
        here = distance(torch.from_numpy(logits), target)
        shifted = distance(torch.from_numpy(logits + 7), target)
        torch.testing.assert_close(here, shifted, atol=1e-9, rtol=1e-9)


def test_entropy_equals_scipy() -> None:
    logits, _ = drawn(7)
    expected = scipy_entropy(softmax(logits.numpy(), axis=1), axis=1)
    np.testing.assert_allclose(entropy(logits).numpy(), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(entropy, (logits.requires_grad_(),))


def test_entropy_at_extremes_is_finite_with_gradients() -> None:
    logits = extremes(torch.float32)[0].requires_grad_()
    value = entropy(logits)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(value[0], torch.tensor(0.0))
    torch.testing.assert_close(value[-1], torch.tensor(math.log(3)))


def test_each_distance_has_its_config() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(DISTANCES)
    logits, target = drawn(8)
    for name, distance in DISTANCES.items():
        node: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
        configured = build(node, "loss")
        torch.testing.assert_close(configured(logits, target), distance(logits, target))

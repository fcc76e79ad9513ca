from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from sslbench.core import StepOutput
from sslbench.engine.meter import StepMeter
from sslbench.errors import DivergedError, UserError

CPU = torch.device("cpu")


def scalars(values: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def output(
    loss: float, terms: Mapping[str, float], monitors: Mapping[str, float] | None = None
) -> StepOutput:
    return StepOutput(torch.tensor(loss), scalars(terms), scalars(monitors or {}))


def fed(*outputs: StepOutput, first_step: int = 0) -> StepMeter:
    meter = StepMeter(CPU)
    for step, one in enumerate(outputs, start=first_step):
        meter.add(one, torch.tensor(float(step)))
    return meter


def read(meter: StepMeter) -> dict[str, float]:
    means = meter.means()
    meter.clear()
    return means


def test_means_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    meter = fed(*(output(a, {"supervised": b}, {"weight": c}) for a, b, c in values.tolist()))
    means = values.astype(np.float64).mean(axis=0)
    assert read(meter) == pytest.approx(
        {"train/supervised": means[1], "train/loss": means[0], "train/weight": means[2]}, rel=1e-12
    )


def test_sums_do_not_lose_small_values() -> None:
    # In float32, 2**24 + 1 is 2**24 again.
    meter = fed(output(2.0**24, {}), *(output(1.0, {}) for _ in range(100)))
    assert read(meter) == {"train/loss": (2**24 + 100) / 101}


def test_reading_starts_afresh() -> None:
    meter = fed(output(1.0, {"a": 2.0}), output(3.0, {"a": 4.0}))
    assert read(meter) == {"train/a": 3.0, "train/loss": 2.0}
    meter.add(output(10.0, {"a": 20.0}), torch.tensor(2.0))
    assert read(meter) == {"train/a": 20.0, "train/loss": 10.0}


def test_terms_may_change_after_a_reading() -> None:
    meter = fed(output(1.0, {"a": 2.0}))
    read(meter)
    meter.add(output(5.0, {"b": 6.0, "c": 7.0}), torch.tensor(1.0))
    assert read(meter) == {"train/b": 6.0, "train/c": 7.0, "train/loss": 5.0}


def test_terms_may_change_before_a_reading() -> None:
    """Each mean is that over the steps that had the term."""
    outputs = [output(1.0, {"a": 2.0}), output(5.0, {"b": 6.0}), output(3.0, {"a": 4.0})]
    assert read(fed(*outputs)) == {"train/a": 3.0, "train/loss": 3.0, "train/b": 6.0}


def test_a_bad_term_is_not_forgotten_when_terms_change() -> None:
    meter = fed(output(1.0, {"a": 1.0}), output(1.0, {"a": math.nan}), output(1.0, {"b": math.nan}))
    with pytest.raises(DivergedError, match="'a' became NaN or infinite at step 2:"):
        read(meter)


def test_state_round_trip() -> None:
    meter = fed(output(1.0, {"a": 2.0}), output(5.0, {"b": 6.0}))
    saved = meter.state_dict()
    fresh = StepMeter(CPU)
    fresh.load_state_dict(saved)
    read(meter)
    fresh.add(output(9.0, {"b": 8.0}), torch.tensor(2.0))
    assert read(fresh) == {"train/a": 2.0, "train/loss": 5.0, "train/b": 7.0}


def test_nothing_taken_in() -> None:
    assert read(StepMeter(CPU)) == {}


def test_half_precision_and_gradients() -> None:
    loss = torch.tensor(0.5, requires_grad=True) * 3
    meter = fed(StepOutput(loss, {"a": torch.tensor(0.25, dtype=torch.bfloat16)}))
    assert read(meter) == {"train/a": 0.25, "train/loss": 1.5}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_divergence_names_the_first_bad_term_and_step(bad: float) -> None:
    fine = output(1.0, {"supervised": 1.0, "consistency": 1.0})
    meter = fed(
        fine,
        fine,
        output(bad, {"supervised": 1.0, "consistency": bad}),
        output(bad, {"supervised": bad, "consistency": bad}),
        first_step=40,
    )
    # The output of the step before which 42 were finished is that of step 43.
    with pytest.raises(DivergedError, match=r"'consistency' became NaN or infinite at step 43: lower .*lr"):
        read(meter)
    assert issubclass(DivergedError, UserError)


def test_terms_are_named_before_the_loss() -> None:
    with pytest.raises(DivergedError, match="'second'"):
        read(fed(output(math.nan, {"first": 1.0, "second": math.nan}, {"weight": math.nan})))
    with pytest.raises(DivergedError, match="'loss'"):
        read(fed(output(math.nan, {"first": 1.0, "second": 1.0}, {"weight": math.nan})))


def test_a_monitor_may_be_undefined() -> None:
    means = read(fed(output(1.0, {"first": 1.0}, {"purity": math.nan})))
    assert means["train/loss"] == 1.0
    assert math.isnan(means["train/purity"])


def test_one_bad_step_is_enough() -> None:
    fine = output(1.0, {"a": 1.0})
    with pytest.raises(DivergedError, match=r"'a' became NaN or infinite at step 1:"):
        read(fed(output(1.0, {"a": math.inf}), *[fine] * 20))


def test_divergence_in_a_later_stage_names_the_step_of_the_run() -> None:
    meter = StepMeter(CPU, first_step=100)
    meter.add(StepOutput(scalars({"main": 1.0, "generator": math.nan})), torch.tensor(4.0))
    with pytest.raises(DivergedError, match=r"'generator' became NaN or infinite at step 105:"):
        read(meter)


def test_each_loss_is_read_under_the_name_of_its_optimizer() -> None:
    meter = fed(StepOutput(scalars({"main": 1.0, "generator": 3.0}), scalars({"real": 2.0})))
    assert read(meter) == {"train/real": 2.0, "train/generator": 3.0, "train/loss": 1.0}


def test_the_step_may_move_on_in_place() -> None:
    # The loop counts up one tensor on the device.
    meter, step = StepMeter(CPU), torch.tensor(0.0)
    for value in (1.0, math.nan, 1.0):
        meter.add(output(value, {}), step)
        step += 1
    with pytest.raises(DivergedError, match="at step 2:"):
        read(meter)

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.small_training import MOMENTUM, Rig, Stairs, first_weight, halving
from sslbench.config.schema import Settings
from sslbench.engine.parameter_groups import ParameterGroups
from sslbench.engine.step import set_rates
from sslbench.errors import UserError
from sslbench.run.train import parameter_groups, run

MakeSettings = Callable[..., Settings]

DECAYED = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.3)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return {f"student.{name}": parameter for name, parameter in model.named_parameters()}


def rates(groups: ParameterGroups, model: nn.Module) -> dict[str, tuple[float, float]]:
    """The learning rate and the weight decay of each parameter."""
    parameters = named(model)
    names = {id(parameter): name for name, parameter in parameters.items()}
    optimizer = groups.optimizer(DECAYED, parameters)
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(parameters), "each is in one group"
    return dict(found)


def test_kernels_decay_alone() -> None:
    found = rates(ParameterGroups("kernels"), network())
    for name, pair in found.items():
        assert pair == (0.1, 0.3 if name in ("student.0.weight", "student.3.weight") else 0.0)


def test_parts_have_rates_of_their_own() -> None:
    groups = ParameterGroups("kernels", {"student.0": 0.5, "student.0.bias": 0.0, "student.3": 3.0})
    found = rates(groups, network())
    assert found == {
        "student.0.weight": (0.05, 0.3),
        "student.0.bias": (0.0, 0.0),
        "student.1.weight": (0.1, 0.0),
        "student.1.bias": (0.1, 0.0),
        "student.3.weight": (pytest.approx(0.3), 0.3),
        "student.3.bias": (pytest.approx(0.3), 0.0),
    }


def test_a_name_is_not_a_beginning_of_letters() -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(11)))
    found = rates(ParameterGroups(None, {"student.1": 2.0}), model)
    assert {name for name, (rate, _) in found.items() if rate != 0.1} == {
        "student.1.weight",
        "student.1.bias",
    }


def test_steps_are_those_of_the_formulas() -> None:
    """SGD with Nesterov momentum and weight decay by hand, in float64, for each kind of parameter."""
    model = network().double()
    parameters = named(model)
    groups = ParameterGroups("kernels", {"student.3": 0.5})
    optimizer = groups.optimizer(DECAYED, parameters)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    weights = {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}
    speed = {name: np.zeros_like(value) for name, value in weights.items()}
    random = np.random.default_rng(0)
    for step in range(5):
        set_rates(optimizer.param_groups, halving(step, 5))
        for name, parameter in parameters.items():
            gradient = random.normal(size=parameter.shape)
            parameter.grad = torch.from_numpy(gradient.copy())
            if name.endswith("weight") and "student.1" not in name:
                gradient = gradient + 0.3 * weights[name]
            speed[name] = 0.9 * speed[name] + gradient
            rate = 0.1 * 0.5**step * (0.5 if name.startswith("student.3") else 1.0)
            weights[name] = weights[name] - rate * (gradient + 0.9 * speed[name])
        optimizer.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-12)


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight_decay_on=biases: choose from kernels$"):
        ParameterGroups("biases")
    with pytest.raises(ValueError, match=r"^lr_factors\.a\.b=-1\.0 must not be negative$"):
        ParameterGroups(None, {"a.b": -1.0})


def test_an_optimizer_without_weight_decay_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^weight_decay_on=kernels: LBFGS has no weight decay, leave it out$"
    ):
        ParameterGroups("kernels").optimizer(torch.optim.LBFGS, {"a.weight": nn.Parameter(torch.ones(2, 2))})


def test_a_part_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    groups = ParameterGroups(None, {"low.1": 1.0, "hgih": 2.0})
    with pytest.raises(
        UserError, match=r"^lr_factors names 'hgih', but trained .* high\.1, low\.1, rival\.1$"
    ):
        Rig(tmp_path, Stairs(), groups=groups)


def test_stages_with_several_optimizers(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), groups=ParameterGroups(None, {"low.1.weight": 0.5, "rival": 3.0}))
    before = {name: first_weight(model) for name, model in rig.models.items()}
    rig.train(steps=8)
    moved = {name: first_weight(model) - before[name] for name, model in rig.models.items()}
    assert moved == pytest.approx({"low": -0.5, "high": -1.0, "rival": 3.0}, abs=1e-5)
    assert set(rig.recorder.curve("train/lr").values()) == {0.25}, "that of parameters nothing is said of"


def test_groups_survive_a_checkpoint(tmp_path: Path) -> None:
    groups = ParameterGroups("kernels", {"low.1.weight": 0.5})
    state = Rig(tmp_path, Stairs(), MOMENTUM, groups=groups).state
    saved = copy.deepcopy(state.state_dict())
    fresh = Rig(tmp_path, Stairs(), MOMENTUM, groups=groups).state
    fresh.load_state_dict(saved, 1000)
    assert [group["initial_lr"] for group in fresh.param_groups] == [0.125, 0.25]
    plain = Rig(tmp_path, Stairs(), MOMENTUM).state
    with pytest.raises(UserError, match="does not fit it"):
        plain.load_state_dict(saved, 1000)


def test_null_is_the_plain_optimizer(settings_of: MakeSettings) -> None:
    assert parameter_groups(settings_of()) is None
    for word in ("weight_decay_on=kernels", "+lr_factors={student.body:0.1}"):
        assert settings_of(word).run_id != settings_of().run_id
    assert settings_of("weight_decay_on=null", "lr_factors={}").run_id == settings_of().run_id


def test_a_run_with_groups(settings_of: MakeSettings) -> None:
    words = ["algorithm=supervised", "optimizer=sgd", "weight_decay_on=kernels", "+lr_factors={student:0.0}"]
    accuracies = {run(settings_of(*words, f"steps={steps}"))["test_acc_last"] for steps in (2, 6)}
    assert len(accuracies) == 1, "a rate of 0 moves nothing"
    with pytest.raises(UserError, match=r"^optimizer: weight_decay_on=all: choose from kernels$"):
        run(settings_of("algorithm=supervised", "weight_decay_on=all"))
    with pytest.raises(UserError, match=r"^optimizer: lr_factors\.student=-1\.0 must not be negative$"):
        run(settings_of("algorithm=supervised", "+lr_factors={student:-1}"))
    with pytest.raises(UserError, match=r"^lr_factors names 'teacher', but trained parameters begin with"):
        run(settings_of("algorithm=supervised", "+lr_factors={teacher:1}"))

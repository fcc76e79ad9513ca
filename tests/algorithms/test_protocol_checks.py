"""Own classes that are no algorithms are refused in one line that names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.small_data import SmallData
from sslbench.algorithms.protocol_checks import check_algorithm, check_modules
from sslbench.algorithms.supervised import Supervised
from sslbench.config.schema import Settings
from sslbench.core import Average, Progress, Stage, StepOutput, Views
from sslbench.engine.step import training_step
from sslbench.errors import UserError
from sslbench.run.train import check, run

MakeSettings = Callable[..., Settings]


class Whole:
    """An algorithm; each test takes something from it."""

    views, trained, predictors = Views(), ("student",), ("student",)
    build, step = Supervised.build, Supervised.step


class Staged:
    """An algorithm with stages."""

    stages: tuple[Any, ...] = (Stage(Views(), ("student",), ("student",)),)
    build, step = Supervised.build, Supervised.step

    def begin_stage(self, *_: object) -> None: ...


def changed(base: type, **members: Any) -> Any:
    """A class ``Mine`` like `base`, with other members; those that are None are left out."""
    kept = {name: value for name, value in vars(base).items() if not name.startswith("__")} | members
    return type("Mine", (), {name: value for name, value in kept.items() if value is not None})()


@pytest.mark.parametrize("base", [Whole, Staged])
def test_what_has_all_members_passes(base: type) -> None:
    assert all(isinstance(stage, Stage) for stage in check_algorithm(base()))


@pytest.mark.parametrize(
    ("base", "member", "form"),
    [
        (Whole, "build", "build(new_model), which returns modules by name, such as {'student': new_model()}"),
        (Whole, "step", "step(models, batch, progress), which returns StepOutput(loss, terms)"),
        (Whole, "views", "views, such as Views(labelled=('weak',), unlabelled=('weak',))"),
        (Whole, "trained", "trained, the names of the modules that are updated, such as ('student',)"),
        (
            Whole,
            "predictors",
            "predictors, the names of the modules that are evaluated, such as ('student',)",
        ),
        (Staged, "build", "build(new_model), which"),
        (
            Staged,
            "begin_stage",
            "begin_stage(models, stage, images), which returns positions of images, or None",
        ),
    ],
)
def test_a_missing_member(base: type, member: str, form: str) -> None:
    for algorithm in (changed(base, **{member: None}), base.__new__(type("Mine", (base,), {member: None}))):
        with pytest.raises(UserError) as error:
            check_algorithm(algorithm)
        assert str(error.value).startswith(f"algorithm: Mine has no {member}: give it {form}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (changed(Whole, views=("weak",)), "Mine.views is ('weak',): give it views, such as Views("),
        (changed(Whole, trained="student"), "Mine.trained is 'student': make it a tuple of names"),
        (changed(Whole, trained={"main": ()}), "Mine.trained is (): make it a tuple of names"),
        (changed(Whole, predictors=["student"]), "Mine.predictors is ['student']: make it a tuple of names"),
        (changed(Staged, stages=("one", "two")), "Mine.stages is ('one', 'two'): give it stages, a tuple of"),
        (
            changed(Whole, averages={"ema": ("student", 0.9)}),
            "Mine.averages is {'ema': ('student', 0.9)}: give",
        ),
        (changed(Whole, averages=("ema",)), "Mine.averages is ('ema',): give it {'teacher': Average("),
        (changed(Whole, after_step=lambda *_: None), "Mine.after_step is never called: declare averages"),
    ],
)
def test_a_member_of_another_kind(algorithm: Any, message: str) -> None:
    with pytest.raises(UserError, match="^algorithm: " + re.escape(message)):
        check_algorithm(algorithm)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"trained": ("studnt",)}, "Mine.trained names the module 'studnt', but build made student"),
        ({"trained": {"a": ("student",), "b": ("critic",)}}, "Mine.trained names the module 'critic', but"),
        (
            {"predictors": ("student", "ema")},
            "Mine.predictors names the module 'ema', but build made student",
        ),
        ({"averages": {"ema": Average("student", 0.9)}}, "Mine.averages names the module 'ema', but"),
        ({"averages": {"student": Average("model", 0.9)}}, "Mine.averages names the module 'model', but"),
    ],
)
def test_a_module_that_build_did_not_make(members: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match="^algorithm: " + re.escape(message)):
        check_modules(changed(Whole, **members), {"student": nn.Identity()})


@pytest.mark.parametrize("models", [None, nn.Identity(), {"student": nn.Identity}])
def test_what_build_returns(models: Any) -> None:
    with pytest.raises(UserError, match=r"^algorithm: Mine\.build returned no modules by name, such as"):
        check_modules(changed(Whole), models)


def scalar() -> Tensor:
    return torch.ones((), requires_grad=True) * 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (scalar(), r"Mine\.step returned a Tensor: return StepOutput\(loss, terms\)"),
        (None, r"Mine\.step returned a NoneType: return"),
        ((scalar(), {}), r"Mine\.step returned a tuple: return"),
        (
            StepOutput({"other": scalar()}),
            r"Mine\.step has a loss for the optimizer 'other', but there are main",
        ),
        (
            StepOutput(torch.ones(3) * scalar()),
            r"Mine\.step: the loss of 'main' must be a scalar tensor with a",
        ),
        (
            StepOutput(torch.ones(())),
            r"Mine\.step: the loss of 'main' must be a scalar tensor with a gradient",
        ),
        (StepOutput({"main": 3.0}), r"Mine\.step: the loss of 'main' must be a scalar tensor"),
    ],
)
def test_what_step_returns(returned: Any, message: str) -> None:
    state = SmallData().state(changed(Whole, step=lambda *_: returned))
    with pytest.raises(UserError, match=f"^algorithm: {message}"):
        training_step(state, state.batches.next(), Progress(torch.zeros(()), 9), None)


class NoViews(Whole):
    views = None  # type: ignore[assignment]


class OtherModule(Whole):
    predictors = ("average",)


class TensorStep(Whole):
    def step(self, *arguments: Any) -> Any:
        return Supervised().step(*arguments).losses["main"]


class NoClose:
    """A logger that was not finished."""

    def start(self, *_: object) -> None: ...

    advance = log = show = start


def own(settings: Settings, kind: type) -> Settings:
    return replace(settings, algorithm={"_target_": f"{kind.__module__}.{kind.__name__}"})


def test_an_algorithm_is_refused_before_the_data_are_loaded(settings_of: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"^algorithm: NoViews has no views: give it"):
        check(own(settings_of(), NoViews))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (OtherModule, r"OtherModule\.predictors names the module 'average', but build made student$"),
        (TensorStep, r"TensorStep\.step returned a Tensor: return StepOutput\(loss, terms\), or yield some$"),
    ],
)
def test_an_algorithm_is_refused_in_a_run(settings_of: MakeSettings, kind: type, message: str) -> None:
    with pytest.raises(UserError, match=f"^algorithm: {message}"):
        run(own(settings_of("steps=2"), kind))


def test_a_logger_is_refused_before_training(settings_of: MakeSettings) -> None:
    settings = replace(settings_of(), logger={"_target_": f"{NoClose.__module__}.NoClose"})
    with pytest.raises(
        UserError, match=r"^logger: NoClose has no method close\(status, result\): write one$"
    ):
        run(settings)
    assert not settings.directory().exists()

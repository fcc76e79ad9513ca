"""Refuses classes that are no algorithms, in one line that says what to write."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.core import Average, Stage, StepOutput, Views
from sslbench.errors import UserError

_BOTH = {
    "build": "build(new_model), which returns modules by name, such as {'student': new_model()}",
    "step": "step(models, batch, progress), which returns StepOutput(loss, terms)",
}
_ONE_STAGE = _BOTH | {
    "views": "views, such as Views(labelled=('weak',), unlabelled=('weak',))",
    "trained": "trained, the names of the modules that are updated, such as ('student',)",
    "predictors": "predictors, the names of the modules that are evaluated, such as ('student',)",
}
_STAGED = _BOTH | {
    "stages": "stages, a tuple of Stage(views, trained, predictors)",
    "begin_stage": "begin_stage(models, stage, images), which returns positions of images, or None",
}


def check_algorithm(algorithm: AnyAlgorithm) -> tuple[Stage, ...]:
    """The stages of `algorithm`; raises `UserError` if it lacks a member, or has one in another form."""
    for member, form in (_STAGED if hasattr(algorithm, "stages") else _ONE_STAGE).items():
        if getattr(algorithm, member, None) is None:
            raise _error(algorithm, f" has no {member}: give it {form}")
    if hasattr(algorithm, "after_step"):
        raise _error(algorithm, ".after_step is never called: declare averages, and do the rest in step")
    stages = stages_of(algorithm)
    for stage in stages:
        if not isinstance(stage, Stage):
            raise _error(algorithm, f".stages is {stages!r}: give it {_STAGED['stages']}")
        if not isinstance(stage.views, Views):
            raise _error(algorithm, f".views is {stage.views!r}: give it {_ONE_STAGE['views']}")
        averages = stage.averages.values() if isinstance(stage.averages, Mapping) else (None,)
        if not all(isinstance(average, Average) for average in averages):
            raise _error(
                algorithm, f".averages is {stage.averages!r}: give it {{'teacher': Average(of, decay)}}"
            )
        for member, names in [("predictors", stage.predictors), *_trained(stage)]:
            if not (isinstance(names, tuple) and names):
                raise _error(algorithm, f".{member} is {names!r}: make it a tuple of names, ('student',)")
    return stages


def _trained(stage: Stage) -> list[tuple[str, tuple[str, ...]]]:
    return [("trained", names) for names in stage.optimizers.values()]


def check_modules(algorithm: AnyAlgorithm, models: dict[str, nn.Module]) -> None:
    """Raise `UserError` unless `build` returned every module that the stages name."""
    if not (isinstance(models, dict) and all(isinstance(model, nn.Module) for model in models.values())):
        raise _error(algorithm, ".build returned no modules by name, such as {'student': new_model()}")
    for stage in stages_of(algorithm):
        averages = [("averages", (name, average.of)) for name, average in stage.averages.items()]
        for member, names in [("predictors", stage.predictors), *_trained(stage), *averages]:
            for name in names:
                if name not in models:
                    made = ", ".join(models)
                    raise _error(algorithm, f".{member} names the module '{name}', but build made {made}")


def check_output(algorithm: AnyAlgorithm, output: object, optimizers: Collection[str]) -> StepOutput:
    """What `step` gave; raises `UserError` unless it has a scalar loss for each optimizer that it names."""
    if not isinstance(output, StepOutput):
        kind = type(output).__name__
        raise _error(algorithm, f".step returned a {kind}: return StepOutput(loss, terms), or yield some")
    for name, loss in output.losses.items():
        if name not in optimizers:
            known = ", ".join(optimizers)
            raise _error(algorithm, f".step has a loss for the optimizer '{name}', but there are {known}")
        if not (isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad):
            raise _error(algorithm, f".step: the loss of '{name}' must be a scalar tensor with a gradient")
    return output


def _error(algorithm: AnyAlgorithm, what: str) -> UserError:
    return UserError(f"algorithm: {type(algorithm).__name__}{what}")

"""Optimizers that treat some parameters otherwise: without weight decay, or with another learning rate."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from sslbench.checks import check_choice, check_not_negative
from sslbench.errors import UserError

#: Makes an optimizer of parameters, or of groups of them in torch's form.
NewOptimizer = Callable[[Any], Optimizer]

#: What weight decay may be restricted to: weights of two dimensions or more, so neither biases nor the scales
#: and shifts of normalisation layers.
KERNELS = "kernels"


@final
@dataclass(frozen=True)
class ParameterGroups:
    """Which parameters an optimizer treats otherwise.

    Args:
        weight_decay_on: `KERNELS`, or None for all parameters.
        lr_factors: factors on the learning rate, by the part of a module: ``student.classifier`` is the part
            `classifier` of the module that the algorithm calls `student`. Of several that fit, the longest
            counts.

    Raises:
        ValueError: a value is out of range.
    """

    weight_decay_on: str | None = None
    lr_factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weight_decay_on is not None:
            check_choice((KERNELS,), weight_decay_on=self.weight_decay_on)
        for name, factor in self.lr_factors.items():
            check_not_negative(**{f"lr_factors.{name}": factor})

    def check_names(self, names: Collection[str]) -> None:
        """Raise `UserError` if a part is none of the trained parameters, of which these are the names."""
        for part in self.lr_factors:
            if not any(_is_within(name, part) for name in names):
                begin = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names})[:8])
                raise UserError(f"lr_factors names '{part}', but trained parameters begin with {begin}")

    def optimizer(self, new_optimizer: NewOptimizer, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
        """The optimizer of `parameters` by name, in groups; those that nothing is said of come first.

        Raises:
            UserError: it has no weight decay that could be restricted.
        """
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): []}
        for name, parameter in parameters.items():
            decayed = self.weight_decay_on is None or parameter.ndim > 1
            groups.setdefault((self._factor(name), decayed), []).append(parameter)
        kept = {key: members for key, members in groups.items() if members}
        optimizer = new_optimizer(
            [
                {"params": members} if decayed else {"params": members, "weight_decay": 0.0}
                for (_, decayed), members in kept.items()
            ]
        )
        if self.weight_decay_on is not None and "weight_decay" not in optimizer.defaults:
            kind = type(optimizer).__name__
            raise UserError(
                f"weight_decay_on={self.weight_decay_on}: {kind} has no weight decay, leave it out"
            )
        for (factor, _), group in zip(kept, optimizer.param_groups, strict=True):
            group["lr"] *= factor
        return optimizer

    def _factor(self, name: str) -> float:
        fitting = [part for part in self.lr_factors if _is_within(name, part)]
        return self.lr_factors[max(fitting, key=len)] if fitting else 1.0


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")

"""Running means of a step's scalars, kept on the device and read only when they are logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from sslbench.core import StepOutput
from sslbench.errors import DivergedError


@final
class StepMeter:
    """Means since it was last cleared, and the first step at which a term was not finite.

    Its tensors keep their place, so that a recorded step finds them. The host counts the steps: `count` is to
    be raised with every `add`, recorded or not.

    Args:
        device: where the scalars live.
        first_step: of the run, at which its stage began.
    """

    def __init__(self, device: torch.device, first_step: int = 0) -> None:
        self._device, self._first_step = device, first_step
        self._names: tuple[str, ...] = ()
        self._sums = torch.empty(0, device=device)
        self._first_bad = torch.empty(0, device=device)
        self.count = 0

    def add(self, output: StepOutput, step: Tensor) -> None:
        """Take in the output of a step before which its stage had finished `step`, ``[]``; never waits.

        Terms come before the loss, so that the part that broke is named before the sum.
        """
        watched_terms = {**output.terms, **output.rivals, "loss": output.loss}
        scalars = {**watched_terms, **output.monitors}
        watched = len(watched_terms)  # a monitor may be 0 / 0, of a mask that let nothing through
        if self._names != tuple(scalars):
            self._names = tuple(scalars)
            self._sums = torch.zeros(len(scalars), dtype=torch.float64, device=self._device)
            self._first_bad = torch.full((watched,), torch.inf, device=self._device)
        values = torch.stack([value.detach().float() for value in scalars.values()])
        self._sums += values
        bad = torch.where(values[:watched].isfinite(), torch.inf, step + 1)
        torch.minimum(self._first_bad, bad, out=self._first_bad)

    def check(self) -> None:
        """Waits for the device.

        Raises:
            DivergedError: a term was NaN or infinite at some step since the meter was cleared.
        """
        first_bad = self._first_bad.tolist()
        step = min(first_bad, default=torch.inf)
        if step < torch.inf:
            of_the_run = self._first_step + int(step)
            name = self._names[first_bad.index(step)]
            raise DivergedError(
                f"'{name}' became NaN or infinite at step {of_the_run}: lower optimizer.lr or the weight of "
                f"the unlabelled loss, or set precision=fp32"
            )

    def means(self) -> dict[str, float]:
        """The means, as ``train/<name>``. Waits for the device.

        Raises:
            DivergedError: as `check` does.
        """
        self.check()
        means = (self._sums / self.count).tolist()
        return {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}

    def clear(self) -> None:
        """Begin anew."""
        self.count = 0
        self._sums.zero_()
        self._first_bad.fill_(torch.inf)

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in."""
        return {
            "first_step": self._first_step,
            "names": list(self._names),
            "sums": self._sums,
            "first_bad": self._first_bad,
            "count": self.count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._first_step, self.count = state["first_step"], state["count"]
        self._names = tuple(state["names"])
        self._sums, self._first_bad = (
            state[key].to(self._device, copy=True) for key in ("sums", "first_bad")
        )

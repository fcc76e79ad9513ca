"""Running means of a step's scalars, kept on the device and read only when they are logged."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from sslbench.core import MAIN, StepOutput
from sslbench.errors import DivergedError


@final
class StepMeter:
    """Means since it was last cleared, and the first step at which a term was not finite.

    The scalars of steps that have the same names share a tensor of sums, which keeps its place, so that a
    captured step finds it. The last sum is the number of these steps.

    Args:
        device: where the scalars live.
        first_step: of the run, at which its stage began.
    """

    def __init__(self, device: torch.device, first_step: int = 0) -> None:
        self._device, self._first_step = device, first_step
        self._one = torch.ones((), device=device)
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._first_bad: dict[tuple[str, ...], Tensor] = {}

    def add(self, output: StepOutput, step: Tensor) -> None:
        """Take in the output of a step before which its stage had finished `step`, ``[]``; never waits.

        Terms and other losses come before the main loss, so that the part that broke is named before the sum.
        """
        watched_terms = {**output.terms, **output.losses}
        if MAIN in output.losses:
            watched_terms["loss"] = watched_terms.pop(MAIN)
        scalars = {**watched_terms, **output.monitors}
        watched = len(watched_terms)  # a monitor may be 0 / 0, of a mask that let nothing through
        names = tuple(scalars)
        if names not in self._sums:
            self._sums[names] = torch.zeros(len(names) + 1, dtype=torch.float64, device=self._device)
            self._first_bad[names] = torch.full((watched,), torch.inf, device=self._device)
        values = torch.stack([*(value.detach().float() for value in scalars.values()), self._one])
        self._sums[names] += values
        first_bad = self._first_bad[names]
        bad = torch.where(values[:watched].isfinite(), torch.inf, step + 1)
        torch.minimum(first_bad, bad, out=first_bad)

    def check(self) -> None:
        """Waits for the device.

        Raises:
            DivergedError: a term was NaN or infinite at some step since the meter was cleared.
        """
        bad = [
            (step, name)
            for names, steps in self._first_bad.items()
            for name, step in zip(names, steps.tolist(), strict=False)
            if step < torch.inf
        ]
        if bad:
            step, name = min(bad, key=lambda entry: entry[0])  # the first of those of one step
            raise DivergedError(
                f"'{name}' became NaN or infinite at step {self._first_step + int(step)}: lower optimizer.lr "
                f"or the weight of the unlabelled loss, or set precision=fp32"
            )

    def means(self) -> dict[str, float]:
        """The mean of each scalar over the steps that had it, as ``train/<name>``. Waits for the device.

        Raises:
            DivergedError: as `check` does.
        """
        self.check()
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, tensor in self._sums.items():
            *values, count = tensor.tolist()
            if count:
                for name, value in zip(names, values, strict=True):
                    sums[name] = sums.get(name, 0.0) + value
                    counts[name] = counts.get(name, 0.0) + count
        return {f"train/{name}": value / counts[name] for name, value in sums.items()}

    def clear(self) -> None:
        """Begin anew."""
        for sums in self._sums.values():
            sums.zero_()
        for first_bad in self._first_bad.values():
            first_bad.fill_(torch.inf)

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in."""
        sums = [(list(names), sums, self._first_bad[names]) for names, sums in self._sums.items()]
        return {"first_step": self._first_step, "sums": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self._first_step = state["first_step"]
        self._sums, self._first_bad = {}, {}
        for names, sums, first_bad in state["sums"]:
            self._sums[tuple(names)] = sums.to(self._device, copy=True)
            self._first_bad[tuple(names)] = first_bad.to(self._device, copy=True)

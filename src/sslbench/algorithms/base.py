"""What an algorithm is. Each is one final class in a file of its own, with one yaml beside the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from sslbench.core import Batch, ModelFactory, Progress, StepOutput, Views


class Algorithm(Protocol):
    """A semi-supervised method, as the step loop sees it.

    It gets batches with the views that it declares and returns a loss; it never sees the configuration,
    the data layer, the optimizer or the loggers. All that must survive a restart lives in the modules it
    returns from `build`: a teacher is one of them, and running statistics are buffers.
    """

    @property
    def views(self) -> Views:
        """The augmented views a batch must have."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the modules that the optimizer updates."""

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the modules that are evaluated; validation of the first picks the checkpoint."""

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """Make the modules, by name; called once a run, before they move to the training device."""

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        """The loss of one batch. Must not wait for the device: no ``.item()``, no branch on a tensor."""

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        """Called after the optimizer's update, for teachers and running statistics."""

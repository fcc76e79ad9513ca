"""Where Hydra looks for sweepers: it takes those of the namespace ``hydra_plugins`` only.

Hydra imports this for every application in the environment, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class GridSweeper(Sweeper):
    """`sslbench.sweep.grid.sweep` as Hydra calls it.

    Args:
        params: values by key, as ``-m key=values`` takes them; what is typed wins.
        max_batch_size: runs that a launcher is handed at once (a Slurm array has a greatest length); by
            default all.
    """

    def __init__(self, params: Mapping[str, Any] | None = None, max_batch_size: int | None = None) -> None:
        super().__init__()
        self._params = dict(params or {})
        self._batch = max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination.

        Args:
            arguments: as typed, without those to Hydra.

        Raises:
            SweepError: a configuration is wrong, and nothing was run; or not every run is finished.
        """
        from sslbench.sweep.grid import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        values = [f"{key}={value}" for key, value in self._params.items()]
        sweep(
            [*values, *arguments], self.config, self.hydra_context.config_loader, self.launcher, self._batch
        )

"""Where Hydra looks for sweepers and launchers: it takes those of the namespace ``hydra_plugins`` only.

Hydra imports this for every application in the environment, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class GridSweeper(Sweeper):
    """`sslbench.sweep.grid.sweep` as Hydra calls it.

    Args:
        params: values by key, as ``-m key=values`` takes them; what is typed wins.
        max_batch_size: runs that a launcher is given at once (a Slurm array has a greatest length); by
            default all.
    """

    def __init__(self, params: Mapping[str, Any] | None = None, max_batch_size: int | None = None) -> None:
        super().__init__()
        self._params = dict(params or {})
        self._batch_size = max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination; see `sslbench.sweep.grid.sweep`."""
        from sslbench.sweep.grid import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        values = [f"{key}={value}" for key, value in self._params.items()]
        sweep(
            [*values, *arguments],
            self.config,
            self.hydra_context.config_loader,
            self.launcher,
            self._batch_size,
        )


@final
class LocalLauncher(Launcher):
    """Says how many runs `GridSweeper` carries out side by side on this machine.

    Args:
        n_jobs: runs at once; by default, and if it is -1, one on each place on GPUs or on each CPU core.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = None if n_jobs == -1 else n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse the jobs of another sweeper.

        Raises:
            UserError: always.
        """
        from sslbench.errors import UserError

        raise UserError("launcher=local runs the sweeps of hydra/sweeper=grid alone: give launcher=none")

"""What Hydra calls for a run, here or as a job in a worker on another machine.

Importing this module registers with Hydra what the configuration refers to: a worker imports it when it is
handed the task, before it composes a configuration.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sslbench.config import schema
from sslbench.config.checks import check_values
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.run.resume import resumed

#: In the environment of a job, where the sweep was typed.
FOLDER = "SSLBENCH_SWEEP_FOLDER"
#: And the id of the run, as planned.
RUN = "SSLBENCH_SWEEP_RUN"

schema.register()


def settings_of(composed: DictConfig) -> Settings:
    """The settings of the run that Hydra is about to start."""
    context = HydraConfig.get()
    typed: Any = OmegaConf.to_container(
        context.overrides.task, resolve=False
    )  # `split_seed=${seed}` as it is
    return schema.from_config(composed, context.runtime.choices, list(typed))


def task(composed: DictConfig) -> float:
    """One run, in a sweep as a job of a launcher; returns the best validation accuracy."""
    context = HydraConfig.get()
    if context.mode == RunMode.MULTIRUN:
        result = _job(composed, Path(context.sweep.dir).absolute())
    else:
        result = _single(settings_of(composed))
    return float(result["val_acc_best"])


def _job(composed: DictConfig, sweep: Path) -> dict[str, Any]:
    from sslbench.rundir.lock import FolderLockedError
    from sslbench.sweep.run_process import STOP, RunInterruptedError, train_in_process

    planned = os.environ.get(RUN)  # not by Hydra's own sweepers
    try:
        # A worker on another machine may begin anywhere; paths are relative to where the sweep was typed.
        os.chdir(os.environ.get(FOLDER, "."))
        settings = settings_of(composed)
        if planned and settings.run_id != planned:
            raise UserError(
                f"planned was {planned}, and the worker makes {settings.run_id} of the same command: "
                f"give both the same version of sslbench, the same files and the same environment"
            )
        return train_in_process(settings, sweep)
    except (FolderLockedError, RunInterruptedError):
        raise
    except Exception:
        if OmegaConf.select(composed, "fail_fast", throw_on_resolution_failure=False) is True:
            with suppress(OSError):  # before this worker begins another run
                (sweep / STOP).touch()
        raise


def _single(settings: Settings) -> dict[str, Any]:
    if settings.resume is not None:
        settings = resumed(settings)
    check_values(settings)
    from sslbench.rundir.records import RunState
    from sslbench.rundir.result import finished_result
    from sslbench.rundir.status import read_status

    directory = settings.directory()
    result = finished_result(directory, settings)
    if result is None or read_status(directory).get("status") != RunState.FINISHED:
        from sslbench.run.train import run

        return run(settings)
    from sslbench.tracking import show_result

    print("This run is finished already; to train it again, delete its folder or give another run_dir.")
    show_result(result, directory)
    return result

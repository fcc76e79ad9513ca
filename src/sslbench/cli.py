"""The command ``sslbench``: Hydra composes a configuration and one run trains on it.

Nothing here imports torch before a run starts: help, completion and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sslbench import config
from sslbench.composition_errors import in_one_line
from sslbench.errors import UserError

_FULL_ERROR = "HYDRA_FULL_ERROR"
_failures: list[UserError] = []


def _job(composed: DictConfig) -> float:
    """One run; returns the objective for sweepers, the best validation accuracy."""
    context = HydraConfig.get()
    settings = config.from_config(composed, context.runtime.choices, _typed(context.overrides.task))
    config.check_values(settings)
    from sslbench.rundir import finished_result

    directory = settings.directory()
    result = finished_result(directory, settings)
    if result is not None:
        from sslbench.tracking import show_result

        print("This run is finished already; to train it again, delete its folder or give another run_dir.")
        show_result(result, directory)
    else:
        from sslbench.run import run

        result = run(settings)
    return float(result["val_acc_best"])


def _typed(overrides: Any) -> list[str]:
    """Hydra's list of overrides as typed: one like ``split_seed=${seed}`` stays as it is."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return list(plain)


def _task(composed: DictConfig) -> float:
    """`_job` at the border to Hydra, which would add lines of its own to an error in a single run.

    In a sweep a failure is told when it happens and the other jobs go on.
    """
    try:
        return _job(composed)
    except UserError as error:
        context = HydraConfig.get()
        if context.mode == RunMode.MULTIRUN:
            _say(f"{error} [{' '.join(_typed(context.overrides.task))}]")
            raise
        _say(str(error))
        _failures.append(error)
        return math.nan


def _say(message: str) -> None:
    print(f"sslbench: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; a mistake that the user can mend is one line and exit code 1."""
    config.register()
    if os.environ.get(_FULL_ERROR) == "1":  # asked for by the user
        _hydra_main()
        sys.exit(1 if _failures else 0)
    os.environ[_FULL_ERROR] = "1"  # Hydra hands errors up instead of printing them over many lines
    try:
        _hydra_main()
    except UserError:  # of a job in a sweep, told when it happened
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        _say(in_one_line(error, sys.argv[1:]))
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from the last checkpoint")
        sys.exit(130)
    finally:
        del os.environ[_FULL_ERROR]
    if _failures:
        sys.exit(1)


def _hydra_main() -> None:
    hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")(_task)()


if __name__ == "__main__":
    main()

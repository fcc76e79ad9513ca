"""The command ``sslbench``: Hydra composes a configuration and one run trains on it.

Nothing here imports torch before a run starts: help, completion and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import math
import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sslbench import config
from sslbench.composition_errors import in_one_line
from sslbench.errors import SweepError, UserError
from sslbench.signals import exit_code
from sslbench.sweep.task import task

_FULL_ERROR = "HYDRA_FULL_ERROR"
_failures: list[UserError] = []


def _task(composed: DictConfig) -> float:
    """`task` at the border to Hydra, which would add lines of its own to an error in a single run."""
    try:
        return task(composed)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        _say(str(error))
        _failures.append(error)
        return math.nan


def _say(message: str) -> None:
    print(f"sslbench: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; a mistake that the user can mend is one line and exit code 1."""
    if os.environ.get(_FULL_ERROR) == "1":  # asked for by the user
        _hydra_main()
        sys.exit(1 if _failures else 0)
    os.environ[_FULL_ERROR] = "1"  # Hydra hands errors up instead of printing them over many lines
    try:
        _hydra_main()
    except SweepError:  # told already
        sys.exit(1)
    except UserError as error:  # in a sweep
        _say(str(error))
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        _say(in_one_line(error, sys.argv[1:]))
        sys.exit(1)
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):  # all that Hydra raises this way
            raise
        _say("a group cannot be null: leave it out, or give one of its choices (--help lists them)")
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        _say("interrupted; the same command goes on from the last checkpoint")
        sys.exit(exit_code(interrupt))
    finally:
        del os.environ[_FULL_ERROR]
    if _failures:
        sys.exit(1)


def _hydra_main() -> None:
    hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")(_task)()


if __name__ == "__main__":
    main()

"""The command ``sslbench``: Hydra composes a configuration and one run trains on it.

Nothing here imports torch before a run starts: help, completion and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import io
import math
import os
import sys
from argparse import Namespace
from contextlib import redirect_stderr, suppress
from traceback import walk_tb

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.sslbench_sweeper import GridSweeper
from sslbench.cli.help import help_text
from sslbench.config import schema
from sslbench.config.hydra_errors import in_one_line
from sslbench.errors import SweepError, UserError
from sslbench.sweep.task import task
from sslbench.system.signals import exit_code
from sslbench.system.text import printable, short

_FULL_ERROR = "HYDRA_FULL_ERROR"
_LONGEST = 2000  # characters of what is told; what was typed may have more
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
    with suppress(OSError):  # of a terminal that is gone
        print(f"sslbench: {short(printable(message), _LONGEST)}", file=sys.stderr, flush=True)


def _flags() -> Namespace:
    """The flags; refuses in one line what Hydra's parser would refuse with its whole usage."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            flags = get_args_parser().parse_args()
    except SystemExit as stop:
        if stop.code:
            _say(told.getvalue().splitlines()[-1].partition("error: ")[2] + " (--hydra-help lists the flags)")
        raise
    if flags.experimental_rerun is not None:  # a pickle, which nothing here writes
        raise UserError("--experimental-rerun is not supported: type the run's command again")
    return flags


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra raised it, and not what it hands a composed configuration to."""
    ours = _task.__code__, GridSweeper.sweep.__code__
    return not any(frame.f_code in ours for frame, _ in walk_tb(error.__traceback__))


def main() -> None:
    """Run the command; a mistake that the user can mend is one line and exit code 1."""
    if os.environ.get(_FULL_ERROR) == "1":  # asked for by the user
        try:
            _answer()
        except KeyboardInterrupt as interrupt:
            sys.exit(exit_code(interrupt))
        sys.exit(1 if _failures else 0)
    os.environ[_FULL_ERROR] = "1"  # Hydra hands errors up instead of printing them over many lines
    try:
        _answer()
    except SweepError:  # told already
        sys.exit(1)
    except UserError as error:  # in a sweep
        _say(str(error))
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not (_is_hydras(error) or isinstance(error, HydraException | OmegaConfBaseException)):
            raise
        _say(in_one_line(error, sys.argv[1:]))
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        how_far = getattr(interrupt, "__notes__", [])
        _say(f"{': '.join(['interrupted', *how_far])}; the same command continues")
        sys.exit(exit_code(interrupt))
    finally:
        del os.environ[_FULL_ERROR]
    if _failures:
        sys.exit(1)


def _answer() -> None:
    flags = _flags()
    if flags.help:
        print(help_text(flags.config_dir), end="", flush=True)
        return
    hydra.main(version_base="1.3", config_path=str(schema.conf_dir()), config_name="config")(_task)()

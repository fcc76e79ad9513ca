"""The command ``sslbench``: Hydra composes a configuration and one run trains on it.

Nothing here imports torch before a run starts: help, completion and ``--cfg job`` answer at once.
"""

import io
import math
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from traceback import walk_tb

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.sslbench_sweeper import GridSweeper
from sslbench import __version__
from sslbench.cli.help import groups, help_text
from sslbench.config import schema
from sslbench.config.hydra_errors import describe
from sslbench.errors import SweepError, UserError
from sslbench.sweep.task import task
from sslbench.system.signals import exit_code
from sslbench.system.text import complain

_FULL_ERROR = "HYDRA_FULL_ERROR"
#: Keys that Hydra's users type for the folder of a run or a sweep.
_HYDRAS_FOLDERS = ("hydra.run", "hydra.run.dir", "hydra.sweep", "hydra.sweep.dir")
_failures: list[UserError] = []


def _task(composed: DictConfig) -> float:
    """`task`, with the error of a single run printed here: Hydra would add lines of its own to it."""
    try:
        return task(composed)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        complain(str(error))
        _failures.append(error)
        return math.nan


def _flags() -> Namespace:
    """The flags; a wrong one is refused in one line, where Hydra's parser prints its whole usage."""
    usage = io.StringIO()
    try:
        with redirect_stderr(usage):
            flags = get_args_parser().parse_args()
    except SystemExit as stop:
        if stop.code:
            reason = usage.getvalue().splitlines()[-1].partition("error: ")[2]
            complain(f"{reason} (--hydra-help lists the flags)")
        raise
    if flags.experimental_rerun is not None:  # a pickle, which nothing here writes
        raise UserError("--experimental-rerun is not supported: type the run's command again")
    for override in flags.overrides:
        if override.partition("=")[0].lstrip("+~") in _HYDRAS_FOLDERS:
            raise UserError(
                f"{override} does not move a run: type run_dir=DIR for the folder of one run, or "
                f"output_root=DIR for the folder in which all runs and sweeps have theirs"
            )
    return flags


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra raised it, and not the task or the sweeper that it calls."""
    ours = _task.__code__, GridSweeper.sweep.__code__
    return not any(frame.f_code in ours for frame, _ in walk_tb(error.__traceback__))


def main() -> None:
    """Run the command; an error that the user can mend is one line and exit code 1."""
    if os.environ.get(_FULL_ERROR) == "1":  # set by the user
        try:
            _answer()
        except KeyboardInterrupt as interrupt:
            sys.exit(exit_code(interrupt))
        sys.exit(1 if _failures else 0)
    os.environ[_FULL_ERROR] = "1"  # Hydra raises errors instead of printing them over many lines
    try:
        _answer()
    except SweepError:  # printed already
        sys.exit(1)
    except UserError as error:  # in a sweep
        complain(str(error))
        sys.exit(1)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not (_is_hydras(error) or isinstance(error, HydraException | OmegaConfBaseException)):
            raise
        complain(describe(error, sys.argv[1:]))
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        complain(next(iter(getattr(interrupt, "__notes__", ())), "interrupted; the same command continues"))
        sys.exit(exit_code(interrupt))
    finally:
        del os.environ[_FULL_ERROR]
    if _failures:
        sys.exit(1)


def _answer() -> None:
    if "--version" in sys.argv[1:]:  # Hydra's parser would print Hydra's
        print(f"sslbench {__version__}", flush=True)
        return
    flags = _flags()
    if flags.help:
        print(help_text(flags.overrides, flags.config_dir), end="", flush=True)
        return
    command = hydra.main(version_base="1.3", config_path=str(schema.conf_dir()), config_name="config")(_task)
    if not (flags.shell_completion and flags.overrides[:1] in (["query=bash"], ["query=fish"])):
        command()
        return
    with redirect_stdout(io.StringIO()) as found:
        command()
    separator = " " if flags.overrides == ["query=bash"] else "\n"
    print(separator.join(_completed(os.environ["COMP_LINE"], found.getvalue().split())))


def _completed(line: str, found: Iterable[str]) -> list[str]:
    """The completions of the last word of a command line, sorted; Hydra found those in `found`.

    Hydra offers ``experiment/seeds=``, which it then refuses, and nothing after ``experiment=``.
    """
    listed = groups([schema.conf_dir()])
    whole = set()
    for word in found:
        group = word.partition("=")[0].partition("/")[0]
        whole.add(f"{group}=" if "/" in word and group in listed else word)
    last = "" if line[-1:].isspace() else line.split()[-1]
    nested = [f"{group}={name}" for group, names in listed.items() for name in names if "/" in name]
    return sorted(whole | {choice for choice in nested if "=" in last and choice.startswith(last)})

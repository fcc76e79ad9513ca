"""The command ``sslbench``: Hydra composes a configuration and one run trains on it.

Nothing here imports torch before a run starts: help, completion and ``--cfg job`` answer at once.
"""

import io
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterable
from contextlib import redirect_stdout
from traceback import walk_tb
from typing import NoReturn

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


def _task(composed: DictConfig) -> float:
    """`task`, with the error of a single run printed here: Hydra would add lines of its own to it."""
    try:
        return task(composed)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        complain(str(error))
        sys.exit(1)


def _refuse(message: str) -> NoReturn:
    complain(f"{message} (--hydra-help lists the flags)")
    sys.exit(2)


def _flags() -> Namespace:
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # in one line, and without its whole usage
    flags = parser.parse_args()
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
    shows_all = os.environ.get(_FULL_ERROR) == "1"  # set by the user
    os.environ[_FULL_ERROR] = "1"  # Hydra raises errors instead of printing them over many lines
    try:
        _answer()
    except KeyboardInterrupt as interrupt:
        if not shows_all:
            notes = getattr(interrupt, "__notes__", ())
            complain(next(iter(notes), "interrupted; the same command continues"))
        sys.exit(exit_code(interrupt))
    except Exception as error:
        if shows_all:
            raise
        if isinstance(error, BrokenPipeError):  # the reader of the output, such as head, has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif isinstance(error, UserError):
            if not isinstance(error, SweepError):  # printed already
                complain(str(error))
        elif _is_hydras(error) or isinstance(error, HydraException | OmegaConfBaseException):
            complain(describe(error, sys.argv[1:]))
        else:
            raise
        sys.exit(1)
    finally:
        if not shows_all:
            del os.environ[_FULL_ERROR]


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
    print("\n".join(_completed(os.environ["COMP_LINE"], found.getvalue().split())))


def _completed(line: str, found: Iterable[str]) -> list[str]:
    """The completions of the last word of a command line, sorted; Hydra found those in `found`.

    Hydra offers ``experiment/seeds=``, which it then refuses, and nothing after ``experiment=``.
    """
    listed = groups([schema.conf_dir()])
    whole = {re.sub(rf"^({'|'.join(listed)})/.*", r"\1=", word) for word in found}
    last = "" if line[-1:].isspace() else line.split()[-1]
    nested = [f"{group}={name}" for group, names in listed.items() for name in names if "/" in name]
    return sorted(whole | {choice for choice in nested if "=" in last and choice.startswith(last)})

"""A sweep over a grid: plans the runs, checks them all, leaves running them to a launcher, tells the outcome.

Hydra's parser expands the values, and its launchers or their plugins run the jobs. What is added here makes
a sweep safe to start again: see docs/design/sweeps.md.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from sslbench import config
from sslbench.config import Settings
from sslbench.errors import SweepError, UserError
from sslbench.run import check, terminable
from sslbench.rundir import claimed, in_use, in_words, write_status
from sslbench.sweep.cells import Cell, State, without_repeats, write_cells
from sslbench.sweep.overview import Overview, show_outcome
from sslbench.sweep.process import DRIVER, STOP

_KEYS = {entry.name for entry in fields(config.Keys)}
#: Wrong configurations that are told; a mistake in a sweep of thousands is one mistake.
_TOLD = 10
#: A cell that ran in each of two pools of workers that broke is taken for the reason.
_TRIES = 2
_POLL_SECONDS = 0.5
#: For runs to end after an interrupt; those of another sweep go on.
_GRACE_SECONDS = 10.0


def sweep(
    arguments: Sequence[str],
    master: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    batch: int | None,
) -> None:
    """Run every combination of the values in `arguments` that is not finished.

    Args:
        arguments: overrides, with values separated by commas.
        master: the configuration of the sweep.
        loader: composes those of the runs.
        launcher: runs them.
        batch: how many it is handed at once; None for all.

    Raises:
        SweepError: a configuration is wrong, and nothing was run; or not every run is finished.
        UserError: the sweep's folder cannot be written, or two runs were given one folder.
        KeyboardInterrupt: asked for by a signal.
    """
    head, planned = _planned(arguments, master, loader)
    cells = without_repeats(planned)
    folder = Path(str(master.hydra.sweep.dir)).absolute()
    try:
        folder.mkdir(parents=True)
        write_cells(folder, cells)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another output_root"
        ) from error
    finished, failed, todo = _sorted(cells, retry_failed=head.retry_failed)
    overview = Overview(todo, len(cells), folder, fail_fast=head.fail_fast)
    _say(overview.console, _plan(len(planned), len(cells), len(finished), len(failed), len(todo)))
    errors: dict[Cell, str] = {}
    os.environ[DRIVER] = str(os.getpid())
    try:
        with terminable(), overview:
            _launch(todo, launcher, batch, overview.console, errors)
    except KeyboardInterrupt:
        # Workers of any launcher, and jobs in a queue, find the file and end or do not begin.
        with suppress(OSError):
            (folder / STOP).touch()
        _wait(todo, _GRACE_SECONDS)
        raise
    finally:
        _settle(todo)
        states = [(cell, *cell.state()) for cell in [*failed, *todo]]
        rest = [(cell, state, error or errors.get(cell, "")) for cell, state, error in states]
        undone = [entry for entry in rest if entry[1] != State.FINISHED]
        show_outcome(len(rest) - len(undone), len(finished), undone, overview.console)
    if undone:
        raise SweepError(f"{len(undone)} of {len(cells)} runs are not finished")


def _planned(
    arguments: Sequence[str], master: DictConfig, loader: ConfigLoader
) -> tuple[Settings, list[Cell]]:
    """The settings of the first combination, for the keys that a sweep reads, and the cells of all, checked.

    Raises:
        SweepError: a configuration is wrong.
    """
    head: Settings | None = None
    planned = []
    wrong: Counter[str] = Counter()
    where: dict[str, Sequence[str]] = {}
    right: set[str] = set()
    for settings, overrides in _composed(arguments, master, loader):
        try:
            config.check_values(settings)
            group = repr(replace(settings, seed=0, split_seed=0, overrides=[]))
            if group not in right:  # seeds make no difference to what is built
                check(settings)
                right.add(group)
        except UserError as error:
            wrong[str(error)] += 1
            where.setdefault(str(error), overrides)
        head = head or settings
        planned.append(Cell.of(settings, overrides))
    for message, count in wrong.most_common(_TOLD):
        others = f" and {count - 1} more" if count > 1 else ""
        _complain(f"{message} [{' '.join(where[message])}]{others}")
    if wrong:
        _complain(f"nothing was started: {wrong.total()} of {len(planned)} configurations are wrong")
        raise SweepError("wrong configurations")
    assert head is not None, "there is at least one combination"
    return head, planned


def _composed(
    arguments: Sequence[str], master: DictConfig, loader: ConfigLoader
) -> Iterator[tuple[Settings, list[str]]]:
    """The settings and the overrides of every combination.

    Composing takes most of the time that planning takes. So combinations of the same choices share it, and
    their values are set one after the other in the same configuration, as Hydra does in the end.
    """
    parser = OverridesParser.create(config_loader=loader)
    [combinations] = BasicSweeper.split_arguments(parser.parse_overrides(list(arguments)), None)
    composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}
    for overrides in combinations:
        parsed = parser.parse_overrides(overrides)
        values = [override for override in parsed if _is_value(override)]
        rest = tuple(text for text, override in zip(overrides, parsed, strict=True) if override not in values)
        if rest not in composed:
            found = loader.load_sweep_config(master, list(overrides))
            choices = dict(found.hydra.runtime.choices)
            with open_dict(found):
                del found["hydra"]
            composed[rest] = found, choices
        keys, choices = composed[rest]
        for override in values:  # the same keys in every combination, so nothing is left of the last one
            OmegaConf.update(keys, override.key_or_group, override.value())
        yield config.from_config(keys, choices, list(overrides)), overrides


def _is_value(override: Override) -> bool:
    """Whether it sets one value and chooses nothing."""
    plain = override.type == OverrideType.CHANGE and override.package is None
    head, dot, _ = override.key_or_group.partition(".")
    return (
        plain
        and head in _KEYS
        and (bool(dot) or head not in config.GROUPS)
        and not isinstance(override.value(), dict)
    )


def _sorted(cells: Sequence[Cell], *, retry_failed: bool) -> tuple[list[Cell], list[Cell], list[Cell]]:
    """The cells that are finished, those that failed and are not tried again, and those to run.

    What another process is training comes last: it may be finished by then.
    """
    finished, failed, todo, elsewhere = [], [], [], []
    for cell in cells:
        state, _ = cell.state()
        if state == State.FINISHED:
            finished.append(cell)
        elif state == State.FAILED and not retry_failed:
            failed.append(cell)
        elif state == State.RUNNING and in_use(cell.folder):
            elsewhere.append(cell)
        else:
            todo.append(cell)
    return finished, failed, [*todo, *elsewhere]


def _plan(combinations: int, cells: int, finished: int, failed: int, todo: int) -> str:
    words = [f"{cells} runs"]
    if combinations > cells:
        words.append(f"{combinations - cells} combinations are the same run as another")
    if finished:
        words.append(f"{finished} finished before")
    if failed:
        words.append(f"{failed} failed before (retry_failed=true tries them again)")
    return f"sweep: {', '.join(words)}, {todo} to run"


def _launch(
    todo: Sequence[Cell], launcher: Launcher, size: int | None, console: Console, errors: dict[Cell, str]
) -> None:
    """Hand the cells to the launcher, in batches; again, those that a broken pool of workers took along.

    Args:
        todo: the cells.
        launcher: Hydra's.
        size: of a batch.
        console: for what is to be told.
        errors: filled with those of cells that could not write them down.
    """
    tries: Counter[Cell] = Counter()
    waiting, number = list(todo), 0
    while waiting:
        batch = waiting[:size]
        before = {cell: cell.stamp() for cell in batch}
        try:
            jobs = launcher.launch([cell.overrides for cell in batch], initial_job_idx=number)
        except BrokenProcessPool:
            _settle(batch)
            tries.update(cell for cell in batch if cell.stamp() != before[cell])
            waiting = [
                cell
                for cell in waiting
                if tries[cell] < _TRIES and cell.state()[0] not in (State.FINISHED, State.FAILED)
            ]
        except Exception as error:
            # The plugins raise what their engines raise, for one lost job of many.
            _say(console, f"the launcher gave up ({in_words(error)}); jobs that are queued or running go on")
            _wait(batch)
            waiting = waiting[len(batch) :]
        else:
            errors |= _errors(batch, jobs)
            waiting = waiting[len(batch) :]
        number += len(batch)


def _errors(batch: Sequence[Cell], jobs: Sequence[JobReturn]) -> dict[Cell, str]:
    found = {}
    for cell, job in zip(batch, jobs, strict=True):
        try:
            _ = job.return_value
        except Exception as error:
            found[cell] = in_words(error)
    return found


def _wait(cells: Sequence[Cell], seconds: float = math.inf) -> None:
    """Wait until no process trains any of the cells."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(
        cell.state()[0] == State.RUNNING and in_use(cell.folder) for cell in cells
    ):
        time.sleep(_POLL_SECONDS)


def _settle(cells: Sequence[Cell]) -> None:
    """Write down which cells were killed without a word: nobody is left who would."""
    for cell in cells:
        if cell.state()[0] == State.RUNNING and not in_use(cell.folder):
            with claimed(cell.folder):
                error = "killed, or its machine was lost (the same command goes on from the last checkpoint)"
                write_status(cell.folder, "interrupted", cell.summary, error=error)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _complain(message: str) -> None:
    print(f"sslbench: {message}", file=sys.stderr, flush=True)

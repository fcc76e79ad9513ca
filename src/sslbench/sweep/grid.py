"""A sweep over a grid: plans the runs, checks them all, leaves running them to a launcher, tells the outcome.

Hydra's parser expands the values, and its launchers or their plugins run the jobs. What is added here makes
a sweep safe to start again: see docs/design/sweeps.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from sslbench.config.checks import check_values
from sslbench.config.file_names import check_folder
from sslbench.config.hydra_errors import composing
from sslbench.config.schema import Settings
from sslbench.errors import SweepError, UserError
from sslbench.run.train import check
from sslbench.rundir.lock import is_locked
from sslbench.sweep.combinations import composed
from sslbench.sweep.launching import Launching, settle, wait_until_free
from sslbench.sweep.monitor import Overview, counted, say, show_outcome
from sslbench.sweep.planned_run import Cell, State, without_repeats, write_cells
from sslbench.sweep.sweep_folder import error_file, held, writing
from sslbench.sweep.worker import GRACE_SECONDS, terminate_cells
from sslbench.system.signals import raise_on_signal
from sslbench.system.text import ellipsize, escape_control

#: Wrong configurations that are told; a mistake in a sweep of thousands is one mistake.
_TOLD = 10
_LONGEST = 2000  # characters of one
#: For runs to end after an interrupt, or to be killed by their workers; those of another sweep go on.
_GRACE_SECONDS = GRACE_SECONDS + 5
#: For what was killed to be gone.
_KILLED_SECONDS = 5.0


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
        UserError: the sweep's folder cannot be written or is that of another sweep which is running, two runs
            were given one folder, or there is none.
        KeyboardInterrupt: asked for by a signal.
    """
    head, planned = _planned(arguments, master, loader)
    cells = without_repeats(planned)
    with composing(arguments):
        folder = Path(str(master.hydra.sweep.dir)).absolute()
    check_folder(str(folder), "hydra.sweep.dir")
    with held(folder):
        cells = [replace(cell, note=error_file(folder, cell.run_id)) for cell in cells]
        with writing(folder):
            write_cells(folder, cells)
        finished, failed, todo = _sorted(cells, retry_failed=head.retry_failed)
        overview = Overview(todo, len(cells))
        say(overview.console, _plan(len(planned), len(cells), len(finished), len(failed), len(todo)))
        undone = _run(
            todo, failed, len(finished), Launching(launcher, folder, batch, overview.console), overview
        )
    if undone:
        raise SweepError(f"{undone} of {len(cells)} runs are not finished")


def _run(
    todo: Sequence[Cell], failed: Sequence[Cell], finished: int, launching: Launching, overview: Overview
) -> int:
    """Run the cells and tell the outcome.

    Args:
        todo: cells to run.
        failed: cells that failed before and are not tried again.
        finished: cells that were finished before.
        launching: runs them.
        overview: of them.

    Returns:
        How many cells of the sweep are not finished in the end.
    """

    def stop() -> None:
        """Workers of any launcher, and jobs in a queue, find the file and end or do not begin."""
        with suppress(OSError):
            launching.stop.touch()
        terminate_cells()
        wait_until_free(todo, _GRACE_SECONDS)

    try:
        with raise_on_signal(stop), overview:
            launching.run(todo)
    except SystemExit:  # of an engine that has taken the signal over
        stop()
        raise
    finally:
        # What a launcher has just killed holds its folder for a moment longer.
        wait_until_free(todo, _KILLED_SECONDS)
        settle(todo)
        states = [(cell, *cell.state()) for cell in [*failed, *todo]]
        rest = [(cell, state, error or launching.errors.get(cell, "")) for cell, state, error in states]
        undone = [entry for entry in rest if entry[1] != State.FINISHED]
        show_outcome(len(rest) - len(undone), finished, undone, overview.console, launching.broken)
    return len(undone)


def _planned(
    arguments: Sequence[str], master: DictConfig, loader: ConfigLoader
) -> tuple[Settings, list[Cell]]:
    """The settings of the first combination, for the keys that a sweep reads, and the cells of all, checked.

    Raises:
        SweepError: a configuration is wrong.
        UserError: there is no combination.
    """
    head: Settings | None = None
    planned: list[Cell] = []
    wrong: Counter[str] = Counter()
    where: dict[str, Sequence[str]] = {}
    right: set[str] = set()
    known: dict[str, dict[str, Any]] = {}
    for overrides, found in composed(arguments, master, loader):
        try:
            if isinstance(found, str):
                raise UserError(found)
            check_values(found)
            group = repr(replace(found, seed=0, split_seed=0, overrides=[]))
            if group not in right:  # seeds make no difference to what is built
                check(found)
                right.add(group)
        except UserError as error:
            wrong[str(error)] += 1
            where.setdefault(str(error), overrides)
            continue
        head = head or found
        planned.append(Cell.of(found, overrides, known))
    for message, count in wrong.most_common(_TOLD):
        others = f" and {count - 1} more" if count > 1 else ""
        _complain(f"{message} [{' '.join(where[message])}]{others}")
    if wrong:
        if len(wrong) > _TOLD:
            _complain(f"and {len(wrong) - _TOLD} more mistakes")
        count = wrong.total() + len(planned)
        _complain(f"nothing was started: {wrong.total()} of {count} configurations are wrong")
        raise SweepError("wrong configurations")
    if head is None:
        raise UserError("there is nothing to run: a range or a list of values is empty")
    return head, planned


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
        elif state == State.RUNNING and is_locked(cell.folder):
            elsewhere.append(cell)
        else:
            todo.append(cell)
    return finished, failed, [*todo, *elsewhere]


def _plan(combinations: int, cells: int, finished: int, failed: int, todo: int) -> str:
    words = [counted(cells, "run", "runs")]
    if combinations > cells:
        same = counted(combinations - cells, "combination is", "combinations are")
        words.append(f"{same} the same run as another")
    if finished:
        words.append(f"{finished} finished before")
    if failed:
        words.append(f"{failed} failed before (retry_failed=true tries them again)")
    return f"sweep: {', '.join(words)}, {todo} to run"


def _complain(message: str) -> None:
    print(f"sslbench: {ellipsize(escape_control(message), _LONGEST)}", file=sys.stderr, flush=True)

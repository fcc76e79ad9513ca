"""A sweep over a grid: plans the runs, carries out what is not finished, and prints the outcome.

Hydra's parser expands the values. On this machine the sweep's own process starts the runs; on others, one of
Hydra's launchers. What makes a sweep safe to start again is in docs/design/sweeps.md.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from sslbench.config.file_names import check_folder
from sslbench.config.hydra_errors import composing
from sslbench.errors import SweepError, UserError
from sslbench.rundir.records import RunState
from sslbench.sweep.launcher import LauncherRunner, mark_killed, wait_until_free
from sslbench.sweep.local import LocalRunner
from sslbench.sweep.monitor import Monitor, count
from sslbench.sweep.planned_run import PlannedRun, without_repeats, write_plan
from sslbench.sweep.planning import plan_runs
from sslbench.sweep.run_process import STOP
from sslbench.system.paths import relative
from sslbench.system.signals import raise_on_signal

_LOCK = ".sweep.lock"  # a run's folder, which may be typed as that of a sweep, has one of its own
#: What a launcher has just killed holds its folder for a moment longer.
_KILLED_SECONDS = 5.0


def sweep(
    arguments: Sequence[str],
    master: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    batch_size: int | None,
) -> None:
    """Carry out every combination of the values in `arguments` that is not finished.

    The launcher is given at most `batch_size` runs at once; None for all.

    Raises:
        SweepError: a configuration is wrong, and nothing was run; or not every run is finished.
        UserError: of `plan_runs`, `without_repeats` or `sweep_lock`.
        KeyboardInterrupt: asked for by a signal; its note says how far the sweep came.
    """
    # Not above: Hydra executes the module of a plugin again when it finds it, which makes its classes anew.
    from hydra_plugins.sslbench_sweeper import LocalLauncher

    planned = plan_runs(arguments, master, loader)
    runs = without_repeats(planned)
    with composing(arguments):
        folder = Path(str(master.hydra.sweep.dir)).absolute()
    check_folder(str(folder), "hydra.sweep.dir")
    with sweep_lock(folder, runs):
        states = {run: run.state()[0] for run in runs}
        kept = [RunState.FINISHED, *([] if runs[0].settings.retry_failed else [RunState.FAILED])]
        todo = [run for run in runs if states[run] not in kept]
        failed = [run for run in runs if states[run] in kept and states[run] == RunState.FAILED]
        finished = len(runs) - len(todo) - len(failed)
        monitor = Monitor(todo, len(runs))
        monitor.print(_summary(len(planned), len(runs), finished, len(failed), len(todo)))
        runner: LocalRunner | LauncherRunner
        if isinstance(launcher, LocalLauncher | BasicLauncher):
            at_once = launcher.n_jobs if isinstance(launcher, LocalLauncher) else 1
            if at_once is not None and (not isinstance(at_once, int) or at_once < 1):
                raise UserError(f"hydra.launcher.n_jobs={at_once} must be at least 1, or null")
            runner = LocalRunner(folder, monitor, at_once, dict(master.hydra.job.env_set))
        else:
            runner = LauncherRunner(launcher, folder, monitor, batch_size)
        try:
            with raise_on_signal(runner.stop), monitor:
                runner.run(todo)
        except SystemExit:  # of an engine that handles the signal itself
            runner.stop()
            raise
        finally:
            wait_until_free(todo, _KILLED_SECONDS)
            mark_killed(todo)
            number = monitor.print_outcome(finished, failed, folder)
            if isinstance(interrupt := sys.exc_info()[1], KeyboardInterrupt):
                place = relative(runs[0].folder.parent)
                interrupt.add_note(
                    f"interrupted: {number} of {count(len(runs), 'run', 'runs')} in {place} finished; the "
                    f"same command continues"
                )
    if number < len(runs):
        raise SweepError(f"{len(runs) - number} of {len(runs)} runs are not finished")


@contextmanager
def sweep_lock(folder: Path, runs: Sequence[PlannedRun]) -> Iterator[None]:
    """Make the folder, lock it for one sweep, and write its plan; forget a request to stop an earlier one.

    Raises:
        UserError: another sweep holds it, or it cannot be written.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        (folder / STOP).unlink(missing_ok=True)
        write_plan(folder, runs)
    except Timeout as error:
        raise UserError(
            f"another sweep is running in {folder}: wait for it, or give another hydra.sweep.dir"
        ) from error
    except OSError as error:
        lock.release()
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another output_root"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _summary(combinations: int, runs: int, finished: int, failed: int, todo: int) -> str:
    words = [count(runs, "run", "runs")]
    if combinations > runs:
        same = count(combinations - runs, "combination is", "combinations are")
        words.append(f"{same} the same run as another")
    if finished:
        words.append(f"{finished} finished before")
    if failed:
        words.append(f"{failed} failed before (retry_failed=true tries them again)")
    return f"sweep: {', '.join(words)}, {todo} to run"

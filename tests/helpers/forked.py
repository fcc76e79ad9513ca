"""Whole runs in processes of their own, forked from one that has imported everything, to be killed for real.

A sabotage is called in such a process before the run begins: it arranges for the disk to fill up, or for the
process to be killed, at a moment that is counted.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from sslbench.config.schema import Settings
from sslbench.sweep.run_process import PRELOADED

Sabotage = Callable[[], object]
TIMES = ("train_seconds", "steps_per_second")
_PATIENCE = 120.0


def nothing() -> None:
    """No sabotage."""


def start(settings: Settings, sabotage: Sabotage = nothing) -> tuple[ForkServerProcess, Connection]:
    """Begin the run; the connection tells its error, if it ends with one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)  # a process has one fork server, which sweeps use, too
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(settings, sabotage, tells))
    process.start()
    tells.close()
    return process, hears


def finish(process: ForkServerProcess, hears: Connection) -> tuple[int, str]:
    """Wait for the end; the exit code, negative for a signal, and the error."""
    process.join(_PATIENCE)
    assert process.exitcode is not None, "the run does not end"
    code = process.exitcode
    try:
        told: str = hears.recv()
    except EOFError:
        told = ""
    hears.close()
    process.close()
    return code, told


def run(settings: Settings, sabotage: Sabotage = nothing) -> tuple[int, str]:
    """`start` and `finish`."""
    return finish(*start(settings, sabotage))


def _main(settings: Settings, sabotage: Sabotage, tells: Connection) -> None:
    from sslbench.errors import UserError
    from sslbench.run.train import run as train
    from sslbench.system.signals import exit_code

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        sabotage()
        train(settings)
    except UserError as error:
        tells.send(str(error))
        os._exit(1)
    except KeyboardInterrupt as interrupt:
        os._exit(exit_code(interrupt))
    except BaseException as error:
        tells.send(f"not for people: {error!r}")
        os._exit(2)
    os._exit(0)


def _around_renamings(before: Callable[[int], object], after: Callable[[int], object]) -> None:
    """Call `before` and `after` with the number of each renaming of a file that this process does."""
    replace, count = os.replace, 0

    def counted(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        before(count)
        replace(source, target)
        after(count)

    os.replace = counted  # type: ignore[assignment]  # what pathlib calls


def count_renamings(into: Path) -> None:
    """A sabotage that does no harm: it leaves the number of renamings in the file `into`."""

    def note(number: int) -> None:
        into.write_text(str(number))

    _around_renamings(lambda number: None, note)


def kill_before_renaming(number: int) -> None:
    """SIGKILL between writing a file and giving it its name."""
    _around_renamings(lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == number else None, lambda n: None)


def kill_after_renaming(number: int) -> None:
    """SIGKILL right after a file got its name."""
    _around_renamings(lambda n: None, lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == number else None)


def full_after_renaming(number: int, left: int = 0) -> None:
    """From then on no file may grow beyond `left` bytes, as on a full disk."""

    def fill(n: int) -> None:
        if n == number:
            resource.setrlimit(resource.RLIMIT_FSIZE, (left, left))

    _around_renamings(lambda n: None, fill)


def clock_runs_backwards() -> None:
    """Each look at the clock of the day is an hour before the last."""
    now = time.time()

    def earlier() -> float:
        nonlocal now
        now -= 3600
        return now

    time.time = earlier
    time.time_ns = lambda: int(earlier() * 1e9)


def without_privileges() -> None:
    """Let folders that are read-only be read-only to root, too."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the interface, and this process
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def plain_curves(folder: Path) -> list[dict[str, Any]]:
    """The log points without times."""
    points = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: v for key, v in point.items() if not key.startswith("time/")} for point in points]


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same, whatever happened on the way; `folder` holds a finished run."""
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    assert not [path.name for path in folder.rglob("*.part")], "nothing half-written is left"
    result = json.loads((folder / "result.json").read_text())
    return {
        "result": {key: value for key, value in result.items() if key not in TIMES},
        "curves": plain_curves(folder),
        "weights": (folder / "model.safetensors").read_bytes(),
        "pictures": {path.name: path.read_bytes() for path in folder.glob("pictures/*")},
        "split": (folder / "split.npz").read_bytes(),
    }


def whole_files(folder: Path) -> None:
    """Check that every file under its final name can be read to its end."""
    from sslbench.rundir.checkpoint import load_checkpoint

    for name in ("result.json", "status.json"):
        if (folder / name).exists():
            json.loads((folder / name).read_text())
    for path in folder.glob("checkpoint/*.pt"):
        load_checkpoint(path)

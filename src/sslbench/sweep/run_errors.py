"""Cells that do not reach their end, and where it is written why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sslbench.errors import UserError
from sslbench.rundir.status import describe
from sslbench.sweep.sweep_folder import STOP, error_file
from sslbench.system.atomic_files import write_text_atomically


class CellError(UserError):
    """A cell that did not reach its end."""


class KnownError(CellError):
    """A cell whose ``status.json`` says how it ended, or that was not begun since it was not to be."""


class ElsewhereError(KnownError):
    """A cell that another process is training."""


@contextmanager
def noted(sweep: Path, run_id: str, *, fail_fast: bool) -> Iterator[None]:
    """Leave an error of the block in the folder of the sweep, unless the cell's own folder tells it.

    Args:
        sweep: its folder.
        run_id: of the cell, as planned.
        fail_fast: whether such an error stops the sweep.
    """
    path = error_file(sweep, run_id)
    with suppress(OSError):  # of an earlier attempt within the sweep
        path.unlink(missing_ok=True)
    try:
        yield
    except KnownError:
        raise
    except Exception as error:  # of any kind: nobody else tells it before all cells have ended
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            write_text_atomically(path, f"{describe(error)}\n")
        if fail_fast:
            with suppress(OSError):
                (sweep / STOP).touch()
        raise

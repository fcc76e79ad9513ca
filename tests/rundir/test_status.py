from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sslbench.errors import UserError
from sslbench.rundir.status import Status, read_status

RUN = {"run_id": "vat-digits-20-s0-01234567", "seed": 0}


def status_of(folder: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


def test_status_while_running_and_after_success(tmp_path: Path) -> None:
    with Status(tmp_path, RUN) as status:
        assert status.outcome == "running"
        assert status_of(tmp_path) == {"status": "running", "pid": os.getpid(), "run": RUN}
    assert status.outcome == "finished"
    assert status_of(tmp_path) == {"status": "finished", "pid": os.getpid(), "run": RUN}


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (UserError("batch.labelled=0 must be at least 1"), "failed", "batch.labelled=0 must be at least 1"),
        (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero"),
        (MemoryError(), "failed", "MemoryError:"),
        (KeyboardInterrupt(), "interrupted", None),
        (OSError(28, "No space left"), "interrupted", "OSError: [Errno 28] No space left"),
    ],
)
def test_status_after_an_error(tmp_path: Path, error: BaseException, outcome: str, told: str | None) -> None:
    status = Status(tmp_path, RUN)
    with pytest.raises(type(error)) as caught, status:
        raise error
    assert caught.value is error
    assert status.outcome == outcome
    written = status_of(tmp_path)
    trace = written.pop("traceback", None)
    expected = {"status": outcome, "pid": os.getpid(), "run": RUN} | ({"error": told} if told else {})
    assert written == expected
    if told:
        assert Path(__file__).name in trace
        assert type(error).__name__ in trace
    else:
        assert trace is None


def test_status_that_cannot_be_written_does_not_hide_the_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    status = Status(run, RUN)

    def lose_the_folder() -> None:
        with status:
            shutil.rmtree(run)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lose_the_folder()
    assert status.outcome == "failed"


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "\xff"])
def test_a_status_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content.encode("latin-1"))
    assert read_status(tmp_path) == {}


def test_asked_to_end_when_all_is_done(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    with pytest.raises(KeyboardInterrupt), Status(tmp_path, RUN):
        raise KeyboardInterrupt
    assert read_status(tmp_path)["status"] == "finished"

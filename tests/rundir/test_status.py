from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import pytest

from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.lock import claimed, in_use
from sslbench.rundir.result import finished_result, read_result, require_space
from sslbench.rundir.status import Status, read_status

MakeSettings = Callable[..., Settings]
RUN = {"run_id": "vat-digits-20-s0-01234567", "seed": 0}

HOLD = """
import sys
from pathlib import Path
from sslbench.rundir.lock import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=r"run is in use: another process"), claimed(run):
                pass
            assert in_use(run)
        finally:
            other.kill()
            other.wait()
    with claimed(run):  # a killed process leaves its file behind, but no lock
        pass


def test_a_second_claim_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        with pytest.raises(UserError, match=r"is in use"), claimed(tmp_path / "run"):
            pass
        assert (tmp_path / "run").is_dir()
        with claimed(tmp_path / "other"):
            pass


def fail_in(folder: Path, *files: Path) -> None:
    """A run that writes `files` and breaks."""
    with claimed(folder):
        assert folder.is_dir()
        for file in files:
            file.write_text("mine")
        raise RuntimeError("broken")


def test_folders_in_which_nothing_came_to_be_are_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        fail_in(tmp_path / "outputs" / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_or_hold_something_stay(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    with claimed(outputs / "run"):
        pass
    assert outputs.is_dir()
    assert not (outputs / "run").exists()

    with pytest.raises(RuntimeError, match="broken"):
        fail_in(outputs / "sweep" / "run", outputs / "sweep" / "notes.txt")
    assert [path.name for path in (outputs / "sweep").iterdir()] == ["notes.txt"]

    (outputs / "empty").mkdir()
    with claimed(outputs / "empty"):
        pass
    assert (outputs / "empty").is_dir()


def test_a_folder_with_content_is_kept_and_can_be_claimed_again(tmp_path: Path) -> None:
    run = tmp_path / "outputs" / "run"
    with pytest.raises(RuntimeError, match="broken"):
        fail_in(run, run / "status.json")
    with claimed(run):
        assert (run / "status.json").read_text() == "mine"
    assert (run / "status.json").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "run", tmp_path / "file"):
        message = r"cannot be written \(.+\): choose another output_root or run_dir"
        with pytest.raises(UserError, match=message), claimed(path):
            pass
    assert (tmp_path / "file").read_text() == "in the way"


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
        assert "test_rundir.py" in trace
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


def test_result_of_the_same_settings(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    assert finished_result(tmp_path / "absent", settings) is None
    (tmp_path / "config.yaml").write_text(saved.save(settings))
    assert finished_result(tmp_path, settings) is None
    names = {"run_id": "a", "algorithm": "vat", "dataset": "digits", "split_hash": "0f", "device": "cpu"}
    counts = {"num_labels": 20, "seed": 0, "step_best": 8}
    shares = ("val_acc_best", "test_acc", "test_acc_last", "test_acc_median20", "test_ece")
    result = {**names, **counts, **dict.fromkeys(shares, 0.5), "train_seconds": 1.5, "steps_per_second": 9}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert finished_result(tmp_path, settings) == result
    # Places and logging are not what a run computes.
    elsewhere = settings_of("threads=1", "log_every=5", "output_root=/elsewhere", "logger=wandb")
    assert finished_result(tmp_path, elsewhere) == result
    # Without its configuration, a result counts for the run of its own id alone.
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"holds the result of another run \(a\): choose another run_dir"):
        finished_result(tmp_path, settings)
    (tmp_path / "result.json").write_text(json.dumps({**result, "run_id": settings.run_id}))
    assert finished_result(tmp_path, settings) is not None


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.lr=0.5", r"optimizer\.lr is [\d.e-]+ there and 0\.5 here"),
        ("seed=3", "seed is 0 there and 3 here"),
        ("dataset.images.crop=0", r"dataset\.images\.crop is 1 there and 0 here"),
        ("batch.labelled=7", r"batch\.labelled is 20 there and 7 here"),
    ],
)
def test_folder_of_other_settings(
    settings_of: MakeSettings, tmp_path: Path, override: str, named: str
) -> None:
    (tmp_path / "config.yaml").write_text(saved.save(settings_of()))
    ours, message = settings_of(override), rf"another configuration \({named}\): choose another run_dir"
    with pytest.raises(UserError, match=message):
        finished_result(tmp_path, ours)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        finished_result(tmp_path, ours)


def test_damaged_result(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    (tmp_path / "config.yaml").write_text(saved.save(settings))
    for content in (b"", b'{"val_acc_best": 0.', b"\xff\xfe\x00"):
        (tmp_path / "result.json").write_bytes(content)
        with pytest.raises(UserError, match=r"result\.json is damaged \(.+\): delete it and run again"):
            finished_result(tmp_path, settings)


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished run: it has no result\.json"):
        read_result(tmp_path)


def test_result_of_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError):
        read_result(tmp_path / "model.safetensors")


def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(total=2**40, used=2**40 - 100 * 2**20, free=100 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    require_space(tmp_path, 100 * 2**20)
    with pytest.raises(UserError, match=r"has 100 MiB free and the run needs about 200 MiB: free some space"):
        require_space(tmp_path, 200 * 2**20)
    with pytest.raises(UserError):
        require_space(tmp_path, 100 * 2**20 + 1)
    assert set(asked) == {tmp_path}


def test_who_only_asks_is_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert not in_use(run)
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        Timer(0.2, other.kill).start()
        with claimed(run):
            assert other.wait() != 0, "the other was gone before the folder was ours"
    assert not in_use(run)


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "\xff"])
def test_a_status_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "status.json").write_bytes(content.encode("latin-1"))
    assert read_status(tmp_path) == {}


def test_space_that_the_run_holds_already_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError):
        require_space(tmp_path, 1500)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "last.pt").write_bytes(bytes(500))
    require_space(tmp_path, 1500)


def test_other_files_below_the_folder_are_let_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "checkpoint" / ".last.pt.1.part", tmp_path / "other" / ".last.pt.2.part"
    for path in (ours, theirs):
        path.parent.mkdir()
        path.touch()
    with claimed(tmp_path):
        assert (ours.exists(), theirs.exists()) == (False, True)


def test_asked_to_end_when_all_is_done(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    with pytest.raises(KeyboardInterrupt), Status(tmp_path, RUN):
        raise KeyboardInterrupt
    assert read_status(tmp_path)["status"] == "finished"

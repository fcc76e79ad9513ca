from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from sslbench.errors import UserError
from sslbench.rundir.lock import is_locked, run_lock

HOLD = """
import sys
from pathlib import Path
from sslbench.rundir.lock import run_lock
with run_lock(Path(sys.argv[1])):
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
            with pytest.raises(UserError, match=r"run is in use: another process"), run_lock(run):
                pass
            assert is_locked(run)
        finally:
            other.kill()
            other.wait()
    with run_lock(run):  # a killed process leaves its file behind, but no lock
        pass


def test_a_second_claim_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        with pytest.raises(UserError, match=r"is in use"), run_lock(tmp_path / "run"):
            pass
        assert (tmp_path / "run").is_dir()
        with run_lock(tmp_path / "other"):
            pass


def fail_in(folder: Path, *files: Path) -> None:
    """A run that writes `files` and breaks."""
    with run_lock(folder):
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
    with run_lock(outputs / "run"):
        pass
    assert outputs.is_dir()
    assert not (outputs / "run").exists()

    with pytest.raises(RuntimeError, match="broken"):
        fail_in(outputs / "sweep" / "run", outputs / "sweep" / "notes.txt")
    assert [path.name for path in (outputs / "sweep").iterdir()] == ["notes.txt"]

    (outputs / "empty").mkdir()
    with run_lock(outputs / "empty"):
        pass
    assert (outputs / "empty").is_dir()


def test_a_folder_with_content_is_kept_and_can_be_claimed_again(tmp_path: Path) -> None:
    run = tmp_path / "outputs" / "run"
    with pytest.raises(RuntimeError, match="broken"):
        fail_in(run, run / "status.json")
    with run_lock(run):
        assert (run / "status.json").read_text() == "mine"
    assert (run / "status.json").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "run", tmp_path / "file"):
        message = r"cannot be written \(.+\): choose another output_root or run_dir"
        with pytest.raises(UserError, match=message), run_lock(path):
            pass
    assert (tmp_path / "file").read_text() == "in the way"


def test_who_only_asks_is_waited_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert not is_locked(run)
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        Timer(0.2, other.kill).start()
        with run_lock(run):
            assert other.wait() != 0, "the other was gone before the folder was ours"
    assert not is_locked(run)


def test_other_files_below_the_folder_are_let_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "checkpoint" / ".last.pt.1.part", tmp_path / "other" / ".last.pt.2.part"
    for path in (ours, theirs):
        path.parent.mkdir()
        path.touch()
    with run_lock(tmp_path):
        assert (ours.exists(), theirs.exists()) == (False, True)

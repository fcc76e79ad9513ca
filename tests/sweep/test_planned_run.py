from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from helpers.results import result_text, write_result
from helpers.small_sweeps import made_up_run
from sslbench.errors import UserError
from sslbench.rundir.records import RunState
from sslbench.sweep.planned_run import PlannedRun, without_repeats, write_plan


def a_run(folder: Path, run_id: str = "vat-digits-20-s0-01234567") -> PlannedRun:
    return made_up_run(folder, run_id, "algorithm=vat", "seed=0", steps=4)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, (RunState.NOT_STARTED, "")),
        ('{"status": "running", "pid": 1}', (RunState.RUNNING, "")),
        ('{"status": "failed", "error": "out of luck"}', (RunState.FAILED, "out of luck")),
        ('{"status": "interrupted"}', (RunState.INTERRUPTED, "")),
        ('{"status": "finished"}', (RunState.INTERRUPTED, "")),
        ('{"status": "asleep"}', (RunState.NOT_STARTED, "")),
        ('{"status": "fail', (RunState.NOT_STARTED, "")),
        ("[]", (RunState.NOT_STARTED, "")),
    ],
)
def test_state_by_status(tmp_path: Path, status: str | None, expected: tuple[RunState, str]) -> None:
    if status is not None:
        (tmp_path / "status.json").write_text(status)
    assert a_run(tmp_path).state() == expected


@pytest.mark.parametrize(
    ("result", "finished"),
    [
        (result_text("vat-digits-20-s0-01234567"), True),
        (result_text("vat-digits-20-s0-89abcdef"), False),
        ('{"run_id": "vat-digits', False),
        ("[]", False),
    ],
)
def test_only_a_whole_result_of_this_very_run_counts(tmp_path: Path, result: str, finished: bool) -> None:
    (tmp_path / "status.json").write_text('{"status": "interrupted"}')
    (tmp_path / "result.json").write_text(result)
    assert (a_run(tmp_path).state()[0] == RunState.FINISHED) == finished


def test_stamp_changes_with_the_files(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    stamps = {run.stamp()}
    for name in ("status.json", "result.json"):
        (tmp_path / name).write_text("{}")
        stamps.add(run.stamp())
    assert len(stamps) == 3


def test_a_run_has_ended_if_it_finished_or_failed_since_then(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (tmp_path / "status.json").write_text('{"status": "failed"}')
    before = run.stamp()
    assert not run.has_ended(before)
    os.utime(tmp_path / "status.json", (1, 1))
    assert run.has_ended(before)
    (tmp_path / "status.json").write_text('{"status": "running"}')
    assert not run.has_ended(before)
    write_result(tmp_path, "vat-digits-20-s0-01234567")
    assert run.has_ended(run.stamp())


def test_the_same_run_counts_once(tmp_path: Path) -> None:
    first, again, other = a_run(tmp_path / "a"), a_run(tmp_path / "a"), a_run(tmp_path / "b", "other")
    assert without_repeats([first, again, other]) == [first, other]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two different runs, vat.* and other: .* output_root"):
        without_repeats([a_run(tmp_path), a_run(tmp_path, "other")])


def test_the_plan_is_written_as_seen_from_the_sweep(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "today"
    sweep.mkdir(parents=True)
    write_plan(sweep, [a_run(tmp_path / "a b"), a_run(tmp_path / "c", "other")])
    lines = [json.loads(line) for line in (sweep / "cells.jsonl").read_text().splitlines()]
    assert [line["folder"] for line in lines] == ["../../a b", "../../c"]
    settings = lines[0].pop("settings")
    assert (settings["num_valid"], settings["choices"]) == (50, {"loss": "kl"})
    assert not {"seed", "split_seed"} & set(settings)
    assert lines[0] == {
        "schema": 1,
        "folder": "../../a b",
        "overrides": ["algorithm=vat", "seed=0"],
        "run": {"run_id": "vat-digits-20-s0-01234567", "steps": 4},
    }

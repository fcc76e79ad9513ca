from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results import result_text, write_result
from sslbench.errors import UserError
from sslbench.sweep.planned_run import Cell, State, without_repeats, write_cells


def a_cell(folder: Path, run_id: str = "vat-digits-20-s0-01234567") -> Cell:
    return Cell(("algorithm=vat", "seed=0"), folder, {"run_id": run_id, "steps": 4}, {"num_valid": 50})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, (State.NOT_STARTED, "")),
        ('{"status": "running", "pid": 1}', (State.RUNNING, "")),
        ('{"status": "failed", "error": "out of luck"}', (State.FAILED, "out of luck")),
        ('{"status": "interrupted"}', (State.INTERRUPTED, "")),
        ('{"status": "finished"}', (State.INTERRUPTED, "")),
        ('{"status": "asleep"}', (State.NOT_STARTED, "")),
        ('{"status": "fail', (State.NOT_STARTED, "")),
        ("[]", (State.NOT_STARTED, "")),
    ],
)
def test_state_by_status(tmp_path: Path, status: str | None, expected: tuple[State, str]) -> None:
    if status is not None:
        (tmp_path / "status.json").write_text(status)
    assert a_cell(tmp_path).state() == expected


@pytest.mark.parametrize(
    ("result", "finished"),
    [
        (result_text("vat-digits-20-s0-01234567"), True),
        (result_text("vat-digits-20-s0-89abcdef"), False),
        ('{"run_id": "vat-digits-20-s0-01234567"}', False),
        ('{"run_id": "vat-digits', False),
        ("[]", False),
    ],
)
def test_only_a_whole_result_of_this_very_run_counts(tmp_path: Path, result: str, finished: bool) -> None:
    (tmp_path / "status.json").write_text('{"status": "interrupted"}')
    (tmp_path / "result.json").write_text(result)
    assert (a_cell(tmp_path).state()[0] == State.FINISHED) == finished


def test_stamp_changes_with_the_files(tmp_path: Path) -> None:
    cell = a_cell(tmp_path)
    stamps = {cell.stamp()}
    for name in ("status.json", "result.json"):
        (tmp_path / name).write_text("{}")
        stamps.add(cell.stamp())
    assert len(stamps) == 3


def test_a_note_tells_what_the_folder_does_not(tmp_path: Path) -> None:
    cell = replace(a_cell(tmp_path), note=tmp_path / "note.txt")
    before = cell.stamp()
    (tmp_path / "status.json").write_text('{"status": "running"}')
    (tmp_path / "note.txt").write_text("a disk\x1b[31m that is full\n")
    assert cell.stamp() != before
    assert cell.state() == (State.FAILED, "a disk\\x1b[31m that is full")
    assert cell.in_folder() == (State.RUNNING, "")
    write_result(tmp_path, "vat-digits-20-s0-01234567")
    assert cell.state() == (State.FINISHED, "")


def test_the_same_run_counts_once(tmp_path: Path) -> None:
    first, again, other = a_cell(tmp_path / "a"), a_cell(tmp_path / "a"), a_cell(tmp_path / "b", "other")
    assert without_repeats([first, again, other]) == [first, other]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two different runs, vat.* and other: .* output_root"):
        without_repeats([a_cell(tmp_path), a_cell(tmp_path, "other")])


def test_cells_are_written_as_seen_from_the_sweep(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "today"
    sweep.mkdir(parents=True)
    write_cells(sweep, [a_cell(tmp_path / "a b"), a_cell(tmp_path / "c", "other")])
    lines = [json.loads(line) for line in (sweep / "cells.jsonl").read_text().splitlines()]
    assert [line["folder"] for line in lines] == ["../../a b", "../../c"]
    assert lines[0] == {
        "schema": 1,
        "folder": "../../a b",
        "overrides": ["algorithm=vat", "seed=0"],
        "run": {"run_id": "vat-digits-20-s0-01234567", "steps": 4},
        "settings": {"num_valid": 50},
    }

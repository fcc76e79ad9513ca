from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.report_runs import MakeRun, identity, write_plan, write_status
from sslbench.errors import UserError
from sslbench.report.compare.groups import group_runs
from sslbench.report.read.find import find_runs
from sslbench.system.paths import relative

RUNS = [Path("runs")]


def test_each_run_once_however_it_is_reached(make_run: MakeRun) -> None:
    folders = [make_run(seed=seed) for seed in (0, 1)]
    places = [Path("runs"), folders[0], folders[1] / "result.json", Path.cwd() / "runs"]
    found = find_runs(places)
    assert [run.seed for run in found.runs] == [0, 1]
    assert found.missing == []
    assert found.warnings == []


def test_a_damaged_result_is_a_warning_and_the_rest_is_read(make_run: MakeRun) -> None:
    make_run(seed=0)
    broken = make_run(seed=1)
    (broken / "result.json").write_text("{")
    found = find_runs(RUNS)
    assert [run.seed for run in found.runs] == [0]
    (warning,) = found.warnings
    assert warning.startswith(f"{broken.as_posix()}/result.json is not valid JSON")
    assert [(run.status, run.run) for run in found.missing] == [("damaged", None)]


def test_a_damaged_result_keeps_its_identity_if_the_status_has_it(make_run: MakeRun) -> None:
    broken = make_run(seed=1)
    (broken / "result.json").write_text("{}")
    write_status(broken.name, "finished", identity(seed=1))
    (missing,) = find_runs(RUNS).missing
    assert missing.status == "damaged"
    assert missing.run is not None
    assert missing.run.seed == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_damaged_result_says_itself_which_run_it_is(make_run: MakeRun, named: bool) -> None:
    make_run(seed=0)
    broken = make_run(seed=1, test_acc=0.9, test_ece=7)
    if not named:
        (broken / "status.json").unlink()
    found = find_runs(RUNS)
    (missing,) = found.missing
    assert missing.run is not None
    (group,) = group_runs(found.runs, found.missing)
    assert group.seeds == "1 of 2"


def test_a_result_that_is_a_folder(make_run: MakeRun) -> None:
    make_run(seed=0)
    (Path("runs") / "odd" / "result.json").mkdir(parents=True)
    found = find_runs(RUNS)
    assert len(found.runs) == 1
    assert found.warnings[0].startswith("runs/odd/result.json is no ordinary file; left out")
    assert [cell.reason for cell in found.missing] == ["damaged: result.json is no ordinary file"]


def test_a_loop_of_links_ends(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "loop").symlink_to(Path.cwd() / "runs", target_is_directory=True)
    (Path("runs") / "self").symlink_to("self")
    found = find_runs(RUNS)
    assert len(found.runs) == 1
    assert found.warnings == []
    assert found.runs[0].folder == folder


def test_links_to_folders_are_followed_and_each_run_is_read_once(make_run: MakeRun) -> None:
    folder, linked = make_run(seed=0), make_run(seed=1)
    elsewhere = Path("disk")
    elsewhere.mkdir()
    linked.rename(elsewhere / "run")
    (Path("runs") / "a").symlink_to(elsewhere.absolute(), target_is_directory=True)
    (Path("runs") / "b").symlink_to(elsewhere.absolute(), target_is_directory=True)
    (Path("runs") / "0").symlink_to(folder.absolute(), target_is_directory=True)
    found = find_runs(RUNS)
    assert [(run.seed, run.folder) for run in found.runs] == [(1, Path("runs/a/run")), (0, folder)]
    assert found.warnings == []


def test_places_without_a_run_are_warnings_beside_one_that_has_some(make_run: MakeRun) -> None:
    make_run()
    Path("empty").mkdir()
    found = find_runs([Path("absent"), Path("runs"), Path("empty"), Path("runs")])
    assert len(found.runs) == 1
    assert found.warnings == ["no folder absent", "no run in empty"]
    nothing = "^nothing to report in absent, empty; no folder absent; no run in empty$"
    with pytest.raises(UserError, match=nothing):
        find_runs([Path("absent"), Path("empty")])


def test_statuses(make_run: MakeRun) -> None:
    make_run()
    write_status("a", "failed", identity(seed=1), error="loss is nan\n  at step 3")
    write_status("b", "interrupted", identity(seed=2))
    write_status("c", "running", identity(seed=3))
    write_status("d", "finished", identity(seed=4))
    write_status("e", "resting\x1b[31m", identity(seed=5))
    write_status("f", "failed")
    reasons = {relative(run.folder): run.reason for run in find_runs(RUNS).missing}
    assert reasons == {
        "runs/a": "failed: loss is nan",
        "runs/b": "interrupted",
        "runs/c": "running",
        "runs/d": "no result: it says that it is finished, but there is no result.json",
        "runs/e": "unknown",
        "runs/f": "failed",
    }


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"null", 100_000 * b"[", b'{"status": ' + 9_999 * b"9"]
)
def test_a_damaged_status_is_a_warning(make_run: MakeRun, content: bytes) -> None:
    make_run()
    folder = write_status("odd", "running")
    (folder / "status.json").write_bytes(content)
    found = find_runs(RUNS)
    assert found.missing == []  # nothing says that it is of a run
    (warning,) = found.warnings
    assert warning.startswith("runs/odd/status.json ")
    assert "\n" not in warning
    write_plan("first", ("odd", identity(seed=1)))
    assert [run.status for run in find_runs(RUNS).missing] == ["unknown"]


@pytest.mark.parametrize("content", ["{}", '{"status": "ok"}', '{"status": ["failed"]}', '{"status": 5}'])
def test_the_status_of_another_program_is_no_missing_run(make_run: MakeRun, content: str) -> None:
    make_run()
    (write_status("odd", "running") / "status.json").write_text(content)
    found = find_runs(RUNS)
    assert found.missing == []
    assert found.warnings == ["runs/odd/status.json is not the status of a run; left out"]


@pytest.mark.parametrize("run", [[], {}, {"seed": "x"}, identity(steps=-1), identity(group=None)])
def test_a_damaged_identity_is_a_warning(make_run: MakeRun, run: object) -> None:
    make_run()
    write_status("odd", "failed", run, error="no memory")
    found = find_runs(RUNS)
    assert [(cell.reason, cell.run) for cell in found.missing] == [("failed: no memory", None)]
    assert found.warnings[0].startswith("runs/odd/status.json: run")


def test_planned_cells_that_never_started(make_run: MakeRun) -> None:
    folder = make_run("vat", 0)
    write_status("failed", "failed", error="no memory")  # of an older version, but the plan knows it
    plan = [(folder.name, identity(seed=0)), ("failed", identity(seed=1)), ("never", identity(seed=2))]
    write_plan("first", *plan)
    write_plan("again", *plan)
    found = find_runs(RUNS)
    assert [run.seed for run in found.runs] == [0]
    assert [(relative(cell.folder), cell.reason, cell.run and cell.run.seed) for cell in found.missing] == [
        ("runs/failed", "failed: no memory", 1),
        ("runs/never", "not started", 2),
    ]


def test_the_folder_of_a_sweep_stands_for_its_runs(make_run: MakeRun) -> None:
    folder = make_run("vat", 0)
    make_run("vat", 1)
    write_plan("first", (folder.name, identity(seed=0)))
    found = find_runs([Path("runs/sweeps/first")])
    assert [run.seed for run in found.runs] == [0]


def test_damaged_lines_of_a_plan(make_run: MakeRun) -> None:
    make_run("vat", 0)
    plan = write_plan("first", ("never", identity(seed=2)))
    good = plan.read_text()
    bad = ["{", "[]", "{}", '{"schema": 1, "folder": ""}', '{"schema": 1, "folder": "a\\u0000b"}']
    bad.append('{"schema": 1, "folder": "x", "run": 3}')
    plan.write_text("\n".join(bad) + "\n\n" + good + good[: len(good) // 2])
    found = find_runs(RUNS)
    assert [relative(cell.folder) for cell in found.missing] == ["runs/never"]
    assert len(found.warnings) == 7
    assert found.warnings[0].startswith("runs/sweeps/first/cells.jsonl, line 1 is not valid JSON")
    assert found.warnings[6].startswith("runs/sweeps/first/cells.jsonl, line 9 is not valid JSON")


def test_a_plan_that_is_no_file(make_run: MakeRun) -> None:
    make_run("vat", 0)
    (Path("runs") / "sweeps" / "cells.jsonl").mkdir(parents=True)
    found = find_runs(RUNS)
    assert found.warnings == ["runs/sweeps/cells.jsonl is no ordinary file"]


def test_nothing_to_report_is_one_line(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "result.json").unlink()
    (folder / "status.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match=r"^nothing to report in runs; not finished: runs/.* \(running\)$"):
        find_runs(RUNS)
    for seed in range(1, 6):
        (make_run(seed=seed) / "result.json").write_text("{")
    nothing = "^nothing to report in runs; not finished: .*; runs/.*json is not valid JSON"
    with pytest.raises(UserError, match=nothing) as caught:
        find_runs(RUNS)
    assert "\n" not in str(caught.value)


def test_a_sweep_without_any_result_can_be_reported(make_run: MakeRun) -> None:
    assert make_run  # for its working directory
    write_status("a", "failed", identity(seed=1), error="no memory")
    found = find_runs(RUNS)
    assert found.runs == []
    assert len(found.missing) == 1


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder nowhere"):
        find_runs([Path("nowhere")])
    Path("loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"loop is no folder, and no result\.json"):
        find_runs([Path("loop")])


def test_a_folder_with_a_name_that_is_no_text(make_run: MakeRun) -> None:
    folder = make_run()
    os.rename(os.fsencode(folder), os.fsencode(folder.parent) + b"/od\xffd\n")  # noqa: PTH104 - bytes
    write_status("b", "failed", identity(seed=1))
    found = find_runs(RUNS)
    assert [run.seed for run in found.runs] == [0]

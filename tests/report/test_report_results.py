from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_runs import MakeRun

from sslbench.errors import UserError
from sslbench.report import find_runs, load_result


def _change(folder: Path, **changes: Any) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_reads_every_field_and_ignores_unknown_ones(make_run: MakeRun) -> None:
    run = load_result(make_run("vat", seed=3, test_acc=0.91) / "result.json")
    assert (run.algorithm, run.loss, run.seed, run.test_acc) == ("vat", "kl", 3, 0.91)
    assert run.overrides == ("algorithm=vat", "loss=kl", "seed=3")
    assert run.folder.name == "vat-kl-mnist-100-4f3a-s3-0"


def test_loss_and_commit_may_be_null(make_run: MakeRun) -> None:
    run = load_result(make_run("supervised", git_commit=None) / "result.json")
    assert run.loss is None
    assert run.git_commit is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "1"),
        ("seed", True),
        ("steps", 10.5),
        ("test_acc", 91.2),
        ("test_acc", float("nan")),
        ("test_acc", None),
        ("train_seconds", -1),
        ("steps_per_second", float("inf")),
        ("overrides", "seed=1"),
        ("overrides", [1]),
        ("dataset", None),
    ],
)
def test_wrong_value_names_file_and_field(make_run: MakeRun, field: str, value: object) -> None:
    path = _change(make_run(), **{field: value})
    with pytest.raises(UserError, match=f"{path.as_posix()}: '{field}' must be"):
        load_result(path)


def test_missing_field(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    fields = json.loads(path.read_text())
    del fields["test_ece"]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="lacks the field 'test_ece'"):
        load_result(path)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"{'a': 1}"])
def test_malformed_file_is_one_line_that_names_it(make_run: MakeRun, content: bytes) -> None:
    path = make_run() / "result.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not valid JSON") as caught:
        find_runs([Path("runs")])
    assert path.as_posix() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_an_object(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    path.write_text("[]")
    with pytest.raises(UserError, match="no JSON object"):
        load_result(path)


@pytest.mark.parametrize("schema", [2, None, "1"])
def test_other_schema(make_run: MakeRun, schema: object) -> None:
    make_run(seed=0)
    _change(make_run(seed=1), schema=schema)
    with pytest.raises(UserError, match=r"s1-0/result\.json has schema .*, this version reads schema 1"):
        find_runs([Path("runs")])


def test_each_run_once_however_it_is_reached(make_run: MakeRun) -> None:
    folders = [make_run(seed=seed) for seed in (0, 1)]
    places = [Path("runs"), folders[0], folders[1] / "result.json", Path.cwd() / "runs"]
    runs, unfinished = find_runs(places)
    assert [run.seed for run in runs] == [0, 1]
    assert unfinished == []


def test_unfinished_runs_are_listed(make_run: MakeRun) -> None:
    make_run()
    for name, status in (("dead", '{"status": "failed", "error": "loss is nan"}'), ("odd", "[]")):
        (Path("runs") / name).mkdir()
        (Path("runs") / name / "status.json").write_text(status)
    runs, unfinished = find_runs([Path("runs")])
    assert len(runs) == 1
    assert [str(run) for run in unfinished] == ["runs/dead (failed)", "runs/odd (unknown)"]


def test_no_result_says_what_is_unfinished(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "result.json").unlink()
    (folder / "status.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match=r"^no result\.json in runs; not finished: runs/.* \(running\)$"):
        find_runs([Path("runs")])


def test_no_such_folder() -> None:
    with pytest.raises(UserError, match="no folder nowhere"):
        find_runs([Path("nowhere")])

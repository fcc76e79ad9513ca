from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.report_runs import MakeRun
from sslbench.errors import UserError
from sslbench.report import load_result


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
        ("dataset", "x" * 5000),
        ("dataset", "\ud800"),
        ("seed", 10**30),
        ("steps", -1),
        ("train_seconds", 10**400),
        ("train_seconds", 1e300),
        ("metrics_best", {"test/acc": "high"}),
        ("test_calibration", []),
        ("test_calibration", {"counts": [1], "confidence": [0.5]}),
        ("test_calibration", {"counts": [1], "confidence": [0.5], "accuracy": [None]}),
        ("test_calibration", {"counts": [0], "confidence": [None], "accuracy": [None]}),
        ("test_calibration", {"counts": [1], "confidence": [1.5], "accuracy": [0.5]}),
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


def test_calibration_may_be_absent_or_null_or_have_empty_bins(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    assert load_result(path).test_calibration is None
    assert load_result(_change(path.parent, test_calibration=None)).test_calibration is None
    bins = {"counts": [0, 3], "confidence": [None, 0.9], "accuracy": [None, 1]}
    found = load_result(_change(path.parent, test_calibration=bins)).test_calibration
    assert found is not None
    assert found.counts == (0, 3)
    assert found.confidence == (None, 0.9)


def test_control_characters_in_names_become_visible(make_run: MakeRun) -> None:
    run = load_result(_change(make_run(), model="a\x1b[31m\nb\u202e"))
    assert run.model == r"a\x1b[31m\nb\u202e"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"{'a': 1}", "is not valid JSON"),
        (b'{"seed": ' + 5000 * b"9" + b"}", "is not valid JSON"),
        (b'{"a":' + 100_000 * b"[" + 100_000 * b"]" + b"}", "nested too deeply"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"schema": 2}', "has schema 2, this version reads schema 1"),
        (b'{"schema": true}', "has schema True"),
        (b"{}", "has schema None"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(make_run: MakeRun, content: bytes, message: str) -> None:
    path = make_run() / "result.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_result(path)
    assert path.as_posix() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_read(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    path.unlink()
    os.mkfifo(path)  # opening it would wait for a writer
    with pytest.raises(UserError, match="is no ordinary file"):
        load_result(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(UserError, match="cannot read"):
        load_result(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is a folder"):
        load_result(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_best": 2001}, "step_best is 2001 of 2000 steps"),
        ({"metrics_best": {"test/acc": 0.4}}, "test_acc is 0.9, and 'test/acc' of metrics_best is 0.4"),
        ({"metrics_best": {"val/acc": 0.4}}, "val_acc_best is 0.905, and 'val/acc' of metrics_best is 0.4"),
        (
            {"metrics_last": {"test/acc": 0.4}},
            "test_acc_last is 0.898, and 'test/acc' of metrics_last is 0.4",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str, make_run: MakeRun) -> None:
    path = _change(make_run(), **changes)
    with pytest.raises(UserError, match=f"contradicts itself: {message}"):
        load_result(path)


def test_what_is_said_twice_may_agree(make_run: MakeRun) -> None:
    agreed = {
        "metrics_best": {"test/acc": 0.9, "val/acc": 0.905, "x": 1},
        "metrics_last": {"test/acc": 0.898},
    }
    assert load_result(_change(make_run(), step_best=2000, **agreed)).test_acc == 0.9


def test_a_key_twice_is_no_result(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    path.write_text(path.read_text().replace('"test_acc": 0.9,', '"test_acc": 0.9, "test_acc": 0.99,'))
    with pytest.raises(UserError, match="has a key twice"):
        load_result(path)


def test_a_huge_file_is_not_read(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    path.write_text(path.read_text() + " " * 2**23)
    with pytest.raises(UserError, match="bytes: it is no file of a run"):
        load_result(path)

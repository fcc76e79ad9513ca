from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.results import RESULT, SUMMARY
from sslbench.errors import UserError
from sslbench.rundir.parsing import load_result, parse
from sslbench.rundir.records import Calibration, PlanEntry, RunResult, RunSummary

Write = Callable[..., Path]

BINS = {"counts": [0, 3], "confidence": [None, 0.9], "accuracy": [None, 1]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a ``result.json`` with other fields than `RESULT`."""

    def write_result(**changes: Any) -> Path:
        path = tmp_path / "result.json"
        path.write_text(json.dumps(RESULT | changes))
        return path

    return write_result


def test_reads_every_field_and_ignores_unknown_ones(write: Write) -> None:
    path = write(a_field_of_tomorrow={"ignored": True}, folder="/elsewhere")
    run = load_result(path)
    assert (run.algorithm, run.loss, run.seed, run.test_acc) == ("vat", "kl", 3, 0.91)
    assert run.overrides == ("algorithm=vat", "loss=kl", "seed=3")
    assert run.folder == path.parent


def test_loss_and_commit_may_be_null(write: Write) -> None:
    run = load_result(write(loss=None, git_commit=None))
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
        ("test_calibration", {"counts": [1], "confidence": [0.5], "accuracy": [None]}),
        ("test_calibration", {"counts": [0], "confidence": [None], "accuracy": [None]}),
        ("test_calibration", {"counts": [1], "confidence": [1.5], "accuracy": [0.5]}),
    ],
)
def test_wrong_value_names_file_and_field(write: Write, field: str, value: object) -> None:
    path = write(**{field: value})
    with pytest.raises(UserError, match=rf"^{path.as_posix()}: '{field}[^']*' must (be|have) .+, not "):
        load_result(path)


def test_missing_field(write: Write) -> None:
    path = write()
    path.write_text(json.dumps({key: value for key, value in RESULT.items() if key != "test_ece"}))
    with pytest.raises(UserError, match=r"result\.json lacks the field 'test_ece'$"):
        load_result(path)
    path = write(test_calibration={"counts": [1], "confidence": [0.5]})
    with pytest.raises(UserError, match=r"lacks the field 'test_calibration\.accuracy'$"):
        load_result(path)


def test_calibration_may_be_absent_or_null_or_have_empty_bins(write: Write) -> None:
    assert load_result(write()).test_calibration is None
    assert load_result(write(test_calibration=None)).test_calibration is None
    found = load_result(write(test_calibration=BINS)).test_calibration
    assert found == Calibration((0, 3), (None, 0.9), (None, 1.0))
    assert found.error == pytest.approx(0.1)


def test_control_characters_in_names_become_visible(write: Write) -> None:
    run = load_result(write(dataset="a\x1b[31m\nb\u202e"))
    assert run.dataset == r"a\x1b[31m\nb\u202e"


def test_what_is_written_is_read_again(write: Write) -> None:
    result = RunResult(
        **{key: value for key, value in RESULT.items() if key not in ("schema", "overrides")},
        folder=Path("runs/a"),
        overrides=("algorithm=vat",),
        sslbench_version="0.2.0",
        dataset_sha256=64 * "0",
        metrics_best={"val/acc": 0.915},
        metrics_last={"diagnostic/share": math.nan, "diagnostic/gap": math.inf},
        test_balanced_acc=0.5,
        test_class_acc=(1.0, None),
        test_confusion=((3, 0), (0, 0)),
        gpu_memory_peak=2**33,
        test_calibration=Calibration((0, 3), (None, 0.9), (None, 1.0)),
    )
    content = result.content()
    assert content == {
        **RESULT, "overrides": ["algorithm=vat"], "sslbench_version": "0.2.0", "dataset_sha256": 64 * "0",
        "metrics_best": {"val/acc": 0.915}, "metrics_last": {}, "test_calibration": BINS,
        "test_balanced_acc": 0.5, "test_class_acc": [1.0, None], "test_confusion": [[3, 0], [0, 0]],
        "gpu_memory_peak": 2**33,
    }  # fmt: skip
    path = write(**content)
    assert load_result(path) == RunResult(**{**vars(result), "folder": path.parent, "metrics_last": {}})


def test_an_algorithm_may_build_its_own_model() -> None:
    assert parse(RunSummary, {**SUMMARY, "model": None}, "x").model == "own"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("folder", "", "'folder' must be the path of a folder, not ''"),
        ("folder", "a\0b", "'folder' must be the path of a folder"),
        ("folder", "x\ud800", "'folder' must be valid text"),
        ("folder", None, "'folder' must be the path of a folder, not None"),
        ("run", {**SUMMARY, "seed": "x"}, "'run.seed' must be a valid integer, not 'x'"),
        ("run", [], r"'run' must be .*, not \[\]"),
        ("settings", [1], r"'settings' must be a valid dictionary, not \[1\]"),
    ],
)
def test_wrong_line_of_a_plan(field: str, value: object, message: str) -> None:
    entry = {"folder": "../a", "run": SUMMARY, "settings": {"model": {}}}
    assert parse(PlanEntry, entry, "line 1").folder == "../a"
    assert parse(PlanEntry, {**entry, "folder": "od\udcff"}, "line 1"), "raw bytes, as Python decodes them"
    with pytest.raises(UserError, match=f"^line 1: {message}"):
        parse(PlanEntry, {**entry, field: value}, "line 1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"{'a': 1}", "is not valid JSON"),
        (b'{"seed": ' + 5000 * b"9" + b"}", "is not valid JSON"),
        (b'{"a":' + 100_000 * b"[" + 100_000 * b"]" + b"}", "is not valid JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"schema": 2}', "has schema 2, this version reads schema 1"),
        (b'{"schema": true}', "has schema True"),
        (b"{}", "has schema None"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(write: Write, content: bytes, message: str) -> None:
    path = write()
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_result(path)
    assert path.as_posix() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_read(write: Write) -> None:
    path = write()
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
    with pytest.raises(UserError, match="is no ordinary file"):
        load_result(path)

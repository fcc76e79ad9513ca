"""Run folders that somebody made to deceive, crash or misuse ``sslbench-report`` in any of its forms."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.hostile import NOT_JSON, SECRET, Sentinel, changed, odd_files, one_line
from sslbench.cli.report_command import main

Tried = Callable[[int], None]
FORMS = {"html": "r.html", "out": "r.md", "csv": "r.csv", "table": "t.csv", "latex": "r.tex"}

#: Texts that some reader of a report could take for more than text.
TEXTS = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\\input{/etc/passwd}\\write18{touch executed}$^_^$%&#~",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "[x](javascript:alert(1)) ![](http://evil.example/a.png) | a | `b` <!-- ",
    "\x1b[2J\x1b]0;title\x07\r\x00",
    "\u202eevil\u2066\ud800",
    "../../../../tmp/evil",
    "/etc/passwd",
    "{{ 7*7 }}{% raw %}{{ self.__init__.__globals__ }}",
    "${oc.env:SECRET}",
    "$(touch executed); `touch executed`",
    "'; DROP TABLE runs; --",
)
_NAMES = ("run_id", "name", "group", "algorithm", "dataset", "model", "loss", "split_hash", "device", "torch")


@pytest.fixture
def runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one honest run in it, below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", SECRET)
    (tmp_path / "runs").mkdir()
    return folder.rename(tmp_path / "runs" / "honest").parent


def _report(capsys: pytest.CaptureFixture[str], sentinel: Sentinel) -> tuple[dict[str, str], list[str]]:
    """Each form of the report by its option, the terminal's as ``terminal``; and the warnings."""
    before = _files()
    main(["runs", "--seeds", *(word for option, name in FORMS.items() for word in (f"--{option}", name))])
    sentinel.check()
    assert _files() - before <= set(FORMS.values()), "the report wrote elsewhere"
    shown = capsys.readouterr()
    warnings = [one_line(line, "sslbench-report") for line in shown.err.splitlines()]
    forms = {option: Path(name).read_text(encoding="utf-8") for option, name in FORMS.items()}
    forms["terminal"] = shown.out
    for option, text in forms.items():
        assert SECRET not in text, option
        assert "pi_model" in re.sub(r"\\", "", text), option
        assert not set(text) & set("\x1b\x00\x07\u202e\u2066"), option
    return forms, warnings


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.fault("hostile result.json files in a report", "named in a warning, the others are reported")
def test_results(runs: Path, sentinel: Sentinel, tried: Tried, capsys: pytest.CaptureFixture[str]) -> None:
    honest = runs / "honest" / "result.json"
    whole = json.loads(honest.read_text())
    fields = [
        {field: value}
        for field in ("test_acc", "train_seconds", "steps", "seed", "overrides", "metrics_best", "algorithm")
        for value in (float("nan"), float("-inf"), 10**300, [[]], {"a": None}, True, -1, "x" * 5000)
        if not (field == "seed" and value == -1)
    ]
    bins = {"counts": [10**400], "confidence": [0.5], "accuracy": [0.5]}
    fields += [{"test_calibration": bins}, {"schema": 2}, {"schema": [[[[]]]]}, {"schema": True}]
    contents = [changed(honest, **each).encode() for each in fields] + list(NOT_JSON.values())
    contents += [b"[" * depth + b"]" * depth for depth in range(900, 1000, 10)]
    contents += [b'{"schema": ' + b"[" * depth + b"]" * depth + b"}" for depth in range(900, 1000, 10)]
    contents += [json.dumps({key: value for key, value in whole.items() if key != "group"}).encode()]
    names = []
    for number, content in enumerate(contents):
        names.append(f"hostile-{number}")
        (runs / names[-1]).mkdir()
        (runs / names[-1] / "result.json").write_bytes(content)
    for name in odd_files(runs):
        names.append(f"odd {name}")
        (runs / names[-1]).mkdir()
        odd_files(runs / names[-1] / "result.json")[name]()
    forms, warnings = _report(capsys, sentinel)
    for name in names:
        assert any(f"{name}/result.json" in line for line in warnings), name
    assert len([row for row in csv.DictReader(io.StringIO(forms["csv"])) if row["status"] == "finished"]) == 1
    tried(len(names))


@pytest.mark.fault("a result.json of right types whose texts are markup, code or paths", "they stay text")
def test_texts(runs: Path, sentinel: Sentinel, tried: Tried, capsys: pytest.CaptureFixture[str]) -> None:
    honest = runs / "honest" / "result.json"
    for number, text in enumerate(TEXTS):
        text = text.replace("executed", str(sentinel.path))
        encodable = text.encode("utf-8", "ignore").decode()  # half a character is refused
        fields = dict.fromkeys(_NAMES, encodable)
        (runs / f"text-{number}").mkdir()
        (runs / f"text-{number}" / "result.json").write_text(
            changed(honest, **fields, overrides=[encodable], metrics_last={encodable: 1.0}, seed=number)
        )
        (runs / f"failed-{number}").mkdir()
        status = {"status": "failed", "error": text, "run": {**json.loads(honest.read_text()), **fields}}
        (runs / f"failed-{number}" / "status.json").write_text(json.dumps(status))
    forms, warnings = _report(capsys, sentinel)
    assert all("/metrics.jsonl: No such file" in line for line in warnings)
    body = re.sub(r"(?s)<(script|style)>.*?</\1>", "", forms["html"])
    body = re.sub(r'<img src="data:image/svg\+xml;base64,[\w+/=]+"', "", body)  # a figure
    assert not re.search(r"<script|<img|onerror=(?!alert\(1\)&gt;)|href=\"javascript", body)
    assert "{{ 7*7 }}" in body
    assert not re.search(r"\\(input|write)", forms["latex"])
    prose = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", forms["out"])
    assert not re.search(r"<script|<img|(?<!\\)\]\(|<!--", prose)
    for option in ("csv", "table"):
        for row in csv.reader(io.StringIO(forms[option])):
            assert not any(re.match(r"[=@+]|-(?![\d.])", cell) for cell in row), row
    tried(2 * len(TEXTS))


@pytest.mark.fault("hostile status.json, metrics.jsonl and cells.jsonl in a report", "each is told in a line")
def test_other_files(
    runs: Path, sentinel: Sentinel, tried: Tried, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = runs / "honest"
    identity = json.loads((honest / "status.json").read_text())["run"]
    statuses = list(NOT_JSON.values())
    for status, run in (([], {}), ("failed", []), ({"a": 1}, {**identity, "seed": 10**30}), (5, "x")):
        statuses.append(json.dumps({"status": status, "error": [1], "run": run}).encode())
    for number, content in enumerate(statuses):
        (runs / f"status-{number}").mkdir()
        (runs / f"status-{number}" / "status.json").write_bytes(content)
    points = list(NOT_JSON.values())
    points += [b'{"step": 1e400}\n{}', b'{"step": 1, "val/acc": NaN, "test/acc": Infinity}\n']
    points += [b'{"step": "1", "val/acc": 0.5, "test/acc": 0.5}\n{}\n', b'{"step": -1}\n{"step": true}\n']
    for number, content in enumerate(points):
        (runs / f"metrics-{number}").mkdir()
        (runs / f"metrics-{number}" / "result.json").write_text(
            changed(honest / "result.json", seed=number, run_id=f"id-{number}")
        )
        (runs / f"metrics-{number}" / "metrics.jsonl").write_bytes(content)
    folders = [
        "/etc",
        "../../../../etc",
        "\0",
        "",
        5,
        None,
        ["a"],
        "a" * 5000,
        "\x1b[31m",
        "~root",
        "x\ud800",
    ]
    plans = list(NOT_JSON.values())
    plans += [json.dumps({"schema": 1, "folder": each, "run": identity}).encode() for each in folders]
    plans += [json.dumps({"schema": 1, "folder": "a", "run": each}).encode() for each in (5, [], {}, None)]
    for number, content in enumerate(plans):
        (runs / f"sweep-{number}").mkdir()
        (runs / f"sweep-{number}" / "cells.jsonl").write_bytes(content)
    for file in ("status.json", "metrics.jsonl", "cells.jsonl"):
        for name in odd_files(runs):
            (runs / f"odd {name} {file}").mkdir()
            odd_files(runs / f"odd {name} {file}" / file)[name]()
    _, warnings = _report(capsys, sentinel)
    assert any("status-5/" in line for line in warnings)
    assert any("sweep-5/" in line for line in warnings)
    assert any("metrics-5/" in line for line in warnings)
    tried(len(statuses) + len(points) + len(plans) + 3 * len(odd_files(runs)))

"""Names of any kind in a run's files: no broken table, page or line where they are shown."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers.odd_names import CONTROL, NAMES
from sslbench.cli.report_command import main as report
from sslbench.config.file_names import file_name
from sslbench.tracking import show_result

Tried = Callable[[int], None]


@pytest.mark.fault(
    "names in result.json with markup, brackets and escape sequences", "the terminal shows them as they are"
)
def test_the_result_on_the_terminal(capsys: pytest.CaptureFixture[str], tried: Tried) -> None:
    numbers = dict.fromkeys(
        ("val_acc_best", "test_acc", "test_acc_last", "test_acc_median20", "test_ece", "train_seconds"), 0.5
    )
    for name in NAMES:
        named = {"algorithm": name, "dataset": name, "num_labels": 20, "seed": 0, "step_best": 1}
        show_result({**numbers, **named, "steps_per_second": 1.0}, Path("outputs") / name.replace("\0", ""))
        assert not CONTROL.search(capsys.readouterr().out)
    tried(len(NAMES))


def _write_run(folder: Path, name: str, dataset: str, seed: int) -> None:
    """A finished run in which all that is text is `name`."""
    folder.mkdir(parents=True)
    result = {
        "schema": 1, "run_id": f"{name}{seed}", "name": name, "group": f"{name}{dataset}", "algorithm": name,
        "dataset": dataset, "model": name, "loss": name or None, "num_labels": 20, "num_valid": 10,
        "seed": seed, "split_seed": 0, "split_hash": name, "steps": 10, "overrides": [name],
        "val_acc_best": 0.9, "step_best": 10, "test_acc": 0.9, "test_acc_last": 0.9, "test_acc_median20": 0.9,
        "test_ece": 0.1, "train_seconds": 1.0, "steps_per_second": 10.0, "device": name, "precision": "fp32",
        "torch": name, "git_commit": name,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").touch()
    points = [{"step": step, "val/acc": 0.9, "test/acc": 0.9} for step in (5, 10)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(point)}\n" for point in points))


class _Page(HTMLParser):
    """Which elements and attributes a page has, and whether each element is closed in its place."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts = 0
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {key for key, _ in attrs}
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.thorough
@pytest.mark.fault(
    "result.json, status.json, cells.jsonl and folders with names of any kind",
    "tables, page, CSV, LaTeX and terminal are whole, and nothing of a name is markup",
)
def test_the_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tried: Tried,
    thorough: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {kind: f"report.{kind}" for kind in ("html", "md", "csv", "tex", "svg")}
    options = ["--html", files["html"], "--out", files["md"], "--csv", files["csv"], "--latex", files["tex"],
               "--figure", files["svg"], "--table", "groups.csv", "--seeds"]  # fmt: skip
    _write_run(Path("plain/a"), "supervised", "mnist", 0)
    _write_run(Path("plain/b"), "vat", "mnist", 0)
    report(["plain", *options])
    capsys.readouterr()
    ordinary = _Page(Path(files["html"]).read_text())

    names = NAMES if thorough else NAMES[::4]
    for number, name in enumerate(names):
        _write_run(Path(f"runs/{number}"), name, "mnist", 0)
        for folder in (f"runs/{number} {file_name(name)}", f"runs/{name[:40].replace('/', '_')} {number}"):
            missing = Path(folder.replace("\0", "_"))
            missing.mkdir(parents=True)
            identity = json.loads(Path(f"runs/{number}/result.json").read_text()) | {"seed": 1}
            status = {"status": "failed", "error": name, "run": identity}
            (missing / "status.json").write_text(json.dumps(status))
    _write_run(Path("runs/other"), "vat", "<b>|$x_{1}$&%\\", 0)
    run = {"folder": "../x\x1b", "schema": 1, "run": json.loads(Path("runs/0/result.json").read_text())}
    Path("runs/sweeps").mkdir()
    Path("runs/sweeps/cells.jsonl").write_text(json.dumps(run) + "\n")
    report(["runs", *options])

    out, err = capsys.readouterr()
    assert not CONTROL.search(out + err)
    page = Path(files["html"]).read_text(encoding="utf-8")
    found = _Page(page)
    assert found.elements - ordinary.elements <= {"a", "ul", "li", "small"}
    assert not {key for key in found.attributes if key.startswith("on")}
    assert found.scripts == 1
    assert not found.open
    assert not CONTROL.search(page)
    _check_markdown(Path(files["md"]).read_text(encoding="utf-8"))
    for file in (files["csv"], "groups.csv"):
        with Path(file).open(encoding="utf-8", newline="") as opened:
            head, *rows = csv.reader(opened)
        assert len(rows) >= len(names) - 1
        assert {len(row) for row in rows} == {len(head)}
    _check_latex(Path(files["tex"]).read_text(encoding="utf-8"))
    tried(len(names))


def _check_markdown(text: str) -> None:
    """Every row of a table has as many cells as its head, and no line outside of code has an element."""
    assert not CONTROL.search(text)
    columns, code = 0, False
    for line in text.splitlines():
        code ^= line.startswith("```")
        if line.startswith("|") and not code:
            cells = len(re.findall(r"(?<!\\)\|", line))
            columns = columns or cells
            assert cells == columns, line
        else:
            columns = 0
        if not code:
            assert not re.search(r"<[a-z/!]", re.sub(r"`[^`]*`", "", line)), line


def _check_latex(text: str) -> None:
    """Every row has as many cells, and every special character is written as text."""
    body = text.partition("\\midrule")[2].partition("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    words = r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\[&%$#_{}]|\\\\$|&"
    for row in rows:
        assert not re.search(r"[\\$#%_{}^~]", re.sub(words, "", row)), row

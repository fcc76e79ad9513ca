"""Names of any kind: no folder outside the output folder, no broken table, page, line or address."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sslbench.config import Settings
from sslbench.errors import UserError
from sslbench.names import check_folder, file_name
from sslbench.report.cli import main as report
from sslbench.run import check
from sslbench.tracking import WandbTracker, show_result

Sslbench = Callable[..., int]
Tried = Callable[[int], None]

TINY = ["model=mlp", "model.hidden=[4]", "steps=2", "eval_every=2", "device=cpu", "threads=1", "logger=none"]

#: What a name may be, for people who mean harm or type in haste.
NAMES = [
    *("..", ".", "../x", "../../../../tmp/x", "/etc/passwd", "a/../../b", "a//b", "\\..\\x", "C:\\x", "~", "~root"),
    *("-rf", "--help", "-", ".hidden", "+x", "@x", "#x", "a#b", "a%2e%2e", "a:b", "a;b", "a?b", "a*b", "a b", " ", "  x  "),
    *("<b>x", "<script>alert(1)</script>", "</td></tr></table>", "</svg><script>x</script>", "<!--", "]]>", "&lt;b&gt;"),
    *("&", "&amp;", '"', "'", '" onmouseover="x', "javascript:alert(1)", "<img src=x onerror=x>", "{{ 7 * 7 }}", "{% x %}"),
    *("|", "a|b|c", "\\|", "a\\", "`", "``x``", "```", "*x*", "_x_", "__x", "[x](y)", "![x](y)", "# x", "- x", "~~x~~"),
    *("$", "$x$", "$\\frac{1}{0}$", "$x", "\\input{x}", "%", "50%", "x_y^z", "{", "}", "\\\\", "~x^2", "\\end{tabular}"),
    *("[bold]x", "[/x]", "[link=file:///x]y[/link]", "[red]", "\\[x]", "$(touch x)", "`touch x`", "${HOME}", "!x", "a&&b"),
    *("a\nb", "a\r\nb", "\n", "a\tb", "\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "\x00", "a\x7fb", "\x08\x08\x08", "\x85"),
    *("\u2028", "\u2029", "a\u202eb", "\u2066x", "\ufeffx", "\u200bx", "\u00a0", "e\u0301", "é", "数据", "ภาษา", "🙂", "👩‍🔬"),
    *("x" * 300, "é" * 300, "数" * 300, "🙂" * 300, "x/" * 200, "<b>" * 200, "a" * 5000, "=1+1", "=cmd|' /C calc'!A0"),
    *("CON", "nul", "aux.txt", "x.", "x ", "null", "None", "true", "1", "0x1", "1e9", "inf", "nan", "", "a,b", "a=b", "'a'"),
]  # fmt: skip
_RESERVED_AT_WANDB = set("/\\#?%:;,'\"")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def _named(settings: Settings, name: str) -> Settings:
    for group in ("algorithm", "dataset", "loss", "model"):
        settings.choices[group] = name
    return settings


@pytest.mark.fault(
    "names of choices with separators, dots, markup, control characters, up to 5,000 characters",
    "the folder lies directly in the output folder, and W&B takes the id, group and name",
)
def test_the_folder_of_a_run_stays_in_the_output_folder(
    settings_of: Callable[..., Settings], tmp_path: Path, tried: Tried
) -> None:
    settings = settings_of("seed=4294967295")
    root = tmp_path / "outputs"
    root.mkdir()
    for name in NAMES:
        folder = _named(settings, name).directory()
        assert folder.parent == root
        assert folder.resolve().parent == root.resolve()
        assert folder.name.isprintable()
        assert not folder.name.startswith((".", "-"))
        assert len(folder.name.encode()) <= 255
        folder.mkdir(exist_ok=True)
        for given in (settings.run_id, settings.group, settings.name):
            assert not set(given) & _RESERVED_AT_WANDB
            assert given == given.strip()
            assert len(given) <= 128 - len("-01234567"), "what is added to make an id at W&B"
    assert len(list(root.iterdir())) > 50
    tried(len(NAMES))


def test_long_names_are_kept_apart_by_the_hash(settings_of: Callable[..., Settings]) -> None:
    one, other = (_named(settings_of(f"steps={steps}"), "x" * 300) for steps in (10, 20))
    assert one.run_id != other.run_id
    assert one.name == other.name
    assert len(one.run_id) < 120


@pytest.mark.parametrize(
    "name", ["vat-kl-digits-100", "mean_teacher", "seeds_vat.2", "müller", "数据", "a+b", "a@b", "_x"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert file_name(name) == name


def test_the_ids_of_existing_outputs_stay(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of("algorithm=vat", "loss=js", "seed=3", small=False)
    assert settings.run_id == "vat-js-digits-20-s3-202f00be"
    assert settings.group == "vat-js-digits-20-ad50f642"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("a\nb", "control character"),
        ("a\0b", "control character"),
        ("\x1b[31m", "control character"),
        ("a\u2028b", "control character"),
        ("\udcff", "half of one"),
        ("x" * 300, "File name too long"),
        ("y/" * 3000, "File name too long"),
    ],
)
@pytest.mark.parametrize("key", ["output_root", "run_dir"])
def test_a_folder_that_cannot_be_is_one_line(
    key: str, place: str, told: str, sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sslbench(*TINY, f"{key}='{place}'") == 1
    out, err = capfd.readouterr()
    assert told in err
    assert len(err.splitlines()) == 1
    assert err.removesuffix("\n").isprintable()
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_into_a_folder_that_cannot_be_is_told(
    sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sslbench(*TINY, "hydra.sweep.dir='a\x1bb'", "-m") == 1
    err = capfd.readouterr().err
    assert "a\\x1bb' holds a control character" in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_may_be_called_what_they_like() -> None:
    for path in ("a b", "é", "数据", "👩‍🔬", "$x", "a'b", "../x", "~", "<b>", "a\u00a0b"):
        check_folder(path, "output_root")


# --- the real command -------------------------------------------------------------------------------------------

_TYPED = ["..x", "-rf", "<b>x", "a|b&c%d_e", "a'b", 'a"b', "a\\b", "a\nb", "\x1b[31mred", "\u202ex", "🙂", "x" * 200,
          "[red]", "a b", "$x$", "a,b", "sub/../x"]  # fmt: skip


@pytest.mark.fault(
    "choices of the user's own called ..x, -rf, <b>x, a newline, an escape sequence and the like",
    "single run and sweep: a folder in the output folder, and a report that is whole",
)
def test_own_choices_of_any_name(
    sslbench: Sslbench,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    tried: Tried,
    thorough: bool,
) -> None:
    names = _TYPED if thorough else _TYPED[:9]
    algorithms = tmp_path / "own" / "algorithm"
    (algorithms / "sub").mkdir(parents=True)
    for name in names:
        file = algorithms / f"{name}.yaml"
        file.write_text("_target_: sslbench.algorithms.supervised.Supervised\n", encoding="utf-8")
        quoted = name.replace("'", "\\'")
        assert sslbench("--config-dir", "own", *TINY, f"algorithm='{quoted}'") == 0, name
        out, _ = capfd.readouterr()
        assert not _CONTROL.search(out), name
    made = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "own"]
    assert made
    assert all(name.isprintable() and not name.startswith((".", "-")) for name in made)
    tried(len(names))


@pytest.mark.fault(
    "a sweep over choices of the user's own with quotes, bars, markup and an escape sequence in their names",
    "each run has a folder in the output folder, and the terminal gets no control character",
)
def test_a_sweep_over_own_choices(
    sslbench: Sslbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tried: Tried,
) -> None:
    names = ["a|b", "<b>", "a'b", "a\\b", "a\nb", "\x1b[31m", "a,b", "[red]", "..x", "-rf"]
    algorithms = tmp_path / "own" / "algorithm"
    algorithms.mkdir(parents=True)
    for name in names:
        text = "_target_: sslbench.algorithms.supervised.Supervised\n"
        (algorithms / f"{name}.yaml").write_text(text, encoding="utf-8")

    def trained(settings: Settings, sweep: Path) -> dict[str, float]:
        settings.directory().mkdir(parents=True)
        (settings.directory() / "result.json").write_text(json.dumps({"run_id": settings.run_id}))
        return {"val_acc_best": 0.5}

    monkeypatch.setattr("sslbench.sweep.process.train_cell", trained)
    typed = ",".join("'" + name.replace("'", "\\'") + "'" for name in names)
    assert sslbench("--config-dir", "own", *TINY, f"algorithm={typed}", "-m") == 0
    out, err = capfd.readouterr()
    assert not _CONTROL.search(out + err)
    folders = {path.name for path in (tmp_path / "outputs").iterdir()} - {"sweeps"}
    fronts = {name.split("-digits")[0] for name in folders}
    assert fronts == {file_name(f"{name}-digits").removesuffix("-digits") for name in names}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "own"]
    tried(len(names))


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
        assert not _CONTROL.search(capsys.readouterr().out)
    tried(len(NAMES))


# --- W&B --------------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "logger.project, logger.entity and logger.tags of any text", "one line, or what W&B's own client takes"
)
def test_what_wandb_is_sent(settings_of: Callable[..., Settings], tried: Tried) -> None:
    import wandb

    settings = settings_of("logger=wandb")
    taken = 0
    for name in NAMES:
        for key, value in (("project", name), ("entity", name), ("tags", [name])):
            try:
                logger = check(replace(settings, logger={**settings.logger, key: value})).logger
            except UserError as error:
                assert str(error).startswith("logger")
                continue
            assert isinstance(logger, WandbTracker)
            wandb.Settings(project=logger.project, entity=logger.entity, run_tags=logger.tags)
            taken += 1
    assert taken > len(NAMES)
    tried(3 * len(NAMES))


# --- the report -------------------------------------------------------------------------------------------------


def _write_run(folder: Path, name: str, dataset: str, seed: int) -> None:
    """A finished run in which all that is text is `name`."""
    folder.mkdir(parents=True)
    result = {
        "schema": 1, "run_id": f"{name}{seed}", "name": name, "group": f"{name}{dataset}", "algorithm": name,
        "dataset": dataset, "model": name, "loss": name or None, "num_labels": 20, "num_valid": 10, "seed": seed,
        "split_seed": 0, "split_hash": name, "steps": 10, "overrides": [f"algorithm={name}", name],
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
    assert not _CONTROL.search(out + err)
    page = Path(files["html"]).read_text(encoding="utf-8")
    found = _Page(page)
    assert found.elements - ordinary.elements <= {"a", "ul", "li", "small"}
    assert not {key for key in found.attributes if key.startswith("on")}
    assert found.scripts == 1
    assert not found.open
    assert not _CONTROL.search(page)
    _check_markdown(Path(files["md"]).read_text(encoding="utf-8"))
    for file in (files["csv"], "groups.csv"):
        with Path(file).open(encoding="utf-8", newline="") as opened:
            head, *rows = csv.reader(opened)
        assert len(rows) >= len(names) - 1
        assert {len(row) for row in rows} == {len(head)}
    _check_latex(Path(files["tex"]).read_text(encoding="utf-8"))
    tried(len(names))


def _check_markdown(text: str) -> None:
    """Every row of a table has as many cells as its head, and no line outside of code has markup of its own."""
    assert not _CONTROL.search(text)
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
    words = r"\\textbackslash |\\textasciitilde |\\textasciicircum |\\[&%$#_{}]|\\\\$|&"
    for row in rows:
        assert not re.search(r"[\\$#%_{}^~]", re.sub(words, "", row)), row

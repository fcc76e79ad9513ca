from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers.report_runs import CONFIG, MakeRun, identity, metrics, write_status
from sslbench.cli.report_command import main

ACCS = {"vat": (0.951, 0.957, 0.943), "supervised": (0.912, 0.921, 0.899)}


@pytest.fixture
def six_runs(make_run: MakeRun) -> MakeRun:
    for algorithm, accs in ACCS.items():
        for seed, acc in enumerate(accs):
            make_run(algorithm, seed, acc)
    return make_run


def _fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(argv))
    assert caught.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("sslbench-report: ")
    assert err.count("\n") == 1
    return err


def _section(text: str, heading: str) -> str:
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_terminal_table(six_runs: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    main(["runs"])
    out = capsys.readouterr().out
    error = 100 * (1 - np.array(ACCS["vat"]))
    assert f"{error.mean():.2f} ± {error.std(ddof=1):.2f}" in out
    assert "Validation images alone selected the best step" in out
    assert "not finished" not in out


def test_markdown(six_runs: MakeRun) -> None:
    Path("note.md").write_text("The learning rate was tuned on *validation*:\n\n    3 values, seed 0\n")
    main(["runs", "--out", "report.md", "--title", "MNIST, 100", "--note", str(Path("note.md").absolute())])
    text = Path("report.md").read_text()
    assert text.startswith("# MNIST, 100\n")
    assert "\nsslbench-report runs --out report.md --note note.md --title 'MNIST, 100'\n" in text
    assert "The learning rate was tuned on *validation*:\n\n    3 values, seed 0\n\n## Summary" in text
    assert "Validation images alone selected the best step" in text
    assert str(Path.cwd()) not in text

    summary = _section(text, "Summary")
    assert summary.index("| vat |") < summary.index("| supervised |")
    for accs in ACCS.values():
        error = 100 * (1 - np.array(accs))
        assert f"| 3 | {error.mean():.2f} ± {error.std(ddof=1):.2f} |" in summary

    every_run = _section(text, "Every run")
    for number, accs in enumerate(ACCS.values(), start=1):
        for seed, acc in enumerate(accs):
            (row,) = [
                line
                for line in every_run.splitlines()
                if line.startswith(f"| {number} |") and f"| {seed} | 00000000 |" in line
            ]
            assert f"| {100 * (acc + 0.005):.2f} @ 1500 | {100 * (1 - acc):.2f} |" in row
            assert "| cpu | 2.11.0 | 01234567 |" in row

    assert "\nsslbench -m algorithm=vat loss=kl split_seed=0 seed=0,1,2\n" in _section(text, "Commands")
    gaps = 100 * (np.array(ACCS["supervised"]) - np.array(ACCS["vat"]))
    line = _section(text, "Difference to the baseline").splitlines()[-1]
    assert f"| {gaps.mean():+.2f} | {gaps.std(ddof=1) / np.sqrt(3):.2f} | [" in line
    assert line.endswith("] | 3 |")
    assert f"| {gaps.mean():+.2f} [" in summary


def test_tables_are_rectangular_whatever_the_names(make_run: MakeRun) -> None:
    make_run("a|b", device="[bold] x|y")
    main(["runs", "--out", "report.md"])
    rows = [line for line in Path("report.md").read_text().splitlines() if line.startswith("|")]
    widths = [len(line.replace(r"\|", "").split("|")) for line in rows]
    assert widths == 3 * [widths[0]] + 3 * [widths[3]]


def test_single_seed_shows_no_spread(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("vat", 0, 0.95)
    make_run("supervised", 0, 0.9)
    main(["runs", "--out", "report.md"])
    text = Path("report.md").read_text()
    assert "5.00 (n=1: no std)" in text
    assert "5.00 (n=1: no std)" in capsys.readouterr().out
    assert "±" not in _section(text, "Summary").split("\n\n")[1]
    assert "| -5.00 | none, n=1 | - | - | 1 |" in text
    assert "sslbench algorithm=vat loss=kl seed=0\n" in text


def test_method_without_baseline(make_run: MakeRun) -> None:
    make_run("vat")
    main(["runs", "--out", "report.md"])
    section = _section(Path("report.md").read_text(), "Difference to the baseline")
    assert "No baseline with the same data set, labels, steps and splits: vat (kl) (row 1)." in section


def test_only_supervised(make_run: MakeRun) -> None:
    make_run("supervised")
    main(["runs", "--out", "report.md"])
    assert "no other algorithm" in _section(Path("report.md").read_text(), "Difference to the baseline")


def test_csv_round_trip(six_runs: MakeRun) -> None:
    main(["runs", "--csv", "runs.csv"])
    with Path("runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        result = json.loads((Path(row.pop("folder")) / "result.json").read_text())
        del result["schema"], result["a_field_of_tomorrow"]
        assert json.loads(row.pop("overrides")) == result.pop("overrides")
        for name in ("metrics_best", "metrics_last"):
            assert json.loads(row.pop(name)) == result.pop(name, {})
        assert (row.pop("status"), row.pop("error"), row.pop("test_calibration")) == ("finished", "", "")
        assert (row.pop("counted"), row.pop("settings")) == ("True", "")
        # Nothing says that there were twenty evaluations.
        assert (row.pop("test_acc_median20"), result.pop("test_acc_median20", None) is None) == ("", False)
        unknown = dict.fromkeys(row.keys() - result.keys())  # fields that the result does not have
        assert row == {key: "" if value is None else str(value) for key, value in (unknown | result).items()}


def test_png(six_runs: MakeRun) -> None:
    six_runs("vat", 0, 0.97, num_labels=1000)
    main(["runs", "--figure", "figure.png"])
    png = Path("figure.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert width > 1200  # two panels side by side
    assert height > 500


def test_svg_is_the_same_each_time_and_has_a_legend(six_runs: MakeRun) -> None:
    six_runs("vat", 0, 0.94, group="vat with another eps")
    main(["runs", "--figure", "figure.svg", "--title", "Curves"])
    first = Path("figure.svg").read_bytes()
    ElementTree.fromstring(first)
    # Text is drawn as outlines; matplotlib leaves what it says in comments.
    for words in ("Curves", "supervised, 3 seeds", "vat (kl), row 1, 3 seeds"):
        assert f"<!-- {words} -->".encode() in first
    assert b"<!-- mnist, 100 labels, 1000 validation images, 2000 steps -->" in first
    main(["runs", "--figure", "figure.svg", "--title", "Curves"])
    assert Path("figure.svg").read_bytes() == first


def test_figure_with_more_groups_than_colours_and_flat_curves(make_run: MakeRun) -> None:
    for number in range(10):
        folder = make_run(f"method_{number}", 0, 0.5, test_acc_last=0.5)
        (folder / "metrics.jsonl").write_text(metrics([0.5]))
    main(["runs", "--figure", "figure.png"])
    assert Path("figure.png").stat().st_size > 10_000


def test_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to report in" in _fails(capsys, str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figure", "figure.pdf"], "must end in .png or .svg"),
        (["--html", "page.md"], "--html must end in .html or .htm"),
        (["--latex", "table.csv"], "--latex must end in .tex"),
        (["--table", "same.csv", "--csv", "same.csv"], "must be different files"),
        (["--note", "note.md"], "give --out too"),
        (["--out", "same.md", "--note", "./same.md"], "must be different files"),
        (["--out", "a.md", "--note", "absent.md"], "cannot read absent.md: No such file"),
        (["--out", "absent/a.md"], "cannot write absent/a.md: No such file"),
        (["--csv", "runs"], "--csv must end in .csv, not runs"),
        (["--csv", "folder.csv"], "--csv folder.csv is no ordinary file"),
        (["--csv", "/dev/full"], "/dev/full"),
        (["--csv", "null.csv"], "/dev/null"),
        (
            ["--out", "runs/odd/metrics.jsonl"],
            "--out must end in .md or .markdown, not runs/odd/metrics.jsonl",
        ),
        (["--table", "link.csv"], "--table must end in .csv, not runs/odd/result.json"),
    ],
)
def test_wrong_paths(
    six_runs: MakeRun, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    odd = six_runs("odd", group="odd").rename("runs/odd")
    Path("folder.csv").mkdir()
    Path("null.csv").symlink_to("/dev/null")
    Path("link.csv").symlink_to(odd / "result.json")
    before = sorted(Path.cwd().iterdir())
    assert message in _fails(capsys, "runs", *options)
    assert sorted(Path.cwd().iterdir()) == before
    assert json.loads((odd / "result.json").read_text())["algorithm"] == "odd"


def test_a_link_stays_one(six_runs: MakeRun) -> None:
    Path("real.csv").write_text("old")
    Path("link.csv").symlink_to("real.csv")
    main(["runs", "--csv", "link.csv"])
    assert Path("link.csv").is_symlink()
    assert Path("real.csv").read_text().startswith("run_id,")


def _command(*words: str, shell: str) -> subprocess.CompletedProcess[str]:
    line = shlex.join([sys.executable, "-m", "sslbench.cli.report_command", *words])
    return subprocess.run(shell.replace("COMMAND", line), shell=True, capture_output=True, text=True)


def test_an_output_that_takes_nothing_is_one_line(six_runs: MakeRun) -> None:
    done = _command("runs", "--csv", "runs.csv", shell="COMMAND > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "sslbench-report: cannot write the table: No space left on device\n"
    assert Path("runs.csv").exists()


def test_a_closed_output_is_none(six_runs: MakeRun) -> None:
    done = _command("runs", "--csv", "runs.csv", shell="COMMAND >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("runs.csv").exists()


def test_the_working_directory_may_be_gone(six_runs: MakeRun) -> None:
    runs = Path("runs").absolute()
    done = _command(str(runs), shell="mkdir gone && cd gone && rmdir ../gone && COMMAND")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4.97 ± 0.70" in done.stdout


def test_a_note_that_is_no_text(six_runs: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    Path("note.md").write_bytes(b"\xff")
    assert "not UTF-8" in _fails(capsys, "runs", "--out", "a.md", "--note", "note.md")


def test_usage_error_is_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_who_stops_reading_has_the_files(six_runs: MakeRun, encoding: str) -> None:
    command = [sys.executable, "-m", "sslbench.cli.report_command", "runs", "--out", "report.md"]
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
    assert Path("report.md").exists()


def test_a_terminal_without_the_letters(six_runs: MakeRun) -> None:
    six_runs("n\N{LATIN SMALL LETTER O WITH DIAERESIS}")
    done = subprocess.run(
        [sys.executable, "-m", "sslbench.cli.report_command", "runs"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"4.97 ? 0.70" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, sslbench.cli.report_command as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'rich', 'jinja2', 'hydra'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--figure FILE" in done.stdout


FILES = {
    "html": "r.html",
    "out": "r.md",
    "csv": "r.csv",
    "table": "t.csv",
    "latex": "t.tex",
    "figure": "f.svg",
}


@pytest.mark.parametrize("damaged", [False, True])
def test_files_do_not_depend_on_where_the_command_was_typed(
    six_runs: MakeRun, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    root = Path.cwd()
    Path("written/here").mkdir(parents=True)
    if damaged:
        (six_runs("odd") / "result.json").write_text("{")
        (six_runs("ict") / "metrics.jsonl").unlink()
        write_status("dead", "failed", identity(seed=9), error="no memory")
    contents = []
    for place in (".", "written/here", "runs"):
        monkeypatch.chdir(root / place)
        seen = [os.path.relpath(root / name) for name in ("runs", "written")]
        paths = {
            option: Path(seen[1]) / ("here" if option == "csv" else "") / name
            for option, name in FILES.items()
        }
        main([seen[0], *(word for option, path in paths.items() for word in (f"--{option}", str(path)))])
        contents.append({option: path.read_bytes() for option, path in paths.items()})
    assert contents[0] == contents[1] == contents[2]
    markdown = contents[0]["out"].decode()
    assert "\nsslbench-report ../runs --out r.md --figure f.svg --csv here/r.csv" in markdown
    if damaged:
        assert "- ../runs/odd-kl-mnist-100-4f3a-s0-0/result.json is not valid JSON" in markdown
        assert "- ../runs/ict-kl-mnist-100-4f3a-s0-0/metrics.jsonl: No such file" in markdown.replace(
            "cannot read ", ""
        )
        assert "| ../runs/dead |" in markdown
    for row in csv.DictReader(contents[0]["csv"].decode().splitlines()):
        assert (root / "written/here" / row["folder"]).is_dir()


@pytest.mark.parametrize(("eval_every", "known"), [(100, True), (105, True), (106, False), (2000, False)])
def test_a_median_of_twenty_needs_twenty_evaluations(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], eval_every: int, known: bool
) -> None:
    (make_run("vat", 0, 0.9) / "config.yaml").write_text(f"{CONFIG}steps: 2000\neval_every: {eval_every}\n")
    main(["runs", "--csv", "r.csv", "--table", "t.csv", "--out", "r.md"])
    (run,) = csv.DictReader(Path("r.csv").read_text().splitlines())
    (group,) = csv.DictReader(Path("t.csv").read_text().splitlines())
    assert (run["test_acc_median20"] != "", group["test_error_median20_mean"] != "") == (known, known)
    text = Path("r.md").read_text()
    assert ("10.10 (n=1)" in _section(text, "Summary"), "| 10.10 |" in _section(text, "Every run")) == (
        known,
        known,
    )

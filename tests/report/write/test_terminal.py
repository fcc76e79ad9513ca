from __future__ import annotations

from pathlib import Path

import pytest

from helpers.report_runs import MakeRun, identity, write_status
from sslbench.cli.report_command import main
from sslbench.report.compare.comparison import compare
from sslbench.report.read.find import find_runs
from sslbench.report.write.terminal import show


def test_missing_cells_and_reasons_are_shown(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("vat", 0)
    make_run("vat", 1)
    write_status("dead", "failed", identity(seed=2), error="loss is nan at step 3")
    write_status("ict", "running", identity("ict", 0))
    main(["runs"])
    out = capsys.readouterr().out
    lines = out.splitlines()
    (vat,) = [line for line in lines if "│ vat " in line and "10.00 ± 0.00" in line]
    assert "2 of 3 (failed)" in vat
    (ict,) = [line for line in lines if "│ ict " in line and "0 of 1 (running)" in line]
    assert [cell.strip() for cell in ict.strip("│").split("│")][-5:] == ["-"] * 5
    (dead,) = [line for line in lines if "runs/dead" in line]
    assert "loss is nan at step 3" in dead
    assert "failed" in dead
    assert "dataset mnist, labels 100, validation images 1000, steps 2000, model mlp:\n" in out


def test_seeds_on_request(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        make_run("vat", seed, split_seed=seed)
    main(["runs"])
    without = capsys.readouterr().out
    assert "00000001" not in without
    main(["runs", "--seeds"])
    out = capsys.readouterr().out
    assert out.startswith(without[: without.index("Validation images")])
    assert "00000001" in out
    assert "90.50 @ 1500" in out


def test_names_cannot_steer_the_terminal(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("vat", model="\x1b[2J[bold]x[/bold]\x07\n", group="one")
    make_run("vat", model="y" * 3000, group="two")
    write_status("dead", "failed", identity(seed=2), error="\x1b]0;owned\x07")
    main(["runs", "--seeds"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert r"\x1b[2J[bold]x[/bold]\x07\n" in out
    assert max(map(len, out.splitlines())) <= 220


@pytest.mark.parametrize("width", [80, 100, 140, 220])
def test_numbers_are_whole_at_every_width(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    for labels in (100, 1000):
        for seed in range(3):
            make_run("interpolation_consistency", seed, 0.9 + seed / 100, num_labels=labels)
            make_run("supervised", seed, 0.7, num_labels=labels, model="a_long_network")
    write_status("dead", "failed", identity("supervised", seed=3), error="loss is nan " * 20)
    comparison = compare(find_runs([Path("runs")]))
    monkeypatch.setenv("COLUMNS", str(width))
    show(comparison, seeds=True)
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
    assert max(map(len, table)) <= width
    assert "…" not in out
    titles = {word for line in table if line.startswith("┃") for word in line.split()}
    assert {"#", "algorithm", "seeds", "test", "difference"} <= titles
    words = [word for line in table for word in line.split() if word not in "│┃"]
    for number in ("9.00", "±", "1.00", "30.00", "-21.00", "[-22.00,", "-20.00]", "n=3"):
        assert number in words
    # Who looks is told what has no room.
    text = " ".join(out.split())
    dropped = text.partition("left out, as the terminal is narrow: ")[2].partition(";")[0].split(", ")
    for name in ("rank", "seconds"):
        assert (name in titles) != (name in dropped)
    assert ("rank" in dropped) == (width < 140)
    assert max(map(len, out.splitlines())) <= max(width, 110)


def test_warnings_are_lines_on_stderr(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("vat", 0)
    for seed in (1, 2):
        (make_run("vat", seed) / "result.json").write_bytes(b"\x00\x1b{")
    main(["runs"])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("sslbench-report: warning: runs/vat") for line in lines)
    assert "10.00 (n=1: no std)" in captured.out


def test_a_table_for_each_task(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (500, 2000):
        for algorithm in ("vat", "supervised"):
            make_run(algorithm, steps=steps, group=f"{algorithm} {steps}")
    main(["runs"])
    out = capsys.readouterr().out
    assert out.count("┏") == 2
    assert out.index("steps 500,") < out.index("│ 1 │") < out.index("steps 2000,") < out.index("│ 3 │")


def test_a_table_is_wider_than_the_terminal_rather_than_cut(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, loss in enumerate(("mse", "kl", "js")):
        for seed in range(3):
            make_run("interpolation_consistency", seed, 0.9 - place / 100, loss=loss)
            if not place:
                make_run("supervised", seed, 0.7)
    monkeypatch.setenv("COLUMNS", "40")
    show(compare(find_runs([Path("runs")])), seeds=False)
    out = capsys.readouterr().out
    for text in ("│ mse  │", "│ kl   │", " 10.00 ", " -20.00 "):
        assert text in out
    assert "…" not in out
    assert "rank" in out.partition("left out")[2]


def test_a_pipe_is_as_wide_as_it_is_told(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        make_run("vat", seed)
        make_run("supervised", seed)
    for told, width in (("80", 80), ("200", 200)):
        monkeypatch.setenv("COLUMNS", told)
        main(["runs"])
        table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        assert max(map(len, table)) <= width
        assert (max(map(len, table)) > 80) == (width > 80)

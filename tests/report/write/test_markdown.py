from __future__ import annotations

from pathlib import Path

import pytest

from helpers.report_runs import MakeRun, identity, write_status
from sslbench.cli.report_command import main


def _report() -> str:
    main(["runs", "--out", "report.md"])
    return Path("report.md").read_text()


def test_missing_runs_and_damaged_files_have_sections(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("vat", 0)
    (make_run("vat", 7) / "result.json").write_text("{")
    write_status("dead", "failed", identity(seed=1), error="no | memory <b>")
    text = _report()
    section = text.split("## Not finished\n")[1].split("\n## ")[0]
    assert r"| 1 | runs/dead | vat (kl) | 1 | failed | no \| memory &lt;b&gt; |" in section
    assert "| damaged |" in section
    assert "- runs/vat-kl-mnist-100-4f3a-s7-0/result.json is not valid JSON" in text
    assert "| 1 of 2 (failed) | 10.00 (n=1: no std) |" in text
    assert capsys.readouterr().err.count("\n") == 1


def test_a_group_without_a_result_has_dashes(make_run: MakeRun) -> None:
    make_run("supervised", 0)
    write_status("dead", "interrupted", identity(seed=1))
    text = _report()
    assert (
        f"| 2 | - | mnist | 100 | 1000 | 2000 | vat | kl | mlp | 0 of 1 (interrupted) |{8 * ' - |'}" in text
    )
    assert "group `vat" not in text  # no command is known


def test_the_rank_and_the_difference_are_in_the_summary(make_run: MakeRun) -> None:
    for seed, (vat, supervised) in enumerate([(0.95, 0.9), (0.96, 0.9), (0.97, 0.9)]):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    text = _report()
    assert "| 4.00 ± 1.00 | 10.00 ± 0.00 | -6.00 [-7.00, -5.00] n=3 |" in text
    assert "| 2 | 2 | mnist | 100 | 1000 | 2000 | supervised |" in text


def test_names_stay_in_their_cells(make_run: MakeRun) -> None:
    make_run("<script>alert(1)</script>", model="a|b`c\nd", group="x`<y")
    text = _report()
    outside = text[: text.index("```sh\nsslbench '")] + text[text.rindex("```") :]
    assert "<script>" not in outside
    assert r"| a\|b\`c\\nd |" in text
    assert "(group `x'<y`)" in text


def test_names_are_text_and_numbers_keep_their_brackets(make_run: MakeRun) -> None:
    for seed, acc in enumerate((0.9, 0.95)):
        make_run("[a](b)*c_$d$", seed, acc, group="g")
        make_run("supervised", seed, 0.8)
    text = _report()
    assert r"| \[a\](b)\*c\_\$d\$ |" in text
    assert "[a](b)" not in text.split("## Commands")[0]
    assert "| -12.50 [-15.00, -10.00] n=2 |" in text


def test_an_error_is_told_in_full(make_run: MakeRun) -> None:
    make_run("vat", 0)
    write_status("dead", "failed", identity(seed=1), error="x " * 200 + "the end")
    assert f"| {'x ' * 200}the end |" in _report()


def test_rows_whose_seeds_share_one_draw_of_the_labels_are_named(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run("vat", seed, 0.9)
        make_run("supervised", seed, 0.8, split_seed=seed)
    make_run("ict", 0, 0.7)
    note = "one draw of the labels, which all seeds share."
    assert f"\n\nRow 1: {note}" in _report()
    make_run("pi_model", 0, 0.6, split_seed=1)
    make_run("pi_model", 1, 0.6, split_seed=1)
    assert f"\n\nRows 1, 4: {note}" in _report()


def test_the_runs_of_a_baseline_are_counted_where_they_differ(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run("vat", seed, 0.9)
        make_run("supervised", seed, 0.8 + seed / 100)
    assert "| 19.50 ± 0.71 | " in _report()
    write_status("dead", "failed", identity("supervised", seed=2))
    assert "| 19.50 ± 0.71 (n=2 of 3) | " in _report()
    make_run("supervised", 2, 0.82)
    assert "| 19.00 ± 1.00 (n=3) | " in _report()


def test_a_reader_is_warned_of_certain_rows(make_run: MakeRun) -> None:
    notes = ("selected: of several variants", "A rank with *:", "runs of several versions of the program")
    for algorithm in ("vat", "supervised"):
        make_run(algorithm, 0, 0.8)
    text = _report()
    assert not any(note in text for note in notes)
    for algorithm, commit in (("vat", "a" * 40), ("supervised", None)):
        make_run(algorithm, 1, 0.8, git_commit=commit)
    make_run("vat", 0, 0.9, loss="mse")
    text = _report()
    assert all(note in text for note in notes)
    assert "\n\nRows 2 to 3: runs of several versions of the program." in text

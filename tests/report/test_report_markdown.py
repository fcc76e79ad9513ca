from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import MakeRun, identity, write_status

from sslbench.report.cli import main


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
    assert r"| 1 | runs/dead | vat (kl) | 1 | failed | no \| memory &lt;b> |" in section
    assert "| damaged |" in section
    assert "- runs/vat-kl-mnist-100-4f3a-s7-0/result.json is not valid JSON" in text
    assert "| 1 of 2 (failed) | 10.00 (n=1: no spread) |" in text
    assert capsys.readouterr().err.count("\n") == 1


def test_a_group_without_a_result_has_dashes(make_run: MakeRun) -> None:
    make_run("supervised", 0)
    write_status("dead", "interrupted", identity(seed=1))
    text = _report()
    assert (
        f"| 2 | - | mnist | 100 | 1000 | vat | kl | mlp | 2000 | 0 of 1 (interrupted) |{8 * ' - |'}" in text
    )
    assert "group `vat" not in text  # no command is known


def test_the_rank_and_the_difference_are_in_the_summary(make_run: MakeRun) -> None:
    for seed, (vat, supervised) in enumerate([(0.95, 0.9), (0.96, 0.9), (0.97, 0.9)]):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    text = _report()
    assert "| 4.00 ± 1.00 | 10.00 ± 0.00 | -6.00 [-7.00, -5.00] n=3 |" in text
    assert "| 2 | 2 | mnist | 100 | 1000 | supervised |" in text


def test_names_stay_in_their_cells(make_run: MakeRun) -> None:
    make_run("<script>alert(1)</script>", model="a|b`c\nd", group="x`<y")
    text = _report()
    outside = text[: text.index("```sh\nsslbench '")] + text[text.rindex("```") :]
    assert "<script>" not in outside
    assert r"| a\|b'c\nd |" in text
    assert "(group `x'&lt;y`)" in text

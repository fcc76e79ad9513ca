from __future__ import annotations

from pathlib import Path

import pytest

from helpers.report_runs import MakeRun, identity, write_status
from sslbench.cli.report_command import main


def table_of() -> str:
    main(["runs", "--latex", "table.tex"])
    return Path("table.tex").read_text()


def test_the_table_is_one_for_booktabs(make_run: MakeRun) -> None:
    make_run("a_b & 50% $x$ #1 {~^\\}", 0, group="odd")
    make_run("supervised", 0)
    write_status("dead", "failed", identity("supervised", seed=1))
    text = table_of()
    assert text.startswith("% packages: booktabs;")
    lines = text.splitlines()
    start = lines.index(r"\begin{tabular}{rrllrrrrrr}")
    assert lines[start + 1] == r"\toprule"
    assert lines[start + 3] == r"\midrule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert r"test error \%" in lines[start + 2]
    assert "1 of 2 (failed)" in text
    assert r"a\_b \& 50\% \$x\$ \#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}" in text
    # As many cells in each row as in the head.
    rows = [line.replace(r"\&", "") for line in lines if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {9}
    assert "% all rows: dataset mnist, labels 100, validation images 1000, steps 2000, model mlp" in lines
    assert text.count(r"\midrule") == 1
    assert "% difference [95 %]: bootstrap over n pairs. With few pairs the bootstrap interval is too" in text


@pytest.mark.parametrize("algorithms", [1, 25])
def test_a_rule_between_tasks(make_run: MakeRun, algorithms: int) -> None:
    for place in range(algorithms):
        make_run(f"method_{place}", 0, 0.9)
        make_run(f"method_{place}", 0, 0.9, steps=500, group=f"short {place}")
    lines = table_of().splitlines()
    (rule,) = [
        place for place, line in enumerate(lines) if line == r"\midrule" and "method" in lines[place - 1]
    ]
    assert "& 500 &" in lines[rule - 1]
    assert "& 2000 &" in lines[rule + 1]


def test_a_long_table_breaks_over_pages(make_run: MakeRun) -> None:
    for number in range(41):
        make_run(f"method_{number}")
    text = table_of()
    assert text.startswith("% packages: booktabs, longtable;")
    assert r"\begin{longtable}" in text
    assert "\\midrule\n\\endhead\n" in text

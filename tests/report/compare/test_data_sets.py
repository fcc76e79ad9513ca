"""Data sets of one name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from helpers.report_runs import CONFIG, MakeRun, identity, write_status
from sslbench.cli.report_command import main
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.read.find import find_runs


def _write_config(folder: Path, path: str) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace("dataset: {}", f"dataset: {{path: {path}}}"))


def _make(
    make_run: MakeRun, algorithm: str, data: str, acc: float, path: str = "", **changes: object
) -> None:
    """A run on the file `path` with the content `data`."""
    changes = {"dataset": "npz", "dataset_sha256": data, "group": f"{algorithm}-{data}{path}", **changes}
    folder = make_run(algorithm, 0, acc, **changes)
    if path:
        _write_config(folder, path)


def _compared() -> Comparison:
    return compare(find_runs([Path("runs")]))


def _tasks(comparison: Comparison) -> dict[str, set[str]]:
    """The algorithms by the name of their data set."""
    found: dict[str, set[str]] = defaultdict(set)
    for group in comparison.groups:
        found[group.task.dataset].add(group.identity.algorithm)
    return dict(found)


def test_two_files_share_neither_a_table_nor_a_rank_nor_a_panel(make_run: MakeRun) -> None:
    for algorithm, gain in (("vat", 0.1), ("supervised", 0.0)):
        _make(make_run, algorithm, "digits", 0.8 + gain, "/data/dig.npz")
        _make(make_run, algorithm, "four", 0.6 + gain, "/data/dig4.npz")
    found = _compared()
    names = {"npz (dig.npz)", "npz (dig4.npz)"}
    assert set(_tasks(found)) == names
    assert sorted(found.ranks.values()) == [1, 1, 2, 2]
    assert found.selected == {}  # the same algorithm on other data is no variant
    assert [round(difference.mean, 6) for difference in found.differences] == [-0.1, -0.1]
    main(
        [
            "runs",
            "--html",
            "page.html",
            "--out",
            "r.md",
            "--csv",
            "r.csv",
            "--table",
            "t.csv",
            "--figure",
            "f.svg",
        ]
    )
    page = Path("page.html").read_text()
    assert "<b>2</b> data sets" in page
    for name in names:
        assert f"<!-- {name}, 100 labels" in Path("f.svg").read_text()
        assert page.count(f"<h3>{name}, 100 labels") >= 2
        for file, count in (("r.csv", 2), ("t.csv", 2), ("r.md", 4)):
            assert Path(file).read_text().count(name) >= count


def test_a_file_that_was_moved_is_the_same_data(make_run: MakeRun) -> None:
    _make(make_run, "vat", "digits", 0.9, "/old/dig.npz")
    _make(make_run, "supervised", "digits", 0.8, "/new/dig.npz")
    found = _compared()
    assert _tasks(found) == {"npz": {"vat", "supervised"}}
    assert len(found.differences) == 1


def test_another_file_under_the_same_path_is_other_data(make_run: MakeRun) -> None:
    _make(make_run, "vat", "digits", 0.9, "/data/mine.npz")
    _make(make_run, "supervised", "letters", 0.8, "/data/mine.npz")
    assert _tasks(_compared()) == {
        "npz (mine.npz, data 1)": {"vat"},
        "npz (mine.npz, data 2)": {"supervised"},
    }


def test_without_a_configuration_data_have_numbers(make_run: MakeRun) -> None:
    _make(make_run, "vat", "digits", 0.9)
    _make(make_run, "supervised", "letters", 0.8)
    assert _tasks(_compared()) == {"npz (data 1)": {"vat"}, "npz (data 2)": {"supervised"}}


def test_data_without_a_file_are_one_data_set(make_run: MakeRun) -> None:
    for num_labels in (10, 100):
        make_run("vat", num_labels=num_labels)
    assert set(_tasks(_compared())) == {"mnist"}


def test_a_run_that_never_began_belongs_to_its_data(make_run: MakeRun) -> None:
    _make(make_run, "vat", "digits", 0.9, "/data/one.npz")
    _make(make_run, "ict", "letters", 0.9, "/data/two.npz")
    write_status("dead", "failed", identity("pi_model", dataset="npz", dataset_sha256="letters"))
    assert _tasks(_compared()) == {"npz (one.npz)": {"vat"}, "npz (two.npz)": {"ict", "pi_model"}}

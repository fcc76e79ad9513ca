"""Every number of every output is computed again, with numpy and scipy, from the runs it is made from."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from helpers.report_runs import CONFIG, run_result, write_run
from sslbench.cli.report_command import main
from sslbench.report.figures import (
    calibration,
    curve_panels,
    figure_file,
    heat_map,
    label_counts,
    training_time,
)
from sslbench.report.figures.drawing import Panel

STEPS = 2000
#: Evaluations of the runs with so many labels: twenty are needed for their median.
EVALUATIONS = {100: 25, 1000: 10}
#: The runs: algorithm, distance, labels, and the seeds; each split seed is the seed modulo 10.
GROUPS = [
    ("vat", "kl", 100, (0, 1, 2)),
    ("vat", "mse", 100, (0, 1, 2)),
    ("ict", "mse", 100, (0, 1, 2)),
    ("supervised", None, 100, (0, 1, 2)),
    ("vat", "kl", 1000, (0, 1, 2)),
    ("pi_model", "kl", 1000, (10, 11, 12)),  # no pairs with the baseline, and the same splits
    ("supervised", None, 1000, (0, 1, 2)),
]
MEASURES = {
    "test_error": lambda run: 1 - run["test_acc"],
    "test_error_last": lambda run: 1 - run["test_acc_last"],
    "test_error_median20": lambda run: 1 - run["test_acc_median20"],
    "test_ece": lambda run: run["test_ece"],
    "val_acc_best": lambda run: run["val_acc_best"],
    "train_seconds": lambda run: run["train_seconds"],
}


@dataclass
class Made:
    """The runs of one group.

    Attributes:
        label: as legends have it.
        runs: the results.
        logs: of each run, the test and the validation accuracy of each evaluation, ``[runs, steps, 2]``.
        row: its place in the tables, from 1.
        rank: in its task.
    """

    label: str
    runs: list[dict[str, Any]]
    logs: np.ndarray
    row: int = 0
    rank: int = 0

    @property
    def steps(self) -> np.ndarray:
        count = self.logs.shape[1]
        return STEPS * np.arange(1, count + 1) // count

    def values(self, measure: str) -> np.ndarray:
        return np.array([MEASURES[measure](run) for run in self.runs])

    def known(self, measure: str) -> bool:
        return measure != "test_error_median20" or EVALUATIONS[self.runs[0]["num_labels"]] >= 20

    def mean(self, measure: str) -> float:
        return float(self.values(measure).mean())

    def std(self, measure: str) -> float:
        return float(self.values(measure).std(ddof=1))

    def shown(self, measure: str) -> str:
        if not self.known(measure):
            return "-"
        return f"{100 * self.mean(measure):.2f} ± {100 * self.std(measure):.2f}"


@dataclass
class Report:
    """What was written of the groups, in the order of their rows."""

    made: list[Made]
    files: dict[str, str]
    terminal: str
    figures: dict[str, list[Figure]]
    figure_file: list[Axes]

    def baseline(self, made: Made) -> Made:
        labels = made.runs[0]["num_labels"]
        (found,) = [m for m in self.made if m.label == "supervised" and m.runs[0]["num_labels"] == labels]
        return found


def _make(runs: Path) -> list[Made]:
    chance = np.random.default_rng(7)
    found = []
    for algorithm, loss, num_labels, seeds in GROUPS:
        level = {"supervised": 0.6, "pi_model": 0.65, "ict": 0.75, "vat": 0.8}[algorithm]
        results, logs = [], []
        for seed in seeds:
            log = chance.uniform(0.1, 0.95, (EVALUATIONS[num_labels], 2))
            counts = chance.integers(10, 90, 3).tolist()
            bins = {"counts": [0, *counts[:2]], "confidence": [None, *chance.uniform(0.4, 1, 2)],
                    "accuracy": [None, *chance.uniform(0.3, 1, 2)]}  # fmt: skip
            result = run_result(
                algorithm, seed, level + chance.uniform(-0.05, 0.05), loss=loss, num_labels=num_labels,
                split_seed=seed % 10, val_acc_best=level + chance.uniform(-0.09, 0.1),
                step_best=int(chance.integers(1, STEPS)), test_acc_last=log[-1, 0],
                test_acc_median20=chance.uniform(0.3, 0.9), test_ece=chance.uniform(0.01, 0.2),
                test_calibration=bins if num_labels == 100 else None, train_seconds=chance.uniform(5, 900),
                steps_per_second=chance.uniform(2, 300), device=f"device {seed}", torch=f"2.{seed}",
                git_commit=f"{seed:x}" * 40,
            )  # fmt: skip
            folder = write_run(runs / f"{result['group']}-{seed}", result)
            every = STEPS // EVALUATIONS[num_labels]
            (folder / "config.yaml").write_text(f"{CONFIG}steps: {STEPS}\neval_every: {every}\n")
            lines = [
                {"step": (place + 1) * every, "test/acc": test, "val/acc": valid}
                for place, (test, valid) in enumerate(log.tolist())
            ]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            results.append(result)
            logs.append(log)
        found.append(Made(f"{algorithm} ({loss})" if loss else algorithm, results, np.array(logs)))
    found.sort(key=lambda made: (made.runs[0]["num_labels"], made.mean("test_error")))
    for row, made in enumerate(found, start=1):
        made.row = row
        made.rank = row if made.runs[0]["num_labels"] == 100 else row - 4
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp("numbers")
    made = _make(root / "runs")
    figures: dict[str, list[Figure]] = {}
    axes: list[Axes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("COLUMNS", raising=False)
        for module in (calibration, curve_panels, heat_map, label_counts, training_time):
            name = module.__name__.rpartition(".")[2]
            kept = figures.setdefault(name, [])

            def to_svg(figure: Figure, kept: list[Figure] = kept) -> str:
                kept.append(figure)
                return "<svg/>"

            def to_panel(axes: Axes, *words: str, kept: list[Figure] = kept, **_: Any) -> Panel:
                kept.append(axes.figure)
                return Panel(*words, "<svg/>")

            for draw in (to_svg, to_panel):
                if hasattr(module, draw.__name__):
                    patch.setattr(module, draw.__name__, draw)
        draw_curves = figure_file.draw_curves
        patch.setattr(
            figure_file, "draw_curves", lambda first, *rest: axes.append(first) or draw_curves(first, *rest)
        )
        names = {"html": "r.html", "out": "r.md", "csv": "r.csv", "table": "t.csv", "latex": "r.tex"}
        words = [word for option, name in names.items() for word in (f"--{option}", name)]
        with redirect_stdout(io.StringIO()) as out:
            main(["runs", "--seeds", "--figure", "f.svg", *words])
        files = {option: Path(name).read_text(encoding="utf-8") for option, name in names.items()}
    return Report(made, files, out.getvalue(), figures, axes)


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _difference(made: Made, baseline: Made) -> dict[str, Any]:
    """The difference to the baseline: paired by seeds, or Welch's."""
    ours, theirs = made.values("test_error"), baseline.values("test_error")
    if made.label.startswith("pi_model"):
        error = float(np.sqrt(ours.var(ddof=1) / 3 + theirs.var(ddof=1) / 3))
        return {"mean": ours.mean() - theirs.mean(), "error": error, "n": 0}
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    pairs = ours - theirs
    # Of three pairs the percentile interval reaches from the lowest to the highest.
    return {"mean": pairs.mean(), "error": stats.sem(pairs), "n": 3, "bootstrap": (pairs.min(), pairs.max()),
            "t": (interval.low, interval.high)}  # fmt: skip


def _interval(found: dict[str, Any], name: str) -> str:
    return f"[{_points(found[name][0])}, {_points(found[name][1])}]" if name in found else "-"


def _summary(report: Report, made: Made) -> tuple[dict[str, str], dict[str, float]]:
    """What the row of a group says by title, and the numbers that the page sorts it by."""
    run = made.runs[0]
    variants = [m for m in report.made if m.label.startswith("vat") and m.runs[0]["num_labels"] == 100]
    selected = made is max(variants, key=lambda m: m.mean("val_acc_best"))
    texts = {
        "#": str(made.row), "rank": f"{made.rank}{'*' if run['seed'] > 9 else ''}", "dataset": "mnist",
        "labels": str(run["num_labels"]), "validation images": "1000", "steps": str(STEPS),
        "algorithm": run["algorithm"], "loss": run["loss"] or "-", "model": "mlp",
        "selected": "best of 2" if selected else "",
        "seeds (n)": "3", "test error %": made.shown("test_error"), "baseline %": "-",
        "difference [95 %]": "-", "Student's t 95 %": "-", "ECE %": made.shown("test_ece"),
        "at last step %": made.shown("test_error_last"), "median of 20 %": made.shown("test_error_median20"),
        "val acc %": made.shown("val_acc_best"), "seconds": f"{made.mean('train_seconds'):.1f}",
    }  # fmt: skip
    values = {
        "#": made.row, "rank": made.rank, "labels": run["num_labels"], "validation images": 1000,
        "steps": STEPS, "seeds (n)": 3, "test error %": made.mean("test_error"),
        "ECE %": made.mean("test_ece"), "at last step %": made.mean("test_error_last"),
        "val acc %": made.mean("val_acc_best"), "seconds": made.mean("train_seconds"),
    }  # fmt: skip
    if made.known("test_error_median20"):
        values["median of 20 %"] = made.mean("test_error_median20")
    if made.label != "supervised":
        baseline = report.baseline(made)
        found = _difference(made, baseline)
        sure = f"{_interval(found, 'bootstrap')} n=3" if found["n"] else "(unpaired)"
        texts["baseline %"] = baseline.shown("test_error")
        texts["difference [95 %]"] = f"{_points(found['mean'])} {sure}"
        texts["Student's t 95 %"] = _interval(found, "t")
        values |= {"baseline %": baseline.mean("test_error"), "difference [95 %]": found["mean"]}
    return texts, values


def _run(made: Made, run: dict[str, Any]) -> tuple[dict[str, str], dict[str, float]]:
    """Likewise of a run."""
    values = {
        "#": made.row, "labels": run["num_labels"], "seed": run["seed"],
        "val acc % @ step": run["val_acc_best"], "seconds": run["train_seconds"],
        "steps/s": run["steps_per_second"],
    }  # fmt: skip
    texts = {
        "#": str(made.row), "dataset": "mnist", "labels": str(run["num_labels"]), "algorithm": made.label,
        "seed": str(run["seed"]), "split": f"{run['seed'] % 10:08x}",
        "val acc % @ step": f"{100 * run['val_acc_best']:.2f} @ {run['step_best']}",
        "seconds": f"{run['train_seconds']:.1f}", "steps/s": f"{run['steps_per_second']:.1f}",
        "device": run["device"], "torch": run["torch"], "commit": run["git_commit"][:8],
    }  # fmt: skip
    for measure, title in (
        ("test_error", "test error %"), ("test_error_last", "at last step %"),
        ("test_error_median20", "median of 20 %"), ("test_ece", "ECE %"),
    ):  # fmt: skip
        texts[title] = "-"
        if made.known(measure):
            values[title] = MEASURES[measure](run)
            texts[title] = f"{100 * values[title]:.2f}"
    return texts, values


def _difference_row(report: Report, made: Made) -> tuple[dict[str, str], dict[str, float]]:
    """Likewise of the table of differences."""
    baseline = report.baseline(made)
    found = _difference(made, baseline)
    texts = {
        "#": str(made.row), "dataset": "mnist", "labels": str(made.runs[0]["num_labels"]),
        "algorithm": made.label, "model": "mlp", "baseline #": str(baseline.row), "baseline model": "mlp",
        "difference, points": _points(found["mean"]), "standard error": f"{100 * found['error']:.2f}",
        "bootstrap 95 %": _interval(found, "bootstrap"), "Student's t 95 %": _interval(found, "t"),
        "pairs": "3" if found["n"] else "none: 3 and 3 runs",
    }  # fmt: skip
    values = {
        "#": made.row, "labels": made.runs[0]["num_labels"], "baseline #": baseline.row,
        "difference, points": found["mean"], "standard error": found["error"], "pairs": found["n"],
    }  # fmt: skip
    if found["n"]:
        values |= {"bootstrap 95 %": found["bootstrap"][0], "Student's t 95 %": found["t"][0]}
    return texts, values


def _without(texts: dict[str, str], *titles: str) -> dict[str, str]:
    return {title: text for title, text in texts.items() if title not in titles}


def _all_rows(report: Report) -> dict[str, list[tuple[dict[str, str], dict[str, float]]]]:
    return {
        "summary": [_summary(report, made) for made in report.made],
        "runs": [_run(made, run) for made in report.made for run in made.runs],
        "differences": [_difference_row(report, m) for m in report.made if m.label != "supervised"],
    }


SHARED = ("dataset", "validation images", "steps", "model")
T = "Student's t 95 %"
ONLY_FILES = ("at last step %", "median of 20 %", "val acc %")


def test_markdown(report: Report) -> None:
    rows = _all_rows(report)
    tables = {"summary": "Summary", "runs": "Every run", "differences": "Difference to the baseline"}
    for key, heading in tables.items():
        section = report.files["out"].split(f"## {heading}\n")[1].split("\n## ")[0]
        head, _, *lines = [line for line in section.splitlines() if line.startswith("|")]
        titles = [cell.strip() for cell in head.strip("|").split("|")]
        cells = [[cell.strip().replace("\\_", "_") for cell in line[1:-1].split("|")] for line in lines]
        expected = [_without(texts, T) if key == "summary" else texts for texts, _ in rows[key]]
        assert [dict(zip(titles, row, strict=True)) for row in cells] == expected


class _Tables(HTMLParser):
    """The tables of a page by id: titles, and cells with the numbers that they are sorted by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self._rows: list[list[tuple[str, str | None]]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._rows = self.tables[str(dict(attrs)["id"])] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append(("", dict(attrs).get("data-value")))
            self._in_cell = True
        elif tag == "small":
            self._in_cell = False

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            text, value = self._rows[-1][-1]
            self._rows[-1][-1] = (text + data, value)


def test_page(report: Report) -> None:
    tables = _Tables(report.files["html"]).tables
    rows = _all_rows(report)
    for key, name in (
        ("summary", "summary-table"),
        ("runs", "run-table"),
        ("differences", "difference-table"),
    ):
        (head, *body) = tables[name]
        titles = [text for text, _ in head]
        assert len(body) == len(rows[key])
        for cells, (texts, values) in zip(body, rows[key], strict=True):
            found = dict(zip(titles, cells, strict=True))
            expected = _without(texts, T, *SHARED) if key == "summary" else texts
            assert {t: text.strip() for t, (text, _) in found.items() if t != "files"} == expected
            numbers = {title: float(value) for title, (_, value) in found.items() if value is not None}
            known = {title: value for title, value in values.items() if title in found}
            assert numbers == pytest.approx(known)
    assert f"{len(report.made)}</b> configurations" in report.files["html"]
    assert "<b>21</b> runs with a result" in report.files["html"]
    assert "<b>0</b> missing" in report.files["html"]


def test_page_names_what_is_certain(report: Report) -> None:
    rows = re.split("<tr", report.files["html"].split('id="summary-table"')[1].split("</table>")[0])[2:]
    for made, row in zip(report.made, rows, strict=True):
        found = _difference(made, report.baseline(made)) if made.label != "supervised" else {}
        low, high = found.get("t", (-1, 1))
        sign = "better" if high < 0 else "worse" if low > 0 else ""
        assert (re.findall(r"<small>(\w+)</small>", row) or [""]) == [sign]


def test_latex(report: Report) -> None:
    lines = [line for line in report.files["latex"].splitlines() if line.endswith(r"\\")]
    head, *body = [
        [re.sub(r"\\([%#_])", r"\1", cell.strip()) for cell in line.removesuffix(r" \\").split(" & ")]
        for line in lines
    ]
    expected = [_without(texts, *SHARED, *ONLY_FILES, "seconds") for texts, _ in _all_rows(report)["summary"]]
    found = [dict(zip(head, [cell.replace("$-$", "-") for cell in row], strict=True)) for row in body]
    assert found == expected
    assert "$-$" in report.files["latex"]


def test_terminal(report: Report) -> None:
    rows = _all_rows(report)
    tables: list[list[dict[str, str]]] = []
    titles: list[str] = []
    for line in report.terminal.splitlines():
        if line.startswith("┃"):
            titles = [cell.strip() for cell in line.strip("┃").split("┃")]
            tables.append([])
        elif line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            tables[-1].append(dict(zip(titles, cells, strict=True)))
    few, many, runs = tables
    expected = [_without(texts, T, *SHARED, "labels", *ONLY_FILES) for texts, _ in rows["summary"]]
    assert few == expected[:4]
    assert many == [_without(texts, "selected") for texts in expected[4:]]
    assert runs == [_without(texts, *ONLY_FILES) for texts, _ in rows["runs"]]


def test_runs_csv(report: Report) -> None:
    found = list(csv.DictReader(io.StringIO(report.files["csv"])))
    results = [(made, run) for made in report.made for run in made.runs]
    assert len(found) == len(results)
    for row, (made, result) in zip(found, results, strict=True):
        assert row.pop("folder") == f"runs/{result['group']}-{result['seed']}"
        row.pop("settings"), row.pop("status"), row.pop("error"), row.pop("counted")
        expected = {name: result.get(name, {} if name.startswith("metrics") else None) for name in row}
        if not made.known("test_error_median20"):
            expected["test_acc_median20"] = None
        for name, value in expected.items():
            shown = row[name]
            if isinstance(value, float):
                assert float(shown) == value, name
            elif isinstance(value, dict | list):
                assert json.loads(shown) == value, name
            else:
                assert shown == ("" if value is None else str(value)), name
        assert {"test_acc", "test_acc_last", "test_ece", "train_seconds", "steps_per_second"} <= set(row)


def test_groups_csv(report: Report) -> None:
    found = list(csv.DictReader(io.StringIO(report.files["table"])))
    assert len(found) == len(report.made)
    selected = [row["selected_by_validation_of"] for row in found]
    assert selected == ["2" if _summary(report, m)[0]["selected"] else "" for m in report.made]
    for row, made in zip(found, report.made, strict=True):
        run = made.runs[0]
        expected: dict[str, Any] = {
            "row": made.row, "rank": made.rank, "group": run["group"], "dataset": "mnist",
            "num_labels": run["num_labels"], "num_valid": 1000, "steps": STEPS, "algorithm": run["algorithm"],
            "loss": run["loss"], "model": "mlp", "settings": "",
            "seeds": 3, "seeds_missing": 0, "missing": "",
        }  # fmt: skip
        for measure in MEASURES:
            known = made.known(measure)
            expected[f"{measure}_mean"] = made.mean(measure) if known else None
            expected[f"{measure}_std"] = made.std(measure) if known else None
        names = ("baseline_row", "baseline_test_error_mean", "difference", "pairs", "standard_error",
                 "bootstrap_low", "bootstrap_high", "t_interval_low", "t_interval_high")  # fmt: skip
        expected |= dict.fromkeys(names)
        if made.label != "supervised":
            baseline = report.baseline(made)
            d = _difference(made, baseline)
            bounds = [*d.get("bootstrap", (None, None)), *d.get("t", (None, None))]
            numbers = [baseline.row, baseline.mean("test_error"), d["mean"], d["n"], d["error"], *bounds]
            expected |= dict(zip(names, numbers, strict=True))
        del row["selected_by_validation_of"]
        assert set(row) == set(expected)
        for name, value in expected.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value), name
            else:
                assert row[name] == ("" if value is None else str(value)), name


def _made_of(report: Report, label: str, num_labels: int) -> Made:
    """By a legend's entry, which may have more behind the name."""
    (found,) = [
        made
        for made in report.made
        if label.startswith(made.label) and made.runs[0]["num_labels"] == num_labels
    ]
    return found


def _check_curves(report: Report, axes: Axes, num_labels: int) -> int:
    """Compare the curves of a panel; returns how many there are."""
    lines, bands = list(axes.lines), list(axes.collections)
    assert len(lines) == 2 * len(bands)
    for test, valid, band in zip(lines[::2], lines[1::2], bands, strict=True):
        made = _made_of(report, test.get_label(), num_labels)
        assert test.get_label().endswith(", 3 seeds")
        accs = 100 * made.logs
        for line, values in ((test, accs[..., 0]), (valid, accs[..., 1])):
            np.testing.assert_array_equal(line.get_xdata(), made.steps)
            np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
        corners = band.get_paths()[0].vertices
        for step, low, high in zip(made.steps, accs[..., 0].min(0), accs[..., 0].max(0), strict=True):
            heights = corners[corners[:, 0] == step, 1]
            assert (heights.min(), heights.max()) == pytest.approx((low, high))
    return len(bands)


def test_curves(report: Report) -> None:
    axes = [figure.axes[0] for figure in report.figures["curve_panels"]]
    # All algorithms with 100 labels; then the two variants of VAT and the baseline; then 1,000 labels.
    labels = [100, 100, 1000]
    assert [_check_curves(report, a, n) for a, n in zip(axes, labels, strict=True)] == [3, 3, 3]
    assert [_check_curves(report, a, n) for a, n in zip(report.figure_file, (100, 1000), strict=True)] == [
        3,
        3,
    ]
    for found in (axes[0], report.figure_file[0]):
        ends = [line.get_ydata()[found.lines[0].get_xdata() >= 500] for line in found.lines]
        low, high = found.get_ylim()
        assert low < min(end.min() for end in ends)
        assert high > max(end.max() for end in ends)


def _bars(container: Any) -> list[np.ndarray]:
    """The lines of the error bars of some points, ``[points, 2 ends, 2]``."""
    _, _, (bars,) = container
    return bars.get_segments()


def test_accuracy_against_labels(report: Report) -> None:
    (figure,) = report.figures["label_counts"]
    (axes,) = figure.axes
    assert [container.get_label() for container in axes.containers] == ["vat", "supervised"]
    for container in axes.containers:
        made = []
        for num_labels in (100, 1000):
            variants = [
                m for m in report.made
                if m.runs[0]["algorithm"] == container.get_label() and m.runs[0]["num_labels"] == num_labels
            ]  # fmt: skip
            made.append(max(variants, key=lambda m: m.mean("val_acc_best")))
        np.testing.assert_array_equal(container[0].get_xdata(), [100, 1000])
        np.testing.assert_allclose(
            container[0].get_ydata(orig=False), [100 - 100 * m.mean("test_error") for m in made]
        )
        for ends, m in zip(_bars(container), made, strict=True):
            assert np.ptp(ends[:, 1]) == pytest.approx(2 * 100 * m.std("test_error"))


def test_accuracy_against_time(report: Report) -> None:
    figures = report.figures["training_time"]
    for figure, num_labels in zip(figures, (100, 1000), strict=True):
        made = [m for m in report.made if m.runs[0]["num_labels"] == num_labels]
        containers = figure.axes[0].containers
        assert len(containers) == len(made)
        for container, m in zip(containers, made, strict=True):
            ((x, y),) = container[0].get_xydata()
            assert (x, y) == pytest.approx((m.mean("train_seconds"), 100 - 100 * m.mean("test_error")))
            assert np.ptp(_bars(container)[0][:, 1]) == pytest.approx(200 * m.std("test_error"))


def test_map_of_distances(report: Report) -> None:
    (figure,) = report.figures["heat_map"]
    axes = figure.axes[0]
    rows = [text.get_text() for text in axes.get_yticklabels()]
    columns = [text.get_text() for text in axes.get_xticklabels()]
    found = {}
    for text in axes.texts:
        x, y = text.get_position()
        found[rows[round(y)], columns[round(x)]] = text.get_text()
    few = [made for made in report.made if made.runs[0]["num_labels"] == 100]
    assert found == {
        (made.runs[0]["algorithm"], made.runs[0]["loss"] or "none"): made.shown("test_error").replace(
            " ±", "\n±"
        )
        for made in few
    }
    colours = axes.images[0].get_array()
    for made in few:
        place = rows.index(made.runs[0]["algorithm"]), columns.index(made.runs[0]["loss"] or "none")
        assert colours[place] == pytest.approx(100 * made.mean("test_error"))


def test_calibration(report: Report) -> None:
    [figure] = report.figures["calibration"]
    diagonal, *lines = figure.axes[0].lines
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert len(lines) == 3
    for line in lines:
        made = _made_of(report, line.get_label(), 100)
        assert line.get_label().endswith(f", ECE {100 * made.mean('test_ece'):.1f} %")
        bins = [run["test_calibration"] for run in made.runs]
        for place in (1, 2):
            counts = [one["counts"][place] for one in bins]
            for axis, name in enumerate(("confidence", "accuracy")):
                pooled = np.average([one[name][place] for one in bins], weights=counts)
                assert line.get_xydata()[place - 1, axis] == pytest.approx(pooled)

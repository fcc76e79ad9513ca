"""The tables of a report: the summary, every run, the differences, and the runs without a result."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.differences import Difference, Interval
from sslbench.report.compare.groups import Group, MeanStd, algorithm_label
from sslbench.report.read.find import MissingRun
from sslbench.report.write.columns import (
    NOTHING,
    Cell,
    Column,
    Form,
    Table,
    format_interval,
    format_mean_std,
    format_points,
    make_table,
    number_cell,
    number_column,
    text_column,
)
from sslbench.rundir.records import RunResult, RunSummary
from sslbench.system.paths import relative


class GroupRow(NamedTuple):
    """A row of the summary."""

    group: Group
    comparison: Comparison

    @property
    def run(self) -> RunSummary:
        """What its runs share."""
        return self.group.identity

    @property
    def difference(self) -> Difference | None:
        """To supervised training."""
        return self.comparison.row_differences.get(self.group.number)


class RunRow(NamedTuple):
    """A row of the table of every run."""

    group: Group
    run: RunResult


class MissingRow(NamedTuple):
    """A row of the table of the runs without a result."""

    missing: MissingRun
    comparison: Comparison


def _rank(row: GroupRow) -> Cell:
    rank = row.comparison.ranks.get(row.group.number)
    star = "*" if row.group.number in row.comparison.incomplete_seeds else ""
    return Cell(f"{rank}{star}", rank) if rank else Cell(NOTHING)


def _selected(row: GroupRow) -> Cell:
    count = row.comparison.selected.get(row.group.number, 0)
    return Cell(f"best of {count}" if count > 1 else "the only complete one" if count else "")


def _seeds(row: GroupRow) -> Cell:
    group = row.group
    reasons = [", ".join(sorted({run.status for run in group.missing}))]
    if 1 < (splits := len({run.split_hash for run in group.runs})) < len(group.runs):
        reasons.insert(0, f"{splits} splits")
    why = "; ".join(filter(None, reasons))
    return Cell(f"{group.seeds} ({why})" if why else group.seeds, len(group.runs))


def _seeds_csv(row: GroupRow) -> dict[str, Any]:
    missing = row.group.missing
    reasons = "; ".join(f"seed {entry.run.seed} {entry.reason}" for entry in missing if entry.run)
    return {"seeds": len(row.group.runs), "seeds_missing": len(missing), "missing": reasons}


def _supervised(row: GroupRow) -> Cell:
    """The error of the baseline, with the number of its runs where it is not that of the row.

    Its row is named where there are several that it might be.
    """
    if row.difference is None:
        return Cell(NOTHING)
    baseline, error = row.difference.baseline, row.difference.baseline.test_error
    shown = format_mean_std(error, f"n={baseline.seeds}")
    if error.n > 1 and (baseline.missing or error.n != len(row.group.runs)):
        shown += f" (n={baseline.seeds})"
    if sum(difference.group is row.group for difference in row.comparison.differences) > 1:
        shown += f" (#{baseline.number})"
    return Cell(shown, error.mean)


def _difference(row: GroupRow) -> Cell:
    if not (difference := row.difference):
        return Cell(NOTHING)
    if difference.bootstrap:
        sure = f"{format_interval(difference.bootstrap)} n={difference.n}"
    else:
        sure = f"n={difference.n}" if difference.paired else "(unpaired)"
    return Cell(f"{format_points(difference.mean)} {sure}", difference.mean)


def _difference_csv(row: GroupRow) -> dict[str, Any]:
    difference = row.difference
    bootstrap = (difference and difference.bootstrap) or (None, None)
    t_interval = (difference and difference.t_interval) or (None, None)
    return {
        "supervised_row": difference and difference.baseline.number,
        "supervised_test_error_mean": difference and difference.baseline.test_error.mean,
        "difference": difference and difference.mean,
        "pairs": difference and difference.n,
        "standard_error": difference and difference.standard_error,
        "bootstrap_low": bootstrap[0],
        "bootstrap_high": bootstrap[1],
        "t_interval_low": t_interval[0],
        "t_interval_high": t_interval[1],
    }


def _averaged(
    measure: str, title: str, form: Callable[[MeanStd], str] = format_mean_std, **options: Any
) -> Column[GroupRow]:
    """The column of one of `MEASURES` over the runs; `form` writes mean and standard deviation."""

    def cell(row: GroupRow) -> Cell:
        number = row.group.mean_std(measure)
        return Cell(form(number), number.mean) if number else Cell(NOTHING)

    def csv(row: GroupRow) -> dict[str, Any]:
        number = row.group.mean_std(measure)
        return {f"{measure}_mean": number and number.mean, f"{measure}_std": number and number.std}

    return Column(title, cell, csv, number=True, **options)


RANK = Column(
    "rank",
    _rank,
    lambda row: {"rank": row.comparison.ranks.get(row.group.number), "group": row.run.group},
    number=True,
    first=True,
    drop=8,
)
SELECTED = Column(
    "selected",
    _selected,
    lambda row: {"selected_by_validation_of": row.comparison.selected.get(row.group.number)},
    optional=True,
    first=True,
    drop=16,
    kind="selected",
)
DIFFERENCE = Column(
    "difference [95 %]",
    _difference,
    _difference_csv,
    number=True,
    drop=17,
    brief="difference",
    kind="difference",
)
SUMMARY_COLUMNS: tuple[Column[GroupRow], ...] = (
    number_column("#", lambda row: row.group.number, "row", first=True),
    RANK,
    text_column("dataset", lambda row: row.group.task.dataset, "dataset", shared=True, drop=13),
    number_column("labels", lambda row: row.run.num_labels, "num_labels", shared=True, drop=14),
    number_column("validation images", lambda row: row.run.num_valid, "num_valid", shared=True, drop=10),
    number_column("steps", lambda row: row.run.steps, "steps", shared=True, drop=11),
    text_column("algorithm", lambda row: row.run.algorithm, "algorithm", first=True),
    text_column("loss", lambda row: row.run.loss, "loss", first=True, drop=19, tells_apart=True),
    text_column("model", lambda row: row.run.model, "model", shared=True, drop=18, tells_apart=True),
    text_column(
        "settings",
        lambda row: row.group.settings,
        "settings",
        optional=True,
        first=True,
        drop=20,
        tells_apart=True,
    ),
    SELECTED,
    Column("seeds (n)", _seeds, _seeds_csv, number=True, kind="seeds"),
    _averaged("test_error", "test error %", partial(format_mean_std, single="n=1: no std")),
    Column("supervised %", _supervised, number=True, drop=9),
    DIFFERENCE,
    Column(
        "Student's t 95 %",
        lambda row: Cell(format_interval(row.difference.t_interval if row.difference else None)),
        number=True,
        forms=Form.LATEX,
    ),
    _averaged("test_ece", "ECE %", drop=6),
    _averaged("test_error_last", "at last step %", forms=Form.FILES),
    _averaged("test_error_median20", "median of 20 %", forms=Form.FILES),
    _averaged("val_acc_best", "val acc %", forms=Form.FILES),
    _averaged(
        "train_seconds",
        "seconds",
        lambda number: f"{number.mean:.1f}",
        forms=Form.TERMINAL | Form.FILES,
        drop=5,
    ),
)


def _measured(measure: str, title: str, **options: Any) -> Column[RunRow]:
    """The column of one of `MEASURES` of a run, in percent."""
    return number_column(title, lambda row: row.group.value(measure, row.run), digits=2, scale=100, **options)


def _beginning(digest: str) -> str:
    # A suffix such as -dirty matters more than the digits.
    digits, dash, suffix = digest.partition("-")
    return f"{digits[:8]}{dash}{suffix}"


def _validation(row: RunRow) -> Cell:
    return Cell(f"{100 * row.run.val_acc_best:.2f} @ {row.run.step_best}", row.run.val_acc_best)


RUN_COLUMNS: tuple[Column[RunRow], ...] = (
    number_column("#", lambda row: row.group.number),
    text_column("dataset", lambda row: row.group.task.dataset, drop=13),
    number_column("labels", lambda row: row.run.num_labels, drop=14),
    text_column("algorithm", lambda row: row.group.label),
    number_column("seed", lambda row: row.run.seed),
    text_column("split", lambda row: _beginning(row.run.split_hash), drop=7),
    Column("val acc % @ step", _validation, number=True, drop=12),
    _measured("test_error", "test error %"),
    _measured("test_error_last", "at last step %", forms=Form.FILES),
    _measured("test_error_median20", "median of 20 %", forms=Form.FILES),
    _measured("test_ece", "ECE %", drop=6),
    number_column("seconds", lambda row: row.run.train_seconds, digits=1, drop=5),
    number_column("steps/s", lambda row: row.run.steps_per_second, digits=1, drop=3),
    text_column("device", lambda row: row.run.device, drop=4),
    text_column("torch", lambda row: row.run.torch, drop=2),
    text_column("commit", lambda row: _beginning(row.run.git_commit or ""), drop=1),
)


def _standard_error(row: Difference) -> Cell:
    return Cell("none, n=1") if row.standard_error is None else number_cell(row.standard_error, 2, 100)


def _interval(interval: Interval | None) -> Cell:
    return Cell(format_interval(interval), interval[0] if interval else None)


def _pairs(row: Difference) -> Cell:
    if row.paired:
        return number_cell(row.n)
    return Cell(f"none: {len(row.group.runs)} and {len(row.baseline.runs)} runs", 0)


DIFFERENCE_COLUMNS: tuple[Column[Difference], ...] = (
    number_column("#", lambda row: row.group.number),
    text_column("dataset", lambda row: row.group.task.dataset),
    number_column("labels", lambda row: row.group.task.num_labels),
    text_column("algorithm", lambda row: row.group.label),
    text_column("model", lambda row: row.group.identity.model),
    text_column("settings", lambda row: row.group.settings, optional=True),
    number_column("supervised #", lambda row: row.baseline.number),
    text_column("supervised model", lambda row: row.baseline.identity.model),
    text_column("supervised settings", lambda row: row.baseline.settings, optional=True),
    Column(
        "difference, points",
        lambda row: Cell(format_points(row.mean), row.mean),
        number=True,
        kind=DIFFERENCE.kind,
    ),
    Column("standard error", _standard_error, number=True),
    Column("bootstrap 95 %", lambda row: _interval(row.bootstrap), number=True),
    Column("Student's t 95 %", lambda row: _interval(row.t_interval), number=True),
    Column("pairs", _pairs, number=True),
)


def _missing_error(row: MissingRow) -> str:
    counted = row.comparison.counts(row.missing)
    elsewhere = "" if counted else "the same run lies in another folder, which counts"
    return "; ".join(filter(None, [row.missing.error, elsewhere]))


def _missing_row(row: MissingRow) -> int | None:
    group = row.comparison.group_of(row.missing)
    return group.number if group else None


MISSING_COLUMNS: tuple[Column[MissingRow], ...] = (
    number_column("#", _missing_row),
    text_column("folder", lambda row: relative(row.missing.folder)),
    text_column("algorithm", lambda row: algorithm_label(row.missing.run) if row.missing.run else None),
    number_column("seed", lambda row: row.missing.run.seed if row.missing.run else None),
    text_column("status", lambda row: row.missing.status),
    text_column("error", _missing_error, in_full=True),
)


def summary_table(comparison: Comparison, form: Form, groups: Sequence[Group] | None = None) -> Table:
    """A row for each group, or for each of some `groups`; one without a result has dashes."""
    shown = comparison.groups if groups is None else groups
    return make_table(SUMMARY_COLUMNS, [GroupRow(group, comparison) for group in shown], form)


def run_table(comparison: Comparison, form: Form) -> Table:
    """A row for each run with a result."""
    rows = [RunRow(group, run) for group in comparison.groups for run in group.runs]
    return make_table(RUN_COLUMNS, rows, form)


def difference_table(comparison: Comparison, form: Form) -> Table:
    """A row for each algorithm and baseline."""
    return make_table(DIFFERENCE_COLUMNS, comparison.differences, form)


def missing_table(comparison: Comparison, form: Form) -> Table:
    """A row for each run without a result."""
    return make_table(MISSING_COLUMNS, [MissingRow(run, comparison) for run in comparison.missing], form)

"""The tables of a report: the summary, every run, the differences, and the runs without a result."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.differences import Difference, Interval
from sslbench.report.compare.groups import Group, MeanStd, algorithm_label
from sslbench.report.read.find import MissingRun
from sslbench.report.write.columns import (
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
        """To the baseline."""
        return self.comparison.row_differences.get(self.group.number)


class RunRow(NamedTuple):
    """A row of the table of every run."""

    group: Group
    run: RunResult


class MissingRow(NamedTuple):
    """A row of the table of the runs without a result."""

    missing: MissingRun
    comparison: Comparison


def _rank(row: GroupRow) -> Cell | None:
    rank = row.comparison.ranks.get(row.group.number)
    star = "*" if row.group.number in row.comparison.incomplete_seeds else ""
    return Cell(f"{rank}{star}", rank) if rank else None


def _selected(row: GroupRow) -> str:
    count = row.comparison.selected.get(row.group.number, 0)
    return f"best of {count}" if count > 1 else "the only complete one" if count else ""


def _seeds(row: GroupRow) -> Cell:
    group = row.group
    reasons = [", ".join(sorted({run.status for run in group.missing}))]
    if 1 < (splits := len({run.split_hash for run in group.runs})) < len(group.runs):
        reasons.insert(0, f"{splits} splits")
    why = "; ".join(filter(None, reasons))
    return Cell(f"{group.seeds} ({why})" if why else group.seeds, len(group.runs))


def _baseline(row: GroupRow) -> Cell | None:
    """The error of the baseline, with the number of its runs where it is not that of the row.

    Its row is named where there are several that it might be.
    """
    if row.difference is None:
        return None
    baseline, error = row.difference.baseline, row.difference.baseline.test_error
    shown = format_mean_std(error, f"n={baseline.seeds}")
    if error.n > 1 and (baseline.missing or error.n != len(row.group.runs)):
        shown += f" (n={baseline.seeds})"
    if sum(difference.group is row.group for difference in row.comparison.differences) > 1:
        shown += f" (#{baseline.number})"
    return Cell(shown, error.mean)


def _difference(row: GroupRow) -> Cell | None:
    if not (difference := row.difference):
        return None
    if difference.bootstrap:
        sure = f"{format_interval(difference.bootstrap)} n={difference.n}"
    else:
        sure = f"n={difference.n}" if difference.n else "(unpaired)"
    return Cell(f"{format_points(difference.mean)} {sure}", difference.mean)


def _averaged(
    measure: str, title: str, form: Callable[[MeanStd], str] = format_mean_std, **options: Any
) -> Column[GroupRow]:
    """The column of one of `MEASURES` over the runs; `form` writes mean and standard deviation."""

    def cell(row: GroupRow) -> Cell | None:
        number = row.group.mean_std(measure)
        return Cell(form(number), number.mean) if number else None

    return number_column(title, cell, **options)


_WIDE = Form.ALL ^ Form.NARROW
DIFFERENCE = number_column("difference [95 %]", _difference, kind="difference")
SUMMARY_COLUMNS: tuple[Column[GroupRow], ...] = (
    number_column("#", lambda row: row.group.number),
    number_column("rank", _rank, forms=_WIDE),
    Column("dataset", lambda row: row.group.task.dataset, shared=True),
    number_column("labels", lambda row: row.run.num_labels, shared=True),
    number_column("validation images", lambda row: row.run.num_valid, shared=True),
    number_column("steps", lambda row: row.run.steps, shared=True),
    Column("algorithm", lambda row: row.run.algorithm),
    Column("loss", lambda row: row.run.loss),
    Column("model", lambda row: row.run.model, shared=True),
    Column("settings", lambda row: row.group.settings, optional=True),
    Column("selected", _selected, forms=_WIDE, optional=True, kind="selected"),
    number_column("seeds (n)", _seeds, kind="seeds"),
    _averaged("test_error", "test error %", partial(format_mean_std, single="n=1: no std")),
    number_column("baseline %", _baseline, forms=_WIDE),
    DIFFERENCE,
    number_column(
        "Student's t 95 %",
        lambda row: format_interval(row.difference.t_interval if row.difference else None),
        forms=Form.LATEX,
    ),
    _averaged("test_ece", "ECE %", forms=_WIDE),
    _averaged("test_error_last", "at last step %", forms=Form.FILES),
    _averaged("test_error_median20", "median of 20 %", forms=Form.FILES),
    _averaged("val_acc_best", "val acc %", forms=Form.FILES),
    _averaged("train_seconds", "seconds", lambda number: f"{number.mean:.1f}", forms=Form.WIDE | Form.FILES),
)


def _measured(measure: str, title: str, **options: Any) -> Column[RunRow]:
    """The column of one of `MEASURES` of a run, in percent."""
    return number_column(title, lambda row: number_cell(row.group.value(measure, row.run), 2, 100), **options)


def _beginning(digest: str) -> str:
    # A suffix such as -dirty matters more than the digits.
    digits, dash, suffix = digest.partition("-")
    return f"{digits[:8]}{dash}{suffix}"


def _validation(row: RunRow) -> Cell:
    return Cell(f"{100 * row.run.val_acc_best:.2f} @ {row.run.step_best}", row.run.val_acc_best)


RUN_COLUMNS: tuple[Column[RunRow], ...] = (
    number_column("#", lambda row: row.group.number),
    Column("dataset", lambda row: row.group.task.dataset),
    number_column("labels", lambda row: row.run.num_labels),
    Column("algorithm", lambda row: row.group.label),
    number_column("seed", lambda row: row.run.seed),
    Column("split", lambda row: _beginning(row.run.split_hash), forms=_WIDE),
    number_column("val acc % @ step", _validation, forms=_WIDE),
    _measured("test_error", "test error %"),
    _measured("test_error_last", "at last step %", forms=Form.FILES),
    _measured("test_error_median20", "median of 20 %", forms=Form.FILES),
    _measured("test_ece", "ECE %", forms=_WIDE),
    number_column("seconds", lambda row: number_cell(row.run.train_seconds, 1), forms=_WIDE),
    number_column("steps/s", lambda row: number_cell(row.run.steps_per_second, 1), forms=_WIDE),
    Column("device", lambda row: row.run.device, forms=_WIDE),
    Column("torch", lambda row: row.run.torch, forms=_WIDE),
    Column("commit", lambda row: _beginning(row.run.git_commit or ""), forms=_WIDE),
)


def _standard_error(row: Difference) -> Cell:
    return number_cell(row.standard_error, 2, 100) or Cell("none, n=1")


def _interval(interval: Interval | None) -> Cell:
    return Cell(format_interval(interval), interval[0] if interval else None)


def _pairs(row: Difference) -> Cell | int:
    return row.n or Cell(f"none: {len(row.group.runs)} and {len(row.baseline.runs)} runs", 0)


DIFFERENCE_COLUMNS: tuple[Column[Difference], ...] = (
    number_column("#", lambda row: row.group.number),
    Column("dataset", lambda row: row.group.task.dataset),
    number_column("labels", lambda row: row.group.task.num_labels),
    Column("algorithm", lambda row: row.group.label),
    Column("model", lambda row: row.group.identity.model),
    Column("settings", lambda row: row.group.settings, optional=True),
    number_column("baseline #", lambda row: row.baseline.number),
    Column("baseline model", lambda row: row.baseline.identity.model),
    Column("baseline settings", lambda row: row.baseline.settings, optional=True),
    number_column(
        "difference, points", lambda row: Cell(format_points(row.mean), row.mean), kind=DIFFERENCE.kind
    ),
    number_column("standard error", _standard_error),
    number_column("bootstrap 95 %", lambda row: _interval(row.bootstrap)),
    number_column("Student's t 95 %", lambda row: _interval(row.t_interval)),
    number_column("pairs", _pairs),
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
    Column("folder", lambda row: relative(row.missing.folder)),
    Column("algorithm", lambda row: algorithm_label(row.missing.run) if row.missing.run else None),
    number_column("seed", lambda row: row.missing.run.seed if row.missing.run else None),
    Column("status", lambda row: row.missing.status),
    Column("error", _missing_error, kind="error"),
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

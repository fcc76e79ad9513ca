"""The cells of the tables, the same in the terminal and in every kind of file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.differences import Difference, Interval
from sslbench.report.compare.groups import Group, Spread, spread
from sslbench.rundir.records import RunResult

NOTHING = "-"


class Column(NamedTuple):
    """A column's name, and whether it holds numbers and is set to the right."""

    name: str
    right: bool


class Cell(NamedTuple):
    """What a cell says, and the number it is sorted by (None sorts last)."""

    text: str
    value: float | None = None


#: Columns and rows.
Table = tuple[list[Column], list[list[Cell]]]


def _columns(*names: str, right: Sequence[str] = ()) -> tuple[Column, ...]:
    return tuple(Column(name, name in right) for name in names)


SUMMARY_COLUMNS = _columns(
    *("#", "rank", "dataset", "labels", "validation images", "algorithm", "loss", "model", "settings"),
    *("by val.", "steps", "seeds (n)", "test error %", "supervised %", "difference [95 %]"),
    *("at last step %", "median of 20 %", "ECE %", "val acc %", "seconds"),
    right=(
        *("#", "rank", "labels", "validation images", "steps", "seeds (n)", "test error %", "supervised %"),
        *("difference [95 %]", "at last step %", "median of 20 %", "ECE %", "val acc %", "seconds"),
    ),
)
RUN_COLUMNS = _columns(
    *("#", "dataset", "labels", "method", "seed", "split", "val acc % @ step", "test error %"),
    *("at last step %", "median of 20 %", "ECE %", "seconds", "steps/s", "device", "torch", "commit"),
    right=(
        *("#", "labels", "seed", "val acc % @ step", "test error %", "at last step %", "median of 20 %"),
        *("ECE %", "seconds", "steps/s"),
    ),
)
DIFFERENCE_COLUMNS = _columns(
    *("#", "dataset", "labels", "method", "model", "settings", "supervised #", "supervised model"),
    *("supervised settings", "difference, points", "standard error", "bootstrap 95 %", "Student's t 95 %"),
    *("pairs",),
    right=(
        *("#", "labels", "supervised #", "difference, points", "standard error", "bootstrap 95 %"),
        *("Student's t 95 %", "pairs"),
    ),
)
# Columns that are left out where no row has anything in them.
_BLANK = ("settings", "supervised settings", "by val.")
# Where all rows agree in one of these, a table may say so once.
_TASK = ("dataset", "labels", "validation images", "model", "steps")
MISSING_COLUMNS = _columns("#", "folder", "method", "seed", "status", "error", right=("#", "seed"))


def format_spread(value: Spread, single: str = "n=1") -> str:
    """A fraction in percent, ``mean ± std``; one value is marked with `single`."""
    if value.std is None:
        return f"{100 * value.mean:.2f} ({single})"
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f}"


def format_interval(interval: Interval | None) -> str:
    """Fractions in points, ``[low, high]``."""
    return f"[{_points(interval[0])}, {_points(interval[1])}]" if interval else NOTHING


def _points(fraction: float) -> str:
    """A difference in percentage points; one that rounds to nothing has no minus."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"


def _number(value: float, digits: int) -> Cell:
    return Cell(f"{value:.{digits}f}", value)


def _whole(value: int) -> Cell:
    return Cell(str(value), value)


def _spread_cell(values: Sequence[float], single: str = "n=1") -> Cell:
    number = spread(values)
    return Cell(format_spread(number, single), number.mean)


def _gap_cells(gap: Difference | None, *, several: bool) -> list[Cell]:
    """With the baseline's row, where there are `several` that it might be."""
    if gap is None:
        return [Cell(NOTHING), Cell(NOTHING)]
    baseline, theirs = gap.baseline, gap.baseline.test_error
    # The number of its runs, where it is not that of the row.
    same = not baseline.missing and theirs.n == len(gap.method.runs)
    shown = format_spread(theirs, f"n={baseline.seeds}")
    if theirs.n > 1 and not same:
        shown += f" (n={baseline.seeds})"
    if several:
        shown += f" (#{baseline.number})"
    if gap.bootstrap:
        sure = f"{format_interval(gap.bootstrap)} n={gap.n}"
    else:
        sure = f"n={gap.n}" if gap.paired else "(unpaired)"
    return [Cell(shown, theirs.mean), Cell(f"{_points(gap.mean)} {sure}", gap.mean)]


def _choice(count: int | None) -> str:
    if count is None:
        return ""
    return f"best of {count}" if count > 1 else "the only whole one"


def _rank_cell(group: Group, comparison: Comparison) -> Cell:
    rank = comparison.ranks[group.number]
    return Cell(f"{rank}*" if group.number in comparison.out_of_step else str(rank), rank)


def _seeds(group: Group) -> str:
    why = ", ".join(sorted({cell.status for cell in group.missing}))
    if 1 < (splits := len({run.split_hash for run in group.runs})) < len(group.runs):
        why = f"{splits} splits; {why}" if why else f"{splits} splits"
    return f"{group.seeds} ({why})" if why else group.seeds


def summary_table(comparison: Comparison) -> Table:
    """A row for each group; one without a result has dashes. Settings have a column only if rows differ."""
    return without_blank(SUMMARY_COLUMNS, [_summary_cells(group, comparison) for group in comparison.groups])


def difference_table(comparison: Comparison) -> Table:
    """A row for each method and baseline; likewise."""
    return without_blank(DIFFERENCE_COLUMNS, list(map(_difference_cells, comparison.differences)))


def without_blank(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
    """Take out the columns of settings and choices in which no row has anything."""
    kept = [
        place
        for place, column in enumerate(columns)
        if column.name not in _BLANK or any(row[place].text for row in rows)
    ]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _summary_cells(group: Group, comparison: Comparison) -> list[Cell]:
    head, runs = group.head, group.runs
    cells = [
        _whole(group.number),
        _rank_cell(group, comparison) if runs else Cell(NOTHING),
        Cell(head.dataset),
        _whole(head.num_labels),
        _whole(head.num_valid),
        Cell(head.algorithm),
        Cell(head.loss or NOTHING),
        Cell(head.model),
        Cell(group.settings),
        Cell(_choice(comparison.chosen.get(group.number))),
        _whole(head.steps),
        Cell(_seeds(group), len(runs)),
    ]
    if not runs:
        return [*cells, *[Cell(NOTHING)] * (len(SUMMARY_COLUMNS) - len(cells))]
    return [
        *cells,
        Cell(format_spread(group.test_error, single="n=1: no spread"), group.test_error.mean),
        *_gap_cells(comparison.beside.get(group.number), several=comparison.baselines[group.number] > 1),
        _spread_cell([1 - run.test_acc_last for run in runs]),
        _spread_cell([1 - run.test_acc_median20 for run in runs]),
        _spread_cell([run.test_ece for run in runs]),
        _spread_cell([run.val_acc_best for run in runs]),
        _number(spread([run.train_seconds for run in runs]).mean, 1),
    ]


def _short(digest: str) -> str:
    # A suffix such as -dirty matters more than the digits.
    head, dash, tail = digest.partition("-")
    return f"{head[:8]}{dash}{tail}"


def run_cells(group: Group, run: RunResult) -> list[Cell]:
    """The cells of `RUN_COLUMNS`."""
    return [
        _whole(group.number),
        Cell(run.dataset),
        _whole(run.num_labels),
        Cell(group.label),
        _whole(run.seed),
        Cell(_short(run.split_hash)),
        Cell(f"{100 * run.val_acc_best:.2f} @ {run.step_best}", run.val_acc_best),
        _number(100 * (1 - run.test_acc), 2),
        _number(100 * (1 - run.test_acc_last), 2),
        _number(100 * (1 - run.test_acc_median20), 2),
        _number(100 * run.test_ece, 2),
        _number(run.train_seconds, 1),
        _number(run.steps_per_second, 1),
        Cell(run.device),
        Cell(run.torch),
        Cell(_short(run.git_commit) if run.git_commit else NOTHING),
    ]


def _difference_cells(gap: Difference) -> list[Cell]:
    method, baseline = gap.method, gap.baseline
    n = len(method.runs)
    error = gap.standard_error
    return [
        _whole(method.number),
        Cell(method.head.dataset),
        _whole(method.head.num_labels),
        Cell(method.label),
        Cell(method.head.model),
        Cell(method.settings),
        _whole(baseline.number),
        Cell(baseline.head.model),
        Cell(baseline.settings),
        Cell(_points(gap.mean), gap.mean),
        Cell("none, n=1") if error is None else Cell(f"{100 * error:.2f}", error),
        Cell(format_interval(gap.bootstrap), gap.bootstrap[0] if gap.bootstrap else None),
        Cell(format_interval(gap.t_interval), gap.t_interval[0] if gap.t_interval else None),
        _whole(gap.n) if gap.paired else Cell(f"none: {n} and {len(baseline.runs)} runs", 0),
    ]


def missing_rows(comparison: Comparison) -> list[list[Cell]]:
    """The cells of `MISSING_COLUMNS`, for each run without a result."""
    numbers = {group.head.group: group.number for group in comparison.groups}
    rows = []
    for cell in comparison.missing:
        number = numbers.get(cell.run.group) if cell.run else None
        error = cell.error
        if not comparison.counts(cell):
            error = f"{error}; " if error else ""
            error += "the same run lies in another folder, which counts"
        method = f"{cell.run.algorithm} ({cell.run.loss})" if cell.run and cell.run.loss else None
        rows.append(
            [
                _whole(number) if number is not None else Cell(NOTHING),
                Cell(cell.place),
                Cell(method or (cell.run.algorithm if cell.run else NOTHING)),
                _whole(cell.run.seed) if cell.run else Cell(NOTHING),
                Cell(cell.status),
                Cell(error or NOTHING),
            ]
        )
    return rows


def without_shared(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]]
) -> tuple[list[Column], list[list[Cell]], dict[str, str]]:
    """Take out the columns of the task in which all rows agree; returns what they say by name."""
    places = [place for place, column in enumerate(columns) if column.name in _TASK]
    same = {place for place in places if len({row[place].text for row in rows}) == 1}
    kept = [place for place in range(len(columns)) if place not in same]
    shared = {columns[place].name: rows[0][place].text for place in sorted(same)}
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows], shared


def texts(cells: Sequence[Cell]) -> list[str]:
    """What the cells say."""
    return [cell.text for cell in cells]

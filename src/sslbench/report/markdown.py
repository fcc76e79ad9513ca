"""The report as markdown, and the table cells that the terminal shows too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sslbench.report.results import RunResult, UnfinishedRun
from sslbench.report.summary import (
    Difference,
    Group,
    Spread,
    commands,
    differences_to_supervised,
    spread,
)

ON_CHOICE = (
    "The best step of each run was chosen on the validation images alone; the test images were only "
    "evaluated and reported."
)
# Name, and whether the column holds numbers and is set to the right.
SUMMARY_COLUMNS = (
    ("#", True),
    ("dataset", False),
    ("labels", True),
    ("validation images", True),
    ("algorithm", False),
    ("loss", False),
    ("model", False),
    ("steps", True),
    ("seeds (n)", True),
    ("test error %", True),
    ("at last step %", True),
    ("median of 20 %", True),
    ("ECE %", True),
    ("val acc %", True),
)
_RUN_COLUMNS = (
    ("#", True),
    ("dataset", False),
    ("labels", True),
    ("method", False),
    ("seed", True),
    ("split", False),
    ("val acc % @ step", True),
    ("test error %", True),
    ("at last step %", True),
    ("median of 20 %", True),
    ("seconds", True),
    ("steps/s", True),
    ("device", False),
    ("torch", False),
    ("commit", False),
)
_DIFFERENCE_COLUMNS = (
    ("#", True),
    ("dataset", False),
    ("labels", True),
    ("method", False),
    ("model", False),
    ("supervised #", True),
    ("supervised model", False),
    ("difference, points", True),
    ("standard error", True),
    ("seeds", True),
    ("comparison", False),
)


def format_spread(value: Spread, single: str = "n=1") -> str:
    """A fraction in percent, ``mean ± std``; one value is marked with `single`."""
    if value.std is None:
        return f"{100 * value.mean:.2f} ({single})"
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f}"


def summary_row(group: Group) -> list[str]:
    """The cells of `SUMMARY_COLUMNS`."""
    head, runs = group.head, group.runs
    return [
        str(group.number),
        head.dataset,
        str(head.num_labels),
        str(head.num_valid),
        head.algorithm,
        head.loss or "-",
        head.model,
        str(head.steps),
        str(len(runs)),
        format_spread(group.test_error, single="n=1: no spread"),
        format_spread(spread([1 - run.test_acc_last for run in runs])),
        format_spread(spread([1 - run.test_acc_median20 for run in runs])),
        format_spread(spread([run.test_ece for run in runs])),
        format_spread(spread([run.val_acc_best for run in runs])),
    ]


def not_finished(runs: Sequence[UnfinishedRun]) -> str:
    """The line that names runs without a result."""
    return f"not finished: {', '.join(map(str, runs))}"


def _short(digest: str) -> str:
    # A suffix such as -dirty matters more than the digits.
    head, dash, tail = digest.partition("-")
    return f"{head[:8]}{dash}{tail}"


def _run_row(group: Group, run: RunResult) -> list[str]:
    return [
        str(group.number),
        run.dataset,
        str(run.num_labels),
        group.label,
        str(run.seed),
        _short(run.split_hash),
        f"{100 * run.val_acc_best:.2f} @ {run.step_best}",
        f"{100 * (1 - run.test_acc):.2f}",
        f"{100 * (1 - run.test_acc_last):.2f}",
        f"{100 * (1 - run.test_acc_median20):.2f}",
        f"{run.train_seconds:.1f}",
        f"{run.steps_per_second:.1f}",
        run.device,
        run.torch,
        _short(run.git_commit) if run.git_commit else "-",
    ]


def _difference_row(difference: Difference) -> list[str]:
    method, baseline = difference.method, difference.baseline
    n, error = len(method.runs), difference.standard_error
    return [
        str(method.number),
        method.head.dataset,
        str(method.head.num_labels),
        method.label,
        method.head.model,
        str(baseline.number),
        baseline.head.model,
        f"{100 * difference.mean:+.2f}",
        "none, n=1" if error is None else f"{100 * error:.2f}",
        str(n) if difference.paired else f"{n} and {len(baseline.runs)}",
        "paired" if difference.paired else "unpaired",
    ]


def table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; the columns that hold numbers are set to the right."""

    def line(cells: Iterable[str]) -> str:
        escaped = (cell.replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(escaped)} |"

    rule = line("---:" if right else "---" for _, right in columns)
    return "\n".join([line(name for name, _ in columns), rule, *map(line, rows)])


def _command_section(group: Group) -> str:
    head = group.head
    loss = f", {head.loss}" if head.loss else ""
    title = (
        f"Row {group.number}: {head.dataset}, {head.num_labels} labels, {head.algorithm}{loss}, {head.model}"
    )
    return f"{title} (group `{head.group}`)\n\n```sh\n" + "\n".join(commands(group)) + "\n```"


def _difference_section(groups: Sequence[Group]) -> list[str]:
    differences, alone = differences_to_supervised(groups)
    parts = ["## Difference to supervised"]
    if differences:
        parts.append(
            "Test error of the method minus that of supervised training with the same labels, steps and "
            "splits, in percentage points: negative is better. The standard error is that of the mean "
            "difference: over pairs where both sides have the same seeds and splits, else Welch's, unpaired."
        )
        parts.append(table(_DIFFERENCE_COLUMNS, map(_difference_row, differences)))
    if alone:
        names = ", ".join(f"{group.label} (row {group.number})" for group in alone)
        parts.append(f"No supervised group with the same data set, labels, steps and splits: {names}.")
    if not differences and not alone:
        parts.append("There is no other method than supervised training.")
    return parts


def render_markdown(
    groups: Sequence[Group],
    unfinished: Sequence[UnfinishedRun],
    *,
    title: str,
    command: str,
    note: str = "",
) -> str:
    """The whole report.

    Args:
        groups: from `group_runs`.
        unfinished: runs to name as left out.
        title: of the page.
        command: the shell line that wrote the report.
        note: prose in markdown that goes in unchanged after the title.
    """
    parts = [
        f"# {title}",
        "Generated from the `result.json` of each run by sslbench-report; no number was typed:\n\n"
        f"```sh\n{command}\n```",
        *([note] if note else []),
        "## Summary",
        f"Mean ± sample standard deviation (n - 1) over n runs with different seeds. {ON_CHOICE} "
        "`test error` is at that step, `at last step` after the whole run, and `median of 20` over the last "
        "20 evaluations, or all where there were fewer; ECE, the expected calibration error on the test "
        "images, is at the best step.",
        table(SUMMARY_COLUMNS, map(summary_row, groups)),
        *([f"{not_finished(unfinished)}."] if unfinished else []),
        "## Every run",
        "`#` is the row in the summary; `split` begins the hash of the split's indices.",
        table(_RUN_COLUMNS, (_run_row(group, run) for group in groups for run in group.runs)),
        "## Commands",
        "As typed, but for the folders `run_dir`, `output_root` and `data_root`.",
        *map(_command_section, groups),
        *_difference_section(groups),
    ]
    return "\n\n".join(parts) + "\n"

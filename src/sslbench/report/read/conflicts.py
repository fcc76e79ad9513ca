"""Runs that would falsify a mean: they are left out, and those in conflict count as missing."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from sslbench.report.read.find import MissingRun
from sslbench.rundir.records import RunResult, RunSummary
from sslbench.system.paths import exists, relative

_LOG = "metrics.jsonl"  # not imported from its module, which imports more than the command's help needs
_RUN = ("group", "seed", "split_seed")
# Two runs of the same configuration and seeds that agree in these are one run, trained or copied twice.
_OUTCOME = ("run_id", "split_hash", "step_best", "val_acc_best", "test_acc", "test_acc_last", "test_ece")
# What runs must agree in, where they agree in the fields behind it, and why.
_RULES = (
    *(
        (field, ("group",), "though a group differs in its seeds only")
        for field in (
            "dataset",
            "num_labels",
            "num_valid",
            "algorithm",
            "loss",
            "model",
            "steps",
            "precision",
        )
    ),
    ("split_hash", ("group", "split_seed"), "with the same split_seed: their data are not the same"),
    *((field, _RUN, "though they have the same configuration and seeds") for field in _OUTCOME),
)


def without_copies(runs: Iterable[RunResult]) -> tuple[list[RunResult], list[RunResult]]:
    """The runs, each once, and those left out since another is the same run with the same outcome.

    Of several, the first that has a log stays: a result that was copied alone draws no curve.
    """
    kept: dict[tuple[object, ...], RunResult] = {}
    copies = []
    for run in runs:
        other = kept.setdefault(_values(run, _OUTCOME), run)
        if other is run:
            continue
        if exists(run.folder / _LOG) and not exists(other.folder / _LOG):
            kept[_values(run, _OUTCOME)], run = run, other
        copies.append(run)
    return list(kept.values()), copies


def without_conflicts(runs: Iterable[RunResult]) -> tuple[list[RunResult], list[MissingRun], list[str]]:
    """Set aside runs, which have no copies among them, where nothing says which one is right.

    These are the runs of a group that differ in more than their seeds, such as in their data, and runs of the
    same configuration and seeds with different outcomes: they would count as two draws and make the
    standard deviation too small.

    Returns:
        The other runs in their order, those set aside, and a line of warning for each conflict.
    """
    runs = list(runs)
    reasons: dict[Path, str] = {}
    for field, same, why in _RULES:
        alike: dict[tuple[object, ...], list[RunResult]] = defaultdict(list)
        for run in runs:
            if run.folder not in reasons:
                alike[_values(run, same)].append(run)
        for members in alike.values():
            found = {getattr(run, field): relative(run.folder) for run in members}
            if len(found) > 1:
                values = " and ".join(f"{value} in {folder}" for value, folder in found.items())
                reason = f"group '{members[0].group}' has {field} {values}, {why}"
                reasons |= dict.fromkeys((run.folder for run in members), reason)
    missing: list[MissingRun] = []
    for run in runs:
        if reason := reasons.get(run.folder, ""):
            summary = RunSummary(**{entry.name: getattr(run, entry.name) for entry in fields(RunSummary)})
            missing.append(MissingRun(run.folder, "in conflict", reason, summary))
    lines = [f"{reason}; left out: remove what is wrong" for reason in dict.fromkeys(reasons.values())]
    return [run for run in runs if run.folder not in reasons], missing, lines


def _values(run: RunResult, names: Iterable[str]) -> tuple[object, ...]:
    return tuple(getattr(run, name) for name in names)

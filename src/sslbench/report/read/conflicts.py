"""Runs that would falsify a mean: they are left out and count as missing."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from sslbench.report.read.find import MissingRun
from sslbench.rundir.records import RunResult, RunSummary
from sslbench.system.paths import relative

# Runs whose configurations differ in their seeds only agree in these.
_SHARED = ("dataset", "num_labels", "num_valid", "algorithm", "loss", "model", "steps", "precision")


def without_conflicts(runs: Iterable[RunResult]) -> tuple[list[RunResult], list[MissingRun], list[str]]:
    """Set aside runs, which have no copies among them, where nothing says which one is right.

    These are the runs of a group that differ in more than their seeds, such as in their data, and runs of the
    same configuration and seeds with different outcomes: they would count as two draws and make the
    standard deviation too small.

    Returns:
        The other runs in their order, those set aside, and a line of warning for each conflict.
    """
    runs = list(runs)
    groups: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    reasons: dict[Path, str] = {}
    for name, members in groups.items():
        if reason := _difference(name, members):
            reasons |= dict.fromkeys((run.folder for run in members), reason)
            continue
        draws: dict[tuple[int, int], list[RunResult]] = defaultdict(list)
        for run in members:
            draws[run.seed, run.split_seed].append(run)
        for (seed, split_seed), twins in draws.items():
            if len(twins) > 1:
                folders = " and ".join(relative(run.folder) for run in twins)
                reason = (
                    f"{folders} are the same configuration with the same seed {seed} and split_seed "
                    f"{split_seed}, and differ in their outcome"
                )
                reasons |= dict.fromkeys((run.folder for run in twins), reason)
    kept: list[RunResult] = []
    missing: list[MissingRun] = []
    for run in runs:
        if reason := reasons.get(run.folder, ""):
            summary = RunSummary(**{entry.name: getattr(run, entry.name) for entry in fields(RunSummary)})
            missing.append(MissingRun(run.folder, "in conflict", reason, summary))
        else:
            kept.append(run)
    lines = [f"{reason}; left out: remove what is wrong" for reason in dict.fromkeys(reasons.values())]
    return kept, missing, lines


def _difference(name: str, runs: Sequence[RunResult]) -> str:
    for field in _SHARED:
        values = {getattr(run, field): run for run in runs}
        if len(values) > 1:
            (one, run), (other, run_2) = list(values.items())[:2]
            return (
                f"group '{name}' has {field} {one} in {relative(run.folder)} and {other} in "
                f"{relative(run_2.folder)}, though a group differs in its seeds only"
            )
    splits: dict[int, RunResult] = {}
    for run in runs:
        other = splits.setdefault(run.split_seed, run)
        if other.split_hash != run.split_hash:
            return (
                f"{relative(other.folder)} and {relative(run.folder)} have different splits for split_seed "
                f"{run.split_seed}: their data are not the same"
            )
    return ""

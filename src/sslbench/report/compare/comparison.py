"""All that a report shows, computed once for each of its forms."""

from dataclasses import dataclass, replace
from functools import cached_property

from sslbench.errors import UserError, did_you_mean
from sslbench.report.compare.configurations import (
    data_set_names,
    evaluations,
    has_strong_view,
    is_labelled_only,
    read_configurations,
)
from sslbench.report.compare.differences import Difference, differences_to_baselines, row_differences
from sslbench.report.compare.groups import (
    Group,
    by_task,
    group_runs,
    incomplete_seeds,
    numbered,
    ranks,
    selected_variants,
    with_results,
)
from sslbench.report.compare.settings import settings_of
from sslbench.report.read.conflicts import without_conflicts, without_copies
from sslbench.report.read.find import Found, MissingRun
from sslbench.rundir.records import RunResult


@dataclass(frozen=True)
class Comparison:
    """The groups and what is known about them; a group is named by its number.

    Attributes:
        groups: in the order of their rows.
        differences: to the baselines, in the order of `groups`.
        unmatched: groups without a baseline to compare with.
        missing: every run without a result, also where its group is not known.
        copies: runs left out since another folder holds the same outcome.
        warnings: one line for each file or run that could not be used.
        ranks: the rank of each group with a result.
        row_differences: the difference that stands in the row of a group.
        selected: the variants that validation selected, with how many it selected from.
        incomplete_seeds: groups whose rank compares other seeds or draws than those of most of their task.
    """

    groups: list[Group]
    differences: list[Difference]
    unmatched: list[Group]
    missing: list[MissingRun]
    copies: list[RunResult]
    warnings: list[str]
    ranks: dict[int, int]
    row_differences: dict[int, Difference]
    selected: dict[int, int]
    incomplete_seeds: set[int]

    @property
    def runs(self) -> list[RunResult]:
        """Every run with a result, group by group."""
        return [run for group in self.groups for run in group.runs]

    def counts(self, run: MissingRun) -> bool:
        """Whether a missing run is counted as one: not if another folder has the same run."""
        group = self.group_of(run)
        return group is None or any(missing is run for missing in group.missing)

    @cached_property
    def _by_name(self) -> dict[str, Group]:
        return {group.identity.group: group for group in self.groups}

    def group_of(self, run: MissingRun) -> Group | None:
        """The group of a missing run; None if that is not known."""
        return self._by_name.get(run.run.group) if run.run else None

    @cached_property
    def best(self) -> set[int]:
        """The best of each task among the variants that validation selected.

        None where there is nothing to be better than, or where it misses seeds or draws that the others have.
        """
        several = {group.variant_of for group in self.groups if group.number in self.selected}
        found = set()
        for groups in by_task(with_results(self.groups)).values():
            candidates = [g for g in groups if g.number in self.selected or g.variant_of not in several]
            lowest = min((self.ranks[group.number] for group in candidates), default=0)
            found |= {
                group.number
                for group in candidates
                if len(groups) > 1 and self.ranks[group.number] == lowest
                if not group.missing and group.number not in self.incomplete_seeds
            }
        return found


def compare(found: Found, baseline: str | None = None) -> Comparison:
    """Group, rank and compare.

    Args:
        found: the runs.
        baseline: the algorithm to compare all others with; None for the supervised ones.

    Raises:
        UserError: no run has the algorithm `baseline`.
    """
    runs, copies = without_copies(found.runs)
    runs, in_conflict, conflicts = without_conflicts(runs)
    missing = [*found.missing, *in_conflict]
    groups = group_runs(runs, missing)
    configs, unread = read_configurations(groups)
    names = data_set_names(groups, configs)
    known = {number: evaluations(config) for number, config in configs.items()}
    labelled_only = {number for number, config in configs.items() if is_labelled_only(config)}
    strong = {number for number, config in configs.items() if has_strong_view(config)}
    named = [
        replace(
            group,
            dataset=names[group.number],
            evaluations=known.get(group.number),
            labelled_only=group.number in labelled_only,
            strong=group.number in strong,
        )
        for group in groups
    ]
    settings = settings_of(named, configs)
    groups = numbered(replace(group, settings=settings.get(group.number, "")) for group in named)
    algorithms = sorted({group.identity.algorithm for group in groups})
    if baseline is not None and baseline not in algorithms:
        hint, known_names = did_you_mean(baseline, algorithms), ", ".join(algorithms) or "none"
        raise UserError(f"--baseline {baseline} is no algorithm of these runs{hint}: {known_names}")
    differences, unmatched = differences_to_baselines(groups, baseline)
    return Comparison(
        groups,
        differences,
        unmatched,
        missing,
        copies,
        [*found.warnings, *conflicts, *unread],
        ranks(groups),
        row_differences(differences),
        selected_variants(groups),
        incomplete_seeds(groups),
    )

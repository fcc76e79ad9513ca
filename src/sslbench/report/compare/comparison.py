"""All that a report says, worked out once for every form it is shown in."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property

from sslbench.report.compare.differences import Difference, differences_to_supervised, shown_beside
from sslbench.report.compare.groups import (
    Group,
    Task,
    chosen_variants,
    group_runs,
    out_of_step,
    ranks,
    without_copies,
)
from sslbench.report.read.conflicts import without_conflicts
from sslbench.report.read.find import Found
from sslbench.report.read.missing import MissingRun
from sslbench.rundir.records import RunResult


@dataclass(frozen=True)
class Comparison:
    """The groups and what is known about them.

    Attributes:
        groups: in the order of their rows.
        ranks: by the number of the group.
        differences: to supervised training, in the order of `groups`.
        beside: the difference that stands in a group's row, by the number of the group.
        alone: methods without a supervised group to compare with.
        missing: every run without a result, also where its group is not known.
        copies: runs left out since another folder holds the same outcome.
        warnings: one line for each file or run that could not be used.
    """

    groups: list[Group]
    ranks: dict[int, int]
    differences: list[Difference]
    beside: dict[int, Difference]
    alone: list[Group]
    missing: list[MissingRun]
    copies: list[RunResult]
    warnings: list[str]

    @property
    def runs(self) -> list[RunResult]:
        """Every run with a result, group by group."""
        return [run for group in self.groups for run in group.runs]

    def counts(self, cell: MissingRun) -> bool:
        """Whether a missing run is counted as one: not if another folder has the same run."""
        return cell.run is None or id(cell) in self._missed

    @cached_property
    def baselines(self) -> Counter[int]:
        """How many baselines each method is compared with, by the number of its group."""
        return Counter(gap.method.number for gap in self.differences)

    @cached_property
    def _missed(self) -> set[int]:
        return {id(cell) for group in self.groups for cell in group.missing}

    @cached_property
    def chosen(self) -> dict[int, int]:
        """The variants that validation chose, by number, with how many it chose from."""
        return chosen_variants(self.groups)

    @cached_property
    def out_of_step(self) -> set[int]:
        """Groups whose rank compares other seeds or draws than those of most of their task."""
        return out_of_step(self.groups)

    @cached_property
    def firsts(self) -> set[int]:
        """The best of each task among the variants that validation chose.

        None where there is nothing to be first of, or where it misses seeds or draws that the others have.
        """
        several = {group.method for group in self.groups if group.number in self.chosen}
        found = set()
        for members in self.by_task().values():
            groups = [group for group in members if group.runs]
            rivals = [g for g in groups if g.number in self.chosen or g.method not in several]
            best = min((self.ranks[group.number] for group in rivals), default=0)
            found |= {
                group.number
                for group in rivals
                if len(groups) > 1 and self.ranks[group.number] == best
                if not group.missing and group.number not in self.out_of_step
            }
        return found

    def by_task(self) -> dict[Task, list[Group]]:
        """The groups of each task, in the order of their rows."""
        tasks: dict[Task, list[Group]] = defaultdict(list)
        for group in self.groups:
            tasks[group.task].append(group)
        return dict(sorted(tasks.items()))


def compare(found: Found) -> Comparison:
    """Group, rank and compare."""
    from sslbench.report.compare.settings import (
        with_settings,  # which knows configurations: no matter of --help
    )

    runs, copies = without_copies(found.runs)
    runs, in_conflict, conflicts = without_conflicts(runs)
    missing = [*found.missing, *in_conflict]
    groups, unread = with_settings(group_runs(runs, missing))
    differences, alone = differences_to_supervised(groups)
    return Comparison(
        groups,
        ranks(groups),
        differences,
        shown_beside(differences),
        alone,
        missing,
        copies,
        [*found.warnings, *conflicts, *unread],
    )

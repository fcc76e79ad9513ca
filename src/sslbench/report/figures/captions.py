"""The sentences that several figures share."""

from collections.abc import Sequence

from sslbench.report.compare.groups import Group, Task
from sslbench.system.text import ellipsize


def title_of(task: Task) -> str:
    """The task above a panel, whatever the name of its data set."""
    return str(task._replace(dataset=ellipsize(task.dataset, 40)))


def not_drawn(count: int, what: str) -> str:
    """A sentence on `count` configurations that lack `what`; empty if there are none."""
    if not count:
        return ""
    if count == 1:
        return f"1 configuration has no {what} and is not drawn."
    return f"{count} configurations have no {what} and are not drawn."


def without_result(groups: Sequence[Group]) -> str:
    """A sentence on how many of `groups` have nothing to draw; empty if there are none."""
    return not_drawn(sum(not group.runs for group in groups), "result")


def is_partial(group: Group) -> bool:
    """Whether some of its seeds have a result and others have none."""
    return bool(group.runs and group.missing)


def sentences(*texts: str) -> str:
    """Those that are not empty, as one text."""
    return " ".join(text for text in texts if text)

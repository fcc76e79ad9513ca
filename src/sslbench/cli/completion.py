"""Tab completion: what Hydra finds, in the forms that this command takes."""

from __future__ import annotations

from collections.abc import Iterable

from sslbench.cli.help import groups
from sslbench.config.schema import conf_dir


def completed(line: str, found: Iterable[str]) -> list[str]:
    """The completions of the last word of a command line, sorted.

    Hydra offers ``experiment/seeds=``, which it then refuses, and nothing after ``experiment=``.

    Args:
        line: as typed so far.
        found: by Hydra.
    """
    listed = groups([conf_dir()])
    whole = set()
    for word in found:
        group = word.partition("=")[0].partition("/")[0]
        whole.add(f"{group}=" if "/" in word and group in listed else word)
    last = "" if line[-1:].isspace() else line.split()[-1]
    nested = [f"{group}={name}" for group, names in listed.items() for name in names if "/" in name]
    return sorted(whole | {choice for choice in nested if "=" in last and choice.startswith(last)})

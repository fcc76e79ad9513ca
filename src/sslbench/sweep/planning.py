"""What a sweep is to carry out: every combination composed, checked and named before anything trains."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from sslbench.config.checks import check_values
from sslbench.errors import SweepError, UserError
from sslbench.run.train import check
from sslbench.sweep.combinations import composed
from sslbench.sweep.planned_run import PlannedRun
from sslbench.system.text import ellipsize, escape_control

#: Mistakes that are printed, and the characters of one; a mistake in a sweep of thousands is one mistake.
_SHOWN, _LONGEST = 10, 2000


def plan_runs(arguments: Sequence[str], master: DictConfig, loader: ConfigLoader) -> list[PlannedRun]:
    """The run of every combination of the values in `arguments`, in their order; two may be the same run.

    Args:
        arguments: overrides, with values separated by commas.
        master: the configuration of the sweep.
        loader: composes those of the runs.

    Raises:
        SweepError: a configuration is wrong; each mistake has been printed.
        UserError: there is no combination.
    """
    planned: list[PlannedRun] = []
    mistakes: Counter[str] = Counter()
    examples: dict[str, Sequence[str]] = {}
    checked: set[str] = set()
    known: dict[str, dict[str, Any]] = {}
    for overrides, found in composed(arguments, master, loader):
        try:
            if isinstance(found, str):
                raise UserError(found)
            check_values(found)
            group = repr(replace(found, seed=0, split_seed=0, overrides=[]))
            if group not in checked:  # seeds make no difference to what is built
                check(found)
                checked.add(group)
        except UserError as error:
            mistakes[str(error)] += 1
            examples.setdefault(str(error), overrides)
            continue
        planned.append(PlannedRun.of(found, overrides, known))
    for message, count in mistakes.most_common(_SHOWN):
        others = f" and {count - 1} more" if count > 1 else ""
        _complain(f"{message} [{' '.join(examples[message])}]{others}")
    if mistakes:
        if len(mistakes) > _SHOWN:
            _complain(f"and {len(mistakes) - _SHOWN} more mistakes")
        count = mistakes.total() + len(planned)
        _complain(f"nothing was started: {mistakes.total()} of {count} configurations are wrong")
        raise SweepError("wrong configurations")
    if not planned:
        raise UserError("there is nothing to run: a range or a list of values is empty")
    return planned


def _complain(message: str) -> None:
    print(f"sslbench: {ellipsize(escape_control(message), _LONGEST)}", file=sys.stderr, flush=True)

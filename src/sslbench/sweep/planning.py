"""What a sweep is to carry out: every combination composed, checked and named before anything trains."""

from collections.abc import Sequence
from dataclasses import fields, replace

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from sslbench.config import schema
from sslbench.config.checks import check_values
from sslbench.config.hydra_errors import composing
from sslbench.config.schema import Settings
from sslbench.errors import SweepError, UserError
from sslbench.run.train import check
from sslbench.sweep.planned_run import PlannedRun
from sslbench.system.text import complain

#: Mistakes that are printed; a mistake in a sweep of thousands is one mistake.
_SHOWN = 10
#: What is read once for the whole sweep.
_SINGLE = ("launcher", "sweep", "retry_failed", "fail_fast", "jobs_per_gpu")
_KEYS = {entry.name for entry in fields(schema.Keys)}
#: A composed configuration and its choices.
_Composed = tuple[DictConfig, dict[str, str]]


def plan_runs(arguments: Sequence[str], master: DictConfig, loader: ConfigLoader) -> list[PlannedRun]:
    """The run of every combination of the values in `arguments`, in their order; two may be the same run.

    Raises:
        SweepError: a configuration is wrong; each mistake has been printed.
        UserError: the arguments cannot be read, give several values for what takes one, or no combination.
    """
    planned: list[PlannedRun] = []
    mistakes: dict[str, list[list[str]]] = {}
    checked: set[str] = set()
    shared: dict[tuple[str, ...], _Composed] = {}
    for overrides in _combinations(arguments, loader):
        try:
            found = _settings(overrides, master, loader, shared)
            check_values(found)
            group = repr(replace(found, seed=0, split_seed=0, overrides=[]))
            if group not in checked:  # seeds make no difference to what is built
                check(found)
                checked.add(group)
        except UserError as error:
            mistakes.setdefault(str(error), []).append(overrides)
            continue
        planned.append(PlannedRun(found, found.directory(), found.summary()))
    for message in sorted(mistakes, key=lambda message: -len(mistakes[message]))[:_SHOWN]:
        [example, *others] = mistakes[message]
        more = f" and {len(others)} more" if others else ""
        complain(f"{message} [{' '.join(example)}]{more}")
    if mistakes:
        if len(mistakes) > _SHOWN:
            complain(f"and {len(mistakes) - _SHOWN} more mistakes")
        wrong = sum(map(len, mistakes.values()))
        complain(f"nothing was started: {wrong} of {wrong + len(planned)} configurations are wrong")
        raise SweepError("wrong configurations")
    if not planned:
        raise UserError("there is nothing to run: a range or a list of values is empty")
    return planned


def _combinations(arguments: Sequence[str], loader: ConfigLoader) -> list[list[str]]:
    """The overrides of each combination."""
    with composing(arguments):
        typed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
        [combinations] = BasicSweeper.split_arguments(typed, None)
    for override in typed:
        if override.is_sweep_override() and override.key_or_group in _SINGLE:
            raise UserError(f"{override.key_or_group} takes one value in a sweep")
    return combinations


def _settings(
    overrides: list[str], master: DictConfig, loader: ConfigLoader, shared: dict[tuple[str, ...], _Composed]
) -> Settings:
    """The settings of one combination.

    Composing takes most of the time of planning. So combinations of the same choices share it in
    `shared`, and their values are set one after the other in the same configuration, as Hydra does.
    """
    with composing(overrides):
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        values = _values(parsed)
        rest = tuple(text for text, override in zip(overrides, parsed, strict=True) if override not in values)
        if rest not in shared:
            found = loader.load_sweep_config(master, overrides)
            choices = dict(found.hydra.runtime.choices)
            with open_dict(found):
                del found["hydra"]
            shared[rest] = found, choices
        config, choices = shared[rest]
        for override in values:  # the same keys in every combination: nothing is left of the last one
            OmegaConf.update(config, override.key_or_group, override.value())
    return schema.from_config(config, choices, overrides)


def _values(parsed: Sequence[Override]) -> list[Override]:
    """Those that set one value in a configuration of the same choices; none where their order may count."""
    values = [
        override
        for override in parsed
        if override.key_or_group.partition(".")[0] in _KEYS and override.key_or_group not in schema.GROUPS
    ]
    keys = [override.key_or_group for override in values]
    in_parts = any(key.startswith(f"{other}.") for key in keys for other in keys)
    plain = all(override.type == OverrideType.CHANGE and override.package is None for override in values)
    return values if plain and not in_parts else []

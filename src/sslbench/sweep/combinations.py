"""The combinations of a sweep: the overrides of each, and the settings that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from sslbench.config import schema
from sslbench.config.hydra_errors import composing
from sslbench.config.schema import Settings
from sslbench.errors import UserError

_KEYS = {entry.name for entry in fields(schema.Keys)}
#: What is read once for the whole sweep.
_SINGLE = ("launcher", "sweep", "retry_failed", "fail_fast", "jobs_per_gpu")


def composed(
    arguments: Sequence[str], master: DictConfig, loader: ConfigLoader
) -> Iterator[tuple[list[str], Settings | str]]:
    """The overrides of every combination, and its settings or what is wrong with them.

    Composing takes most of the time that planning takes. So combinations of the same choices share it, and
    their values are set one after the other in the same configuration, as Hydra does in the end.

    Args:
        arguments: overrides, with values separated by commas.
        master: the configuration of the sweep.
        loader: composes those of the runs.

    Raises:
        UserError: the arguments cannot be read, or give several values for what takes one.
    """
    parser = OverridesParser.create(config_loader=loader)
    with composing(arguments):
        typed = parser.parse_overrides(list(arguments))
        [combinations] = BasicSweeper.split_arguments(typed, None)
    for override in typed:
        if override.is_sweep_override() and override.key_or_group in _SINGLE:
            raise UserError(f"{override.key_or_group} takes one value in a sweep")
    shared: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}
    for overrides in combinations:
        try:
            with composing(overrides):
                parsed = parser.parse_overrides(overrides)
                keys, choices = _merged(overrides, parsed, master, loader, shared)
            yield overrides, schema.from_config(keys, choices, list(overrides))
        except UserError as error:
            yield overrides, str(error)


def _merged(
    overrides: Sequence[str],
    parsed: Sequence[Override],
    master: DictConfig,
    loader: ConfigLoader,
    shared: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]],
) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of one combination and its choices, from `shared` where it has the same choices."""
    keys = [override.key_or_group for override in parsed if not _chooses_file(override)]
    values = [
        override for override in parsed if _is_value(override) and _is_alone(override.key_or_group, keys)
    ]
    rest = tuple(text for text, override in zip(overrides, parsed, strict=True) if override not in values)
    if rest not in shared:
        found = loader.load_sweep_config(master, list(overrides))
        choices = dict(found.hydra.runtime.choices)
        with open_dict(found):
            del found["hydra"]
        shared[rest] = found, choices
    config, choices = shared[rest]
    for override in values:  # the same keys in every combination: nothing is left of the last one
        OmegaConf.update(config, override.key_or_group, override.value())
    return config, choices


def _is_alone(key: str, keys: Sequence[str]) -> bool:
    """Whether no other override sets the key, whole or in part; where one does, the order as typed counts."""
    return sum(f"{key}.".startswith(f"{other}.") or other.startswith(f"{key}.") for other in keys) == 1


def _chooses_file(override: Override) -> bool:
    """Whether it chooses a file of a group; wherever it was typed, Hydra reads files before it sets keys."""
    return override.key_or_group in schema.GROUPS and not isinstance(override.value(), dict)


def _is_value(override: Override) -> bool:
    """Whether it sets one value and chooses nothing."""
    plain = override.type == OverrideType.CHANGE and override.package is None
    head, dot, _ = override.key_or_group.partition(".")
    is_key = head in _KEYS and (bool(dot) or head not in schema.GROUPS)
    return plain and is_key and not isinstance(override.value(), dict)

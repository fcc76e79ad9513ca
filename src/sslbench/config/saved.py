"""``config.yaml`` in a run's folder: writes, reads and compares the settings of the run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sslbench.config.schema import BEFORE, GROUPS, Settings
from sslbench.errors import UserError
from sslbench.system.safe_files import parse_yaml, read_text
from sslbench.system.text import escape_control


def save(settings: Settings) -> str:
    """The settings as YAML."""
    return yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)


def load(path: Path) -> Settings:
    """Read the text that `save` made. It is resolved: what looks like an interpolation in it stays text.

    Imports nothing that it names: call `require_trusted_targets` before building objects from it.

    Raises:
        UserError: the file is absent or is not a run's configuration.
    """
    try:
        found = parse_yaml(read_text(path), str(path))
        if not isinstance(found, dict):
            raise UserError(f"{path} is not a run's configuration (it holds no keys)")
        merged = OmegaConf.merge(OmegaConf.structured(Settings), _literal(found))
        settings = OmegaConf.to_object(merged)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{path.parent} is not a run's folder: it has no {path.name}") from error
        raise
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a run's configuration ({str(error).splitlines()[0]})") from error
    assert isinstance(settings, Settings)
    settings.choices = BEFORE | settings.choices
    if absent := [group for group in GROUPS if group not in settings.choices]:
        raise UserError(f"{path} is not a run's configuration (choices.{absent[0]} is not given)")
    return settings


def _literal(value: Any) -> Any:
    """`value` with every interpolation escaped, so that OmegaConf reads no environment and no other key."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    if isinstance(value, str):  # a backslash before a dollar sign would escape the escape
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return value


def difference(ours: Settings, theirs: Settings) -> str | None:
    """The first key in which the identities of two runs differ, with both values; None if they are equal."""
    mine, other = dict(flat(ours.identity())), dict(flat(theirs.identity()))
    for key in sorted({*mine, *other}):
        if mine.get(key) != other.get(key):
            there, here = (escape_control(str(values.get(key))) for values in (other, mine))
            return f"{escape_control(key)} is {there} there and {here} here"
    return None


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, each with its key such as ``optimizer.lr``."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

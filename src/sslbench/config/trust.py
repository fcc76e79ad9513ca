"""Which classes and functions a configuration from somebody else may name."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from sslbench.config.schema import GROUPS, Settings, conf_dir
from sslbench.errors import UserError
from sslbench.system.safe_files import parse_yaml
from sslbench.system.text import escape_control


def require_trusted_targets(settings: Settings, source: Path, remedy: str) -> None:
    """Refuse settings from a file that name a class or function other than those in the shipped ``conf/``.

    The target of a ``_target_`` is imported and called. A file from somebody else may therefore name only
    targets that shipped files have at the same key. Imports nothing. The message names the file, `source`,
    and what to type if its author is trusted, `remedy`.
    """
    for group in GROUPS:
        _require_trusted(getattr(settings, group), group, source, remedy)


def _require_trusted(value: Any, key: str, source: Path, remedy: str) -> None:
    if isinstance(value, list):
        for inner in value:
            _require_trusted(inner, f"{key}[]", source, remedy)
    if not isinstance(value, dict):
        return
    if "_target_" in value:
        shipped, target = _shipped().get(key, {}), value["_target_"]
        known = isinstance(target, str) and target in shipped
        if not known or value.get("_partial_", False) is not shipped[target]:
            shown = escape_control(str(target)[:80])
            raise UserError(
                f"{source}: {escape_control(key)}._target_={shown} does not come with sslbench, and could "
                f"run any code; {remedy}"
            )
    for name, inner in value.items():
        _require_trusted(inner, f"{key}.{name}", source, remedy)


@cache
def _shipped() -> dict[str, dict[str, bool]]:
    """By the key of a node, the targets that shipped files have there, each with its ``_partial_``."""
    found: dict[str, dict[str, bool]] = {group: {} for group in GROUPS}
    for group in GROUPS:
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            _gather(parse_yaml(path.read_text(encoding="utf-8"), str(path)), group, found)
    return found


def _gather(value: Any, key: str, found: dict[str, dict[str, bool]]) -> None:
    if isinstance(value, str) and (other := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        # Such as `distance: ${loss}`: whatever stands there may stand here.
        shared = found.setdefault(other[1], {})
        shared.update(found.get(key, {}))
        found[key] = shared
    elif isinstance(value, dict):
        if "_target_" in value:
            found.setdefault(key, {})[value["_target_"]] = value.get("_partial_", False)
        for name, inner in value.items():
            _gather(inner, f"{key}.{name}", found)

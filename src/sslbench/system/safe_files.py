"""Files that may come from anybody: read as plain values, or refused in one line.

What is read here is never executed, and costs no more than its size. ``docs/design/trust.md`` lists every
file that the program reads. All of that defence is here and in `sslbench.rundir.parsing`.
"""

import json
import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.nodes import Node

from sslbench.errors import UserError

_LARGEST_FILE = 2**28  # bytes; a file of a run has some thousand
_LARGEST_OBJECT = 2**23  # bytes; Python takes 25 times as many for what is in them
_LARGEST_YAML = 2**18  # characters; the composer takes time and memory in plenty
_DEEPEST = 40  # of nested YAML
_PLAIN = (str, int, float, bool, type(None))


def require_file(path: Path, shown: str | None = None) -> None:
    """Raise a `UserError` for all but an ordinary file: reading a pipe would wait for ever.

    Messages name it as `shown`, by default as it is; so do those of the other functions here.
    """
    shown = shown or str(path)
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{shown} is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{shown} is no ordinary file")


def read_text(path: Path, shown: str | None = None, largest: int = _LARGEST_FILE) -> str:
    """The content of a text file in UTF-8.

    Raises:
        UserError: it cannot be read, is no ordinary file, has more than `largest` bytes, or is not UTF-8.
    """
    require_file(path, shown)
    shown = shown or str(path)
    try:
        if (size := path.stat().st_size) > largest:
            raise UserError(f"{shown} has {size} bytes: it is no file of a run")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{shown} is not UTF-8 text ({error})") from error


def read_json(path: Path, shown: str | None = None) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: it cannot be read, is no ordinary file, is larger than 8 MiB, or holds no JSON object.
    """
    return parse_json(read_text(path, shown, _LARGEST_OBJECT), shown or str(path))


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The JSON object in `text`; `where` names its file, and its line in a file of several."""
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} holds no JSON object: is it a file of a run?")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: a few lines of them unfold into gigabytes. No file of ours has any."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "it has an alias", parent.start_mark if parent else None)
        return super().compose_node(parent, index)


def parse_yaml(text: str, where: str) -> Any:
    """The mappings, lists, texts, numbers, truth values and nulls in YAML without tags and aliases."""
    if len(text) > _LARGEST_YAML:
        raise UserError(f"{where} has {len(text)} characters: it is too long for what it should be")
    try:
        found = yaml.load(text, _PlainLoader)
        if (reason := _not_plain(found, _DEEPEST)) is not None:
            raise UserError(f"{where} holds {reason}")
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # A date such as 2024-13-45 is a ValueError; a tag on a wrong kind of value gives the others.
        raise UserError(f"{where} is not valid YAML ({_yaml_fault(error)})") from error
    return found


def _yaml_fault(error: Exception) -> str:
    """What is wrong and where, without the lines of the file that the library repeats."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _not_plain(value: Any, depth: int) -> str | None:
    """What `value` holds that JSON cannot, as a message; None if nothing."""
    if isinstance(value, dict | list):
        if not depth:
            return "too deep a nesting"
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            return "a key that is no text"
        inner = value.values() if isinstance(value, dict) else value
        return next((found for part in inner if (found := _not_plain(part, depth - 1))), None)
    if not isinstance(value, _PLAIN):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a whole number of more than 64 bits"
    return None

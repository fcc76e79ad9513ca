"""Files that may come from anybody: read as plain values, or refused in one line.

What is read here is never executed, and costs no more than its size. ``docs/design/trust.md`` lists every
file that the program reads. All of that defence is here and in `sslbench.rundir.parsing`.
"""

import json
import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node

from sslbench.errors import UserError


def require_file(path: Path, shown: str | None = None) -> None:
    """Raise a `UserError` for all but an ordinary file: reading a pipe would wait for ever.

    Messages name it as `shown`, by default as it is; so do those of the other functions here.
    """
    try:
        ordinary = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise UserError(f"cannot read {shown or path}: {error.strerror}") from error
    if not ordinary:
        raise UserError(f"{shown or path} is no ordinary file")


def read_text(path: Path, shown: str | None = None) -> str:
    """The content of a text file in UTF-8.

    Raises:
        UserError: it cannot be read, is no ordinary file, or is not UTF-8.
    """
    require_file(path, shown)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {shown or path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{shown or path} is not UTF-8 text ({error})") from error


def read_json(path: Path, shown: str | None = None) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: it cannot be read, is no ordinary file, or holds no JSON object.
    """
    return parse_json(read_text(path, shown), shown or str(path))


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The JSON object in `text`; `where` names its file, and its line in a file of several."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} holds no JSON object: is it a file of a run?")
    return found


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: a few lines of them unfold into gigabytes. No file of ours has any."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias")
        return super().compose_node(parent, index)


def parse_yaml(text: str, where: str) -> Any:
    """What JSON can hold, from YAML without tags and aliases; `where` names its file."""
    try:
        return json.loads(json.dumps(yaml.load(text, _PlainLoader)))
    except yaml.MarkedYAMLError as error:  # without the lines of the file that its message repeats
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where} is not valid YAML ({error.problem}{line})") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # A date such as 2024-13-45 is a ValueError; a tag on a wrong kind of value gives the others.
        raise UserError(f"{where} is not valid YAML ({' '.join(str(error).split())})") from error

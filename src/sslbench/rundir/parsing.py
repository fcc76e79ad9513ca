"""Records from JSON files that anybody may have written: checked by pydantic, or refused in one line."""

import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from sslbench.errors import UserError
from sslbench.rundir.records import SCHEMA, RunResult
from sslbench.system.safe_files import read_json
from sslbench.system.text import ellipsize, escape_control

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parse(kind: type[T], found: object, where: str) -> T:
    """Make a record of an object of a JSON file; fields that the record does not have are ignored.

    Messages begin with `where`: the file, and the place in it.

    Raises:
        UserError: a field is absent or has a wrong value.
    """
    try:
        record: T = _adapter(cast("Any", kind)).validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ellipsize(escape_control(".".join(map(str, first["loc"]))), 80)
        if first["type"] == "missing":
            raise UserError(f"{where} lacks the field '{name}'") from error
        expected = first["msg"].partition(" should ")[2] or "be valid text"
        shown = escape_control(reprlib.repr(first["input"]))
        place = f"{where}: '{name}'" if name else where
        raise UserError(f"{place} must {expected}, not {shown}") from error
    return record


def require_schema(found: Mapping[str, Any], where: str) -> None:
    """Raise a `UserError` if ``schema`` is not `SCHEMA`: another version wrote it."""
    schema = found.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        shown = escape_control(ellipsize(reprlib.repr(schema), 40))
        raise UserError(f"{where} has schema {shown}, this version reads schema {SCHEMA}")


def load_result(path: Path, shown: str | None = None) -> RunResult:
    """Read a `RESULT`, which messages call `shown`.

    Raises:
        UserError: the file cannot be read, is of another schema, lacks a field or has a wrong value in one.
    """
    shown = shown or str(path)
    found = read_json(path, shown)
    require_schema(found, shown)
    return parse(RunResult, {**found, "folder": path.parent}, shown)

"""Reading files that may be anything: every way in which they are wrong is one line."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from sslbench.errors import UserError
from sslbench.system import safe_files
from sslbench.system.paths import relative
from sslbench.system.text import escape_control

# Names of their own, so that the annotations of a dataclass say which range a number must lie in.
Count = int
Fraction = float
Positive = float
Metrics = dict[str, float]

_LONGEST_TEXT = 4096  # characters
_LARGEST_OBJECT = 2**23  # bytes; Python takes 25 times as many for what is in them
_LARGEST = 1e15  # of seconds and rates: sums and squares of more would overflow

T = TypeVar("T")


@dataclass(frozen=True)
class Calibration:
    """The bins of a reliability diagram, from the lowest top probability to the highest.

    Attributes:
        counts: images in each bin.
        confidence: mean top probability of each bin, in [0, 1]; None for an empty bin.
        accuracy: share of each bin's images that are right, in [0, 1]; None for an empty bin.
    """

    counts: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, named in messages as seen from the working directory.

    Raises:
        UserError: it cannot be read, is no ordinary file, is larger than 256 MiB, or is not UTF-8.
    """
    return safe_files.read_text(path, relative(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; likewise.

    Raises:
        UserError: likewise, it is larger than 8 MiB, or it is not a JSON object.
    """
    text = safe_files.read_text(path, relative(path), _LARGEST_OBJECT)
    return safe_files.parse_json(text, relative(path))


def _is_number(value: Any) -> bool:
    # bool is an int to Python, and JSON as Python writes it may hold NaN.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return False
    # Halves of characters, which JSON may hold and no file takes.
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_calibration(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not all(
        isinstance(value.get(f.name), list) for f in fields(Calibration)
    ):
        return False
    counts, confidence, accuracy = (value[entry.name] for entry in fields(Calibration))
    return (
        len(counts) == len(confidence) == len(accuracy)
        and all(_is_whole(count) and count >= 0 for count in counts)
        and sum(counts) > 0
        and all(
            (n == 0 and x is None) or (n > 0 and _is_fraction(x))
            for part in (confidence, accuracy)
            for n, x in zip(counts, part, strict=True)
        )
    )


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": (f"text of at most {_LONGEST_TEXT} characters", _is_text),
    "str | None": (
        f"text of at most {_LONGEST_TEXT} characters, or null",
        lambda value: value is None or _is_text(value),
    ),
    "int": ("a whole number of 64 bits", _is_whole),
    "Count": ("a whole number of at least 0", lambda value: _is_whole(value) and value >= 0),
    "Fraction": ("a number from 0 to 1", _is_fraction),
    "Positive": (
        f"a number from 0 to {_LARGEST:g}",
        lambda value: _is_number(value) and 0 <= value <= _LARGEST,
    ),
    "Metrics": (
        "an object of finite numbers",
        lambda value: (
            isinstance(value, dict) and all(map(_is_text, value)) and all(map(_is_number, value.values()))
        ),
    ),
    "tuple[str, ...]": (
        "a list of text",
        lambda value: isinstance(value, list) and all(map(_is_text, value)),
    ),
    "Calibration | None": ("counts, confidence and accuracy of bins, or null", _is_calibration),
}


def _converted(entry: Field[Any], value: Any) -> Any:
    if str(entry.type).startswith("str") and value is not None:
        return escape_control(value)
    if isinstance(value, list):
        return tuple(value)
    if str(entry.type).startswith("Calibration") and value is not None:
        return Calibration(**{part.name: tuple(value[part.name]) for part in fields(Calibration)})
    return value


def read_fields(kind: Callable[..., T], found: Mapping[str, Any], where: str, **known: Any) -> T:
    """Make a dataclass of a JSON object; fields that it does not have are ignored.

    Args:
        kind: the dataclass; its annotations say what is valid.
        found: the object.
        where: the file, for messages.
        known: fields that are not in the file.

    Raises:
        UserError: a field is absent or has a wrong value.
    """
    values = dict(known)
    for entry in fields(kind):  # type: ignore[arg-type]  # a dataclass is a callable too
        if entry.name in known:
            continue
        if entry.name not in found:
            if entry.default_factory is not MISSING or entry.default is not MISSING:
                continue
            raise UserError(f"{where} lacks the field '{entry.name}'")
        value = found[entry.name]
        expected, valid = _KINDS[str(entry.type)]
        if not valid(value):
            raise UserError(
                f"{where}: '{entry.name}' must be {expected}, not {escape_control(reprlib.repr(value))}"
            )
        values[entry.name] = _converted(entry, value)
    return kind(**values)

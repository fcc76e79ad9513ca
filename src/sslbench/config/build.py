"""From a configuration node with ``_target_`` to the object that it describes, checked first."""

import inspect
import json
import pkgutil
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from sslbench.config.identity import MAY_BE_IGNORED, Node
from sslbench.config.schema import BEFORE, GROUPS, Settings
from sslbench.errors import UserError, did_you_mean


def check_nodes(settings: Settings) -> None:
    """Check the arguments of every ``_target_`` against its signature, before anything is built."""
    for group in GROUPS:
        if getattr(settings, group) or group not in BEFORE:
            _target(getattr(settings, group), group)
        _check_node(getattr(settings, group), group)
    ignores, allowed = settings.algorithm.get("ignores", []), ", ".join(MAY_BE_IGNORED)
    if not isinstance(ignores, list) or any(key not in MAY_BE_IGNORED for key in ignores):
        raise UserError(f"algorithm.ignores={ignores} must be a list of keys that it may ignore: {allowed}")
    if not isinstance(settings.dataset.get("images"), dict):
        raise UserError(
            "dataset.images is not given: the data set's yaml must say how networks see its images, as those "
            "in conf/dataset do"
        )


def _check_node(node: Node, key: str) -> None:
    for name, value in node.items():
        if isinstance(value, dict):
            _check_node(value, f"{key}.{name}")
    if "_target_" not in node:
        return
    target = _target(node, key)
    hints, parameters = _signature(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, value in _arguments(node, key).items():
        if name in parameters:
            _check_type(value, hints.get(name, Any), f"{key}.{name}")
        elif not open_ended:
            hint = did_you_mean(name, parameters)
            raise UserError(f"{key}.{name}: {node['_target_']} takes no argument '{name}'{hint}")


def _arguments(node: Node, key: str) -> Node:
    """The arguments for a node's target: without Hydra's words and the keys that only the program reads."""
    others = {"images", "typical", "facts"}
    if key == "algorithm":
        others.add("ignores")
    elif key == "dataset":
        others |= {"sha256"} if "name" in _signature(_target(node, key))[1] else {"sha256", "name"}
    return {
        name: value
        for name, value in node.items()
        if not (name.startswith("_") and name.endswith("_")) and name not in others
    }


def _target(node: Node, key: str) -> Any:
    if "_target_" not in node:
        raise UserError(f"{key} has no _target_: add the class or function to call, as the files in conf/ do")
    try:
        target = pkgutil.resolve_name(node["_target_"])
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{key}._target_={node['_target_']} cannot be imported ({error})") from error
    if not callable(target):
        raise UserError(f"{key}._target_={node['_target_']} is neither a class nor a function")
    return target


@cache
def _signature(target: Any) -> tuple[dict[str, Any], dict[str, inspect.Parameter]]:
    function = target.__init__ if inspect.isclass(target) else target
    parameters = dict(inspect.signature(target).parameters)
    try:
        return typing.get_type_hints(function), parameters
    except NameError:  # annotations that only a type checker resolves; the constructor still checks
        return {}, parameters


def _check_type(value: Any, hint: Any, key: str) -> None:
    from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
    from pydantic_core import SchemaError

    if isinstance(value, dict) and "_target_" in value:
        return  # an object of its own, checked by itself
    if value is None and type(None) in typing.get_args(hint):
        return
    takes = inspect.formatannotation(hint)
    try:
        adapter = TypeAdapter[Any](hint)
    except PydanticSchemaGenerationError:
        try:
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except SchemaError as error:  # a Protocol, which only an object can be
            raise UserError(f"{key}={value}: it takes {takes}, made by a _target_") from error
    try:
        # As JSON, a list may stand for a tuple, while a word still may not stand for a number.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise UserError(f"{key}={value}: {reason}; it takes {takes}") from error


@contextmanager
def user_error_context(key: str) -> Iterator[None]:
    """Turn a `ValueError`, `TypeError` or `ArithmeticError` of the block into a `UserError` naming `key`."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{key}: {error}") from error


def build(node: Node, key: str, **arguments: Any) -> Any:
    """Make the object that `node` describes.

    This is not Hydra's ``instantiate``, which would resolve the settings a second time: a text that only
    looks like an interpolation would then read the environment.

    The run adds `arguments` (the data's shape, parameters to optimise).

    Raises:
        UserError: the constructor refused a value; the message names the key.
    """
    target = _target(node, key)
    values = {name: _built(value, f"{key}.{name}") for name, value in _arguments(node, key).items()}
    values |= arguments
    if node.get("_partial_"):
        return partial(target, **values)
    try:
        return target(**values)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        # torch raises RuntimeError for a layer of a negative size, or one that does not fit in memory.
        raise UserError(f"{key}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _built(value: Any, key: str) -> Any:
    """`value` with each node in it as the object that it describes."""
    if isinstance(value, dict):
        if "_target_" in value:
            return build(value, key)
        return {name: _built(inner, f"{key}.{name}") for name, inner in value.items()}
    return [_built(inner, key) for inner in value] if isinstance(value, list) else value

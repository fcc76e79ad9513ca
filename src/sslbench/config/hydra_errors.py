"""Hydra's errors about an override, in one line that names the key and what to type instead."""

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sslbench.config.schema import GROUPS, conf_dir
from sslbench.errors import UserError, did_you_mean

#: Launchers that come with an extra of this package.
_EXTRAS = {
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/ray": "ray",
}


@contextmanager
def composing(arguments: Sequence[str]) -> Iterator[None]:
    """Turn any error of Hydra, which alone works in the block, into one line: what was typed is wrong."""
    try:
        yield
    except Exception as error:  # its parser and OmegaConf raise nearly every kind that Python has
        raise UserError(describe(error, arguments)) from error


def describe(error: Exception, arguments: Sequence[str]) -> str:
    """One line that says what is wrong with the command line and what to type instead."""
    if unnamed := [argument for argument in arguments if argument.startswith("=")]:
        return f"cannot read '{unnamed[0]}': an override looks like key=value or group=choice"
    if str(error).startswith("Config group override must be"):
        return "a group cannot be null: leave it out, or give one of its choices (--help lists them)"
    for argument in arguments:
        if found := re.fullmatch(r"\+*(?!hydra/)([\w-]+)/([\w/-]+)=([\w/-]+)", argument):
            return f"cannot read '{argument}': type {found[1]}={found[2]}/{found[3]}"
        if found := re.fullmatch(r"(.+)=interval\((.+),(.+)\)", argument):
            key, low, high = found.groups()
            return (
                f"cannot read '{argument}': a sweep takes single values, not an interval: type "
                f"-m {key}={low},{high} or -m '{key}=range({low},{high},STEP)'"
            )
    if not isinstance(error, HydraException | OmegaConfBaseException):
        reason = " ".join(str(error).split()) or type(error).__name__
        where = "this command line or a file that it names"
        return f"Hydra cannot read {where} ({reason}); HYDRA_FULL_ERROR=1 says more"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        if extra := _EXTRAS.get(error.missing_cfg_file):
            return f"{error.missing_cfg_file} is not installed: pip install 'sslbench[{extra}]'"
        group, choice, options = _choices(error.missing_cfg_file, error.options or [])
        listed = f" (choices: {', '.join(options)})" if options else ""
        return f"{group}={choice}: there is no such choice{did_you_mean(choice, options)}{listed}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': {_unread(error, arguments)}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"there is no key '{cause.full_key}'{_near_keys(cause.full_key or '', _known_keys(arguments))}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    lines = str(error).splitlines() or [""]
    # Values separated by commas, or a function such as range.
    several = re.match(
        r"(?:Ambiguous value for argument|Sweep parameters) (.+?)( requires --multirun)?$", lines[0]
    )
    if several:
        what = f"Ambiguous value for argument {several[1]}"
        return f"{what}: add -m to sweep over it, or write key=[a,b] for a list"
    return " ".join(line.strip() for line in lines)


def _unread(error: OverrideParseException, arguments: Sequence[str]) -> str:
    """What is wrong with an override that Hydra's parser does not take."""
    key, sign, value = error.override.partition("=")
    if not sign or not re.fullmatch(r"[+~]*[\w./@-]+", key, re.ASCII):
        return "an override looks like key=value or group=choice"
    if wrong := re.search(r" while evaluating '.*': (.+)", str(error)):
        return wrong[1]
    if any(value.count(opened) != value.count(closed) for opened, closed in ("()", "[]", "{}")):
        return "a bracket in it is not closed; as text, the value must be in quotes for Hydra, too"
    example = _quoted(key, value, several=any(flag in arguments for flag in ("-m", "--multirun")))
    return "text such as this must be in quotes for Hydra, too" + (f": {example}" if example else "")


def _quoted(key: str, value: str, *, several: bool) -> str:
    """An override whose value Hydra takes, as a shell takes it; empty where it is unclear what was meant."""
    left, inner, right = ("[", value[1:-1], "]") if value.startswith("[") else ("", value, "")
    if left or several:
        if re.search(r"[][(){}]", inner):
            return ""
        words = [word.strip() if _is_read(word) else in_quotes(word.strip()) for word in inner.split(",")]
        inner = ",".join(words)
    elif value.startswith("{"):
        return ""
    else:
        inner = in_quotes(inner)
    typed = f"{left}{inner}{right}"
    return shlex.quote(f"{key}={typed}") if typed.isprintable() and _is_read(typed) else ""


def _is_read(value: str) -> bool:
    """Whether Hydra's parser takes the value as it is."""
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except Exception:  # see `composing`
        return False
    return True


def in_quotes(text: str) -> str:
    """`text` as a value of Hydra's override grammar."""
    # A backslash counts as itself, but for one in front of a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + (found[2] and f"\\{found[2]}"), text)
    return f'"{escaped}"'


def _choices(missing: str, options: Sequence[str]) -> tuple[str, str, list[str]]:
    """The group and choice of a config file that is not there, and what the group offers, in folders too."""
    group, _, choice = missing.partition("/")
    folder = conf_dir() / group
    if not folder.is_dir():  # one of Hydra's own groups
        group, _, choice = missing.rpartition("/")
        return group, choice, list(options)
    nested = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return group, choice, sorted({*options, *nested})


def _near_keys(key: str, known: Sequence[str]) -> str:
    """A hint at keys that may be meant: ``optimizer.lr`` by ``lr``, those in ``batch`` by ``batch_size``."""
    meant = [other for other in known if other.rpartition(".")[2] == key]
    if not meant:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        meant = [other for other in known if near and other.startswith(f"{near[0]}.")]
        if not meant or near[0] in GROUPS:
            return did_you_mean(key, known)
    return f"; did you mean {' or '.join(map(repr, meant[:3]))}?"


def _known_keys(arguments: Sequence[str]) -> list[str]:
    """Every key of the configuration that the valid group choices on the command line compose to."""
    choices = [a for a in arguments if a.partition("=")[0] in GROUPS and "," not in a]
    own = [b for a, b in pairwise(arguments) if a in ("--config-dir", "-cd")]
    choices += [f"hydra.searchpath=[file://{Path(folder).absolute()}]" for folder in own]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = compose("config", overrides=choices)
    except Exception:  # a second mistake, of any kind (see `composing`): hint with what is certain
        return list(GROUPS)
    return [*GROUPS, *_keys(OmegaConf.to_container(composed))]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")

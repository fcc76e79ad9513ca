"""Hydra's errors about an override, in one line that names the key and what to type instead."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sslbench.config.saved import flat
from sslbench.config.schema import GROUPS, conf_dir
from sslbench.errors import UserError, did_you_mean

#: Launchers that come with an extra of this package.
_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


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
    if not isinstance(error, HydraException | OmegaConfBaseException):
        reason = " ".join(str(error).split()) or type(error).__name__
        where = "this command line or a file that it names"
        return f"Hydra cannot read {where} ({reason}); HYDRA_FULL_ERROR=1 says more"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = error.missing_cfg_file
        if extra := _EXTRAS.get(missing.removeprefix("hydra/launcher/")):
            return f"{missing} is not installed: pip install 'sslbench[{extra}]'"
        group, _, choice = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
        folder = conf_dir() / group
        nested = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
        options = sorted({*(error.options or []), *nested})
        listed = f" (choices: {', '.join(options)})" if options else ""
        return f"{group}={choice}: there is no such choice{did_you_mean(choice, options)}{listed}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': {_unread(error)}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"there is no key '{cause.full_key}'{_near_keys(cause)}"
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


def _unread(error: OverrideParseException) -> str:
    """What is wrong with an override that Hydra's parser does not take."""
    key, sign, value = error.override.partition("=")
    if not sign or not re.fullmatch(r"[+~]*[\w./@-]+", key, re.ASCII):
        return "an override looks like key=value or group=choice"
    if wrong := re.search(r" while evaluating '.*': (.+)", str(error)):
        return wrong[1]
    if any(value.count(opened) != value.count(closed) for opened, closed in ("()", "[]", "{}")):
        return "a bracket in it is not closed; as text, the value must be in quotes for Hydra, too"
    several = "," in value or value.startswith(("[", "{"))
    example = "" if several or not value.isprintable() else shlex.quote(f"{key}={in_quotes(value)}")
    return "text such as this must be in quotes for Hydra, too" + (f": {example}" if example else "")


def in_quotes(text: str) -> str:
    """`text` as a value of Hydra's override grammar."""
    # A backslash counts as itself, but for one in front of a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + (found[2] and f"\\{found[2]}"), text)
    return f'"{escaped}"'


def _near_keys(error: OmegaConfBaseException) -> str:
    """A hint at the keys of the configuration that may be meant, such as ``optimizer.lr`` by ``lr``."""
    root: Any = error.parent_node._get_root() if error.parent_node else OmegaConf.create()
    keys: Any = OmegaConf.to_container(root)
    known = [*GROUPS, *(key for key, _ in flat(keys) if not key.startswith("hydra."))]
    meant = [repr(key) for key in known if key.rpartition(".")[2] == error.full_key]
    return f"; did you mean {' or '.join(meant[:3])}?" if meant else did_you_mean(error.full_key or "", known)

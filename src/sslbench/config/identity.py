"""What of a configuration decides what a run computes, and so its id: docs/design/identity.md says why.

Computed from plain mappings, so that a saved ``config.yaml`` is enough for it; imports nothing heavy.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sslbench.errors import UserError

Node = dict[str, Any]

#: Of the rules in this file; hashed with every identity. Whoever changes the rules counts it up.
VERSION = 2

SEEDS = ("seed", "split_seed")
#: Keys that an algorithm may say it does not read.
MAY_BE_IGNORED = ("model", "batch.unlabelled")

#: Keys that say where and on what a run happens, not what it computes.
PLACE = (
    *("device", "deterministic", "graph", "compile", "threads", "data_root", "output_root", "run_dir"),
    *("resume", "logger", "log_every", "checkpoint_every", "profile"),
)
#: Keys that only a sweep reads.
_SWEEP = ("retry_failed", "fail_fast", "jobs_per_gpu")
#: Names and notes, and defaults that have done their work once the configuration is resolved.
_NOTES = (
    *("choices", "overrides", "algorithm.ignores", "algorithm.distance.typical", "loss.typical", "strong"),
    *("dataset.root", "dataset.download", "dataset.typical", "dataset.facts", "dataset.name"),
)


def identity_of(keys: Mapping[str, Any]) -> Node:
    """The part of a configuration that decides what a run computes.

    Left out: places, loggers, what only a sweep reads, what the algorithm ignores, the path of a data file
    whose content is known, and every key that is null. `keys` are resolved, and may be from any file.
    """
    algorithm, dataset = (_mapping(keys.get(group)) for group in ("algorithm", "dataset"))
    left_out = [*PLACE, *_SWEEP, *_NOTES, *ignored(algorithm)]
    if "distance" not in algorithm:
        left_out.append("loss")
    if algorithm.get("strong") is None:
        left_out.append("dataset.images.operations")
    if dataset.get("sha256") is not None:
        left_out.append("dataset.path")
    identity = _without(keys, left_out)
    if "precision" in identity:
        identity["precision"] = pick_precision(identity["precision"])
    return identity


def ignored(algorithm: Mapping[str, Any]) -> list[str]:
    """The configuration keys that an algorithm says it does not read, under ``ignores`` in its yaml."""
    names = algorithm.get("ignores")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def pick_precision(precision: str) -> str:
    """The precision, fp32 or bf16, that `precision`, one of these or auto, stands for.

    ``auto`` is fp32: bfloat16 has not been tried on a GPU yet, and few CPUs have units for it.
    """
    return "fp32" if precision == "auto" else precision


def digest(identity: Node) -> str:
    """Eight hexadecimal digits of the SHA-256 of an identity and of the version of its rules.

    Raises:
        UserError: a mapping has keys that are text and keys that are not, which cannot be sorted.
    """
    try:
        text = json.dumps([VERSION, identity], sort_keys=True)
    except TypeError as error:
        raise UserError("a mapping has keys that are text and others: put all of them in quotes") from error
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(value: Mapping[str, Any], keys: list[str]) -> Node:
    """`value` without `keys`, a dotted one lying deeper, without nulls and without what is empty then."""
    kept = {}
    for name, inner in value.items():
        if name in keys or inner is None:
            continue
        if isinstance(inner, Mapping):
            deeper = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
            inner = _without(inner, deeper)
            if not inner:
                continue
        elif isinstance(inner, list):
            inner = [_without(item, []) if isinstance(item, Mapping) else item for item in inner]
        kept[name] = inner
    return kept

"""The configuration: its types, its checks, and its identity."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sslbench.config.file_names import file_name
from sslbench.errors import UserError, nearest

Node = dict[str, Any]

#: Keys that say where and on what a run happens, not what it computes.
_PLACE = (
    "device",
    "deterministic",
    "graph",
    "compile",
    "threads",
    "data_root",
    "output_root",
    "run_dir",
    "resume",
    "logger",
    "log_every",
    "checkpoint_every",
    "profile",
)
#: Keys that only a sweep reads.
_SWEEP = ("retry_failed", "fail_fast", "jobs_per_gpu")
SEEDS = ("seed", "split_seed")

GROUPS = ("dataset", "model", "algorithm", "loss", "optimizer", "schedule", "logger")


@dataclass
class BatchSizes:
    """Images a step."""

    labelled: int = 50
    unlabelled: int = 100


@dataclass
class Keys:
    """All that can be configured, with types. Group nodes stay mappings: their classes say what they take."""

    dataset: Node = field(default_factory=dict)
    model: Node = field(default_factory=dict)
    algorithm: Node = field(default_factory=dict)
    loss: Node = field(default_factory=dict)
    optimizer: Node = field(default_factory=dict)
    schedule: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)
    num_labels: int = MISSING
    num_valid: int = MISSING
    labelled_in_unlabelled: bool = True
    split_seed: int = 0
    seed: int = 0
    steps: int = MISSING
    eval_every: int = MISSING
    log_every: int = MISSING
    batch: BatchSizes = field(default_factory=BatchSizes)
    checkpoint_every: str = "60s"
    device: str = "auto"
    precision: str = "auto"
    deterministic: bool = False
    graph: bool = False
    compile: bool = False
    profile: bool = False
    threads: int | None = None
    data_root: str = MISSING
    output_root: str = "outputs"
    run_dir: str | None = None
    resume: str | None = None
    retry_failed: bool = False
    fail_fast: bool = False
    jobs_per_gpu: int = 1


@dataclass
class Settings(Keys):
    """A whole configuration as a run uses and saves it.

    Attributes:
        choices: the chosen name of each group.
        overrides: what was typed.
    """

    choices: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    @property
    def loss_name(self) -> str | None:
        """The chosen distance, or None for an algorithm that has none."""
        return self.choices["loss"] if "distance" in self.algorithm else None

    @property
    def name(self) -> str:
        """``<algorithm>-<loss>-<dataset>-<labels>-s<seed>``, for people."""
        return f"{self._stem}-s{self.seed}"

    @property
    def _stem(self) -> str:
        parts = (self.choices["algorithm"], self.loss_name, self.choices["dataset"], str(self.num_labels))
        return file_name("-".join(part for part in parts if part))

    @property
    def run_id(self) -> str:
        """The name and a hash of all that the run computes: the same settings always give the same id."""
        return f"{self.name}-{_digest(self.identity())}"

    @property
    def group(self) -> str:
        """The id without the seeds: runs that differ in nothing else share it."""
        identity = {key: value for key, value in self.identity().items() if key not in SEEDS}
        return f"{self._stem}-{_digest(identity)}"

    def summary(self) -> Node:
        """What the run is, in the words of ``result.json``: its head, and a part of each ``status.json``."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "group": self.group,
            "algorithm": self.choices["algorithm"],
            "dataset": self.choices["dataset"],
            "model": self.choices["model"],
            "loss": self.loss_name,
            "num_labels": self.num_labels,
            "num_valid": self.num_valid,
            "seed": self.seed,
            "split_seed": self.split_seed,
            "steps": self.steps,
        }

    def identity(self) -> Node:
        """What the run computes: without places, loggers, and a distance that the algorithm does not use."""
        return identity_of(asdict(self))

    def directory(self) -> Path:
        """The run's folder, absolute."""
        return Path(self.run_dir or Path(self.output_root) / self.run_id).absolute()


def identity_of(keys: Mapping[str, Any]) -> Node:
    """What of a configuration, as nested mappings that may be from a file, counts for what a run computes.

    Places, loggers, what only a sweep reads, and a distance that the algorithm does not use do not.
    """
    left_out = {*_PLACE, *_SWEEP, "choices", "overrides"}
    identity = {key: value for key, value in keys.items() if key not in left_out}
    dataset, algorithm = identity.get("dataset"), identity.get("algorithm")
    if isinstance(dataset, dict):
        identity["dataset"] = _without(dataset, "root", "download", "typical", "facts")
    # What is typical of a distance has done its work once the weights are resolved.
    if isinstance(algorithm, dict) and isinstance(algorithm.get("distance"), dict):
        identity["algorithm"] = {**algorithm, "distance": _without(algorithm["distance"], "typical")}
    if not isinstance(algorithm, dict) or "distance" not in algorithm:
        identity.pop("loss", None)
    elif isinstance(identity.get("loss"), dict):
        identity["loss"] = _without(identity["loss"], "typical")
    return identity


def _without(node: Node, *keys: str) -> Node:
    return {key: value for key, value in node.items() if key not in keys}


def _digest(node: Node) -> str:
    return hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:8]


def conf_dir() -> Path:
    """The folder of the configuration groups: inside the package when installed, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def default_data_root() -> str:
    """``$SSLBENCH_DATA``, else the user's cache folder."""
    from platformdirs import user_cache_dir

    return os.environ.get("SSLBENCH_DATA") or str(Path(user_cache_dir("sslbench")) / "data")


def register() -> None:
    """Make known to Hydra what ``conf/config.yaml`` refers to: the types of the keys, and the data folder."""
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_new_resolver("data_root", default_data_root, replace=True)
    # Kept for the whole sweep, as Hydra keeps the time: two that start in the same second differ in this.
    OmegaConf.register_new_resolver("sweep_id", lambda: secrets.token_hex(3), replace=True, use_cache=True)
    OmegaConf.register_new_resolver("times", lambda one, other: float(one) * float(other), replace=True)
    ConfigStore.instance().store(name="settings", node=Keys)


def from_config(config: DictConfig, choices: Mapping[str, str], overrides: list[str]) -> Settings:
    """The typed settings of a composed configuration, resolved.

    Raises:
        UserError: a value is missing or does not resolve.
    """
    known = [entry.name for entry in fields(Keys)]
    for key in map(str, config):
        if key not in known:
            raise UserError(f"there is no key '{key}'{nearest(key, known)}")
    for group in GROUPS:
        if not isinstance(choices.get(group), str):
            raise UserError(f"{group} takes one choice: {group}=... (--help lists them)")
    for entry in fields(Keys):
        if entry.default is MISSING and entry.name not in config:  # by ~steps
            raise UserError(f"{entry.name} is not given: add {entry.name}=...")
    try:
        keys = _to_object(config)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise UserError(key + str(error).splitlines()[0]) from error
    assert isinstance(keys, Keys)
    for group in GROUPS:
        _check_names(getattr(keys, group), group)
    if isinstance(keys.dataset.get("path"), str):  # so that a later evaluation finds it from any folder
        keys.dataset["path"] = str(Path(keys.dataset["path"]).expanduser().absolute())
    if isinstance(keys.dataset.get("root"), str):
        keys.dataset["root"] = str(Path(keys.dataset["root"]).expanduser().absolute())
    return Settings(**vars(keys), choices={group: choices[group] for group in GROUPS}, overrides=overrides)


def _to_object(config: DictConfig) -> Any:
    """The typed object that `config` is, resolved.

    Raises:
        UserError: a value is missing.
        OmegaConfBaseException: it does not resolve.
    """
    try:
        return OmegaConf.to_object(config)
    except OmegaConfBaseException:
        # Asked for only now: it resolves everything once more, which counts in a sweep of thousands.
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise UserError(f"{missing[0]} is not given: add {missing[0]}=...") from None
        raise


def _check_names(node: Mapping[Any, Any], key: str) -> None:
    """Refuse names that are not text beside such as are: they could not be sorted.

    Raises:
        UserError: naming the first.
    """
    for name, value in node.items():
        if not isinstance(name, str) and any(isinstance(other, str) for other in node):
            raise UserError(f"{key} has a key {name!r} that is not text: put it in quotes")
        if isinstance(value, Mapping):
            _check_names(value, f"{key}.{name}")


def nested(settings: Settings) -> Node:
    """The settings as plain nested mappings."""
    return asdict(settings)

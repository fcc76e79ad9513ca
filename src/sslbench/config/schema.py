"""The configuration: its keys and types, how it is composed, and what its run is called."""

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sslbench.config.data_file import absolute, content_hash, num_classes
from sslbench.config.file_names import file_name
from sslbench.config.identity import SEEDS, Node, digest, identity_of, ignored
from sslbench.errors import UserError, did_you_mean

GROUPS = ("dataset", "model", "algorithm", "loss", "strong", "optimizer", "schedule", "average", "logger")
#: What runs of before these groups existed have in their place.
BEFORE = {"strong": "none", "average": "none"}


@dataclass
class BatchSizes:
    """Images a step."""

    labelled: int = 50
    unlabelled: int = 100


@dataclass
class Keys:
    """Every key and its type. Groups are mappings: the classes that they name say which keys these take."""

    dataset: Node = field(default_factory=dict)
    model: Node = field(default_factory=dict)
    algorithm: Node = field(default_factory=dict)
    loss: Node = field(default_factory=dict)
    strong: Node = field(default_factory=dict)
    optimizer: Node = field(default_factory=dict)
    schedule: Node = field(default_factory=dict)
    average: Node = field(default_factory=dict)
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
    weight_decay_on: str | None = None
    lr_factors: dict[str, float] = field(default_factory=dict)
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
    """A whole configuration, resolved, as a run uses and saves it."""

    choices: dict[str, str] = field(default_factory=dict)  # the chosen name of each group
    overrides: list[str] = field(default_factory=list)

    @property
    def loss_name(self) -> str | None:
        """The chosen distance, or None for an algorithm that has none."""
        return self.choices["loss"] if "distance" in self.algorithm else None

    @property
    def model_name(self) -> str | None:
        """The chosen model, or None for an algorithm that builds models of its own."""
        return None if "model" in ignored(self.algorithm) else self.choices["model"]

    @property
    def dataset_name(self) -> str:
        """``dataset.name``, else the name of the data file without its ending, else the choice."""
        name, path = self.dataset.get("name"), self.dataset.get("path")
        if name in (None, "") and isinstance(path, str):
            name = Path(path).stem
        return str(name or self.choices["dataset"])

    @property
    def name(self) -> str:
        """``<algorithm>-<loss>-<dataset>-<labels>-s<seed>``, for people to read."""
        return f"{self._stem}-s{self.seed}"

    @property
    def _stem(self) -> str:
        parts = (self.choices["algorithm"], self.loss_name, self.dataset_name, str(self.num_labels))
        return file_name("-".join(part for part in parts if part))

    @property
    def run_id(self) -> str:
        """The name and a hash of all that the run computes: equal settings give equal ids."""
        return f"{self.name}-{digest(self.identity())}"

    @property
    def group(self) -> str:
        """The id without the seeds, which runs share that differ in their seeds only."""
        identity = {key: value for key, value in self.identity().items() if key not in SEEDS}
        return f"{self._stem}-{digest(identity)}"

    def summary(self) -> Node:
        """Which run it is: the first fields of ``result.json``, and ``run`` in ``status.json``."""
        own = ("num_labels", "num_valid", "seed", "split_seed", "steps")
        return {
            "run_id": self.run_id,
            "name": self.name,
            "group": self.group,
            "algorithm": self.choices["algorithm"],
            "dataset": self.dataset_name,
            "dataset_sha256": self.dataset.get("sha256"),
            "model": self.model_name,
            "loss": self.loss_name,
            **{name: getattr(self, name) for name in own},
        }

    def identity(self) -> Node:
        """What the run computes; see `sslbench.config.identity.identity_of`."""
        return identity_of(asdict(self))

    def directory(self) -> Path:
        """The run's folder, absolute."""
        return Path(self.run_dir or Path(self.output_root) / self.run_id).absolute()


def conf_dir() -> Path:
    """The folder of the configuration groups: inside the package when installed, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def default_data_root() -> str:
    """``$SSLBENCH_DATA``, else the user's cache folder; empty for a user without a home folder."""
    from platformdirs import user_cache_dir

    if folder := os.environ.get("SSLBENCH_DATA"):
        return folder
    try:
        return str(Path(user_cache_dir("sslbench")) / "data")
    except RuntimeError:  # many data sets need no folder
        return ""


def register() -> None:
    """Make known to Hydra what the files in ``conf`` refer to: the types of the keys, and resolvers."""
    from hydra.core.config_store import ConfigStore

    resolvers: dict[str, Callable[..., Any]] = {
        "data_root": default_data_root,
        "times": lambda one, other: float(one) * float(other),
        "if_equal": lambda value, expected, then, otherwise: then if value == expected else otherwise,
        "labels_per_class": lambda count, path: int(count) * num_classes(absolute(str(path))),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    # Cached for the whole sweep, as Hydra caches the time: sweeps that start in the same second differ in it.
    OmegaConf.register_new_resolver("sweep_id", lambda: secrets.token_hex(3), replace=True, use_cache=True)
    ConfigStore.instance().store(name="settings", node=Keys)


def from_config(config: DictConfig, choices: Mapping[str, str], overrides: list[str]) -> Settings:
    """The typed settings of a composed configuration, resolved.

    Raises:
        UserError: a value is missing or does not resolve.
    """
    known = [entry.name for entry in fields(Keys)]
    for key in map(str, config):
        if key not in known:
            raise UserError(f"there is no key '{key}'{did_you_mean(key, known)}")
    for group in GROUPS:
        if not isinstance(choices.get(group), str):
            raise UserError(f"{group} takes one choice: {group}=... (--help lists them)")
    for entry in fields(Keys):
        if entry.default is MISSING and entry.name not in config:  # by ~steps
            raise UserError(f"{entry.name} is not given: add {entry.name}=...")
    try:
        keys: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise _user_error(error, config) from error
    if keys.dataset.get("root") == "":
        raise UserError("data_root has no default here, since you have no home folder: add data_root=DIR")
    for key in ("path", "root"):
        if isinstance(keys.dataset.get(key), str):
            keys.dataset[key] = absolute(keys.dataset[key])
    if isinstance(path := keys.dataset.get("path"), str) and (found := content_hash(path)):
        keys.dataset["sha256"] = found
    return Settings(**vars(keys), choices={group: choices[group] for group in GROUPS}, overrides=overrides)


def _user_error(error: OmegaConfBaseException, config: DictConfig) -> UserError:
    """What is wrong with a configuration that does not resolve."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):  # of a resolver, which OmegaConf wraps twice
            return cause
        cause = cause.__context__
    key = error.full_key if isinstance(error, MissingMandatoryValue) else None
    # Only now, as it resolves everything once more, which counts in a sweep of thousands.
    with suppress(OmegaConfBaseException):  # of another value that does not resolve
        if key := key or min(OmegaConf.missing_keys(config), default=None):
            return UserError(f"{key} is not given: add {key}=...")
    return UserError((f"{error.full_key}: " if error.full_key else "") + str(error).splitlines()[0])

"""Settings from words as they are typed, for the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from sslbench.config import schema


def settings_from(words: Sequence[str]) -> schema.Settings:
    """What `sslbench` would make of `words`."""
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=list(words), return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    return schema.from_config(composed, choices, list(words))

"""What checkpoints cost: the time spent in them against the time of training, in whole runs.

    python benchmarks/checkpoint_cost.py
    python benchmarks/checkpoint_cost.py algorithm=mixmatch model=wrn_28_2 steps=200

Without arguments, three runs at default settings: the default run, one whose steps are the fastest and whose
weights are many, and one of the large network for five minutes. A checkpoint is copied, written, synced and
renamed in the time that is counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import open_dict
from rich.table import Table

from sslbench import config
from sslbench.engine.checkpoint import Checkpoints
from sslbench.run import run
from sslbench.tracking.console import stdout

RUNS = [
    [],
    ["algorithm=supervised", "model=mlp"],
    ["algorithm=mean_teacher", "model=wrn_28_2", "steps=400", "eval_every=200"],
]


def _settings(overrides: list[str], folder: Path) -> config.Settings:
    config.register()
    words = [*overrides, "logger=none", f"output_root={folder}"]
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=words, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    return config.from_config(composed, choices, words)


def main() -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as for sslbench")
    typed = parser.parse_args().overrides
    table = Table("run", "train s", "checkpoints", "MB each", "s each", "share")
    save = Checkpoints.save
    for overrides in [typed] if typed else RUNS:
        seconds: list[float] = []

        def timed(self: Checkpoints, state: Mapping[str, Any], seconds: list[float] = seconds) -> None:
            began = time.perf_counter()
            save(self, state)
            seconds.append(time.perf_counter() - began)

        Checkpoints.save = timed  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory(dir=".") as folder:  # where runs would write, and not in memory
            settings = _settings(overrides, Path(folder))
            result = run(settings)
            size = (settings.directory() / "checkpoint" / "last.pt").stat().st_size
        train = result["train_seconds"]
        table.add_row(
            " ".join(overrides) or "default",
            f"{train:.1f}",
            str(len(seconds)),
            f"{size / 1e6:.1f}",
            f"{sum(seconds) / len(seconds):.3f}",
            f"{sum(seconds) / train:.2%}",
        )
    stdout().print(table)


if __name__ == "__main__":
    main()

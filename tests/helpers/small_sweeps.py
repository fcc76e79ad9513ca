"""What the tests of sweeps share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import open_dict

from sslbench.config.schema import Settings, conf_dir
from sslbench.rundir.checkpoint import load_checkpoint
from sslbench.sweep.planned_run import PlannedRun, without_repeats
from sslbench.sweep.planning import plan_runs

Sslbench = Callable[..., int]

#: A run of a second or two.
TINY = [
    "model=mlp",
    "model.hidden=[16]",
    "steps=4",
    "eval_every=2",
    "logger=none",
    "device=cpu",
    "threads=1",
]

#: An algorithm that raises in its first step, to be put into a folder of one's own.
BROKEN = """
from sslbench.algorithms.supervised import Supervised


class Broken:
    views, trained, predictors = Supervised().views, Supervised.trained, Supervised.predictors
    build = Supervised.build

    def step(self, models, batch, progress):
        raise RuntimeError("made to fail")
"""


def add_broken(folder: Path) -> list[str]:
    """Put ``algorithm=broken`` into `folder`, which must be importable; returns the options to find it."""
    (folder / "conf" / "algorithm").mkdir(parents=True)
    (folder / "broken_algorithm.py").write_text(BROKEN)
    (folder / "conf" / "algorithm" / "broken.yaml").write_text("_target_: broken_algorithm.Broken\n")
    return ["--config-dir", str(folder / "conf")]


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def count(text: str, row: str) -> int:
    """A number of the table that ends a sweep."""
    found = re.search(rf"│ {row} +│ +(\d+) │", text)
    return int(found[1]) if found else 0


def planned(typed: Sequence[str], *chosen: str) -> list[PlannedRun]:
    """The runs of a sweep, with the choices that Hydra makes before it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        master = compose(
            "config", overrides=list(chosen) or ["hydra.mode=MULTIRUN"], return_hydra_config=True
        )
        assert master.hydra.mode == RunMode.MULTIRUN
        with open_dict(master):
            master.hydra.job.config_name = "config"
        values = [f"{key}={value}" for key, value in master.hydra.sweeper.params.items()]
        runs = plan_runs([*values, *typed], master, GlobalHydra.instance().config_loader())
    return without_repeats(runs)


def made_up_run(folder: Path, run_id: str, *overrides: str, steps: int = 100) -> PlannedRun:
    """A planned run whose files are written by hand."""
    settings = Settings(overrides=list(overrides), num_valid=50, seed=1, choices={"loss": "kl"})
    return PlannedRun(settings, folder, {"run_id": run_id, "steps": steps})


def check_interrupted(outputs: Path) -> None:
    """Each run that began has stopped in order, with a checkpoint of its last step."""
    for path in outputs.glob("*/metrics.jsonl"):
        if logged := len(path.read_text().splitlines()):
            state = load_checkpoint(path.parent / "checkpoint" / "last.pt")
            assert state["step"] == len(state["history"]) == logged, "nothing is lost"
    statuses = [read(path) for path in outputs.glob("*/status.json")]
    assert statuses
    assert {status["status"] for status in statuses} == {"interrupted"}
    assert not [status for status in statuses if "error" in status], "ended in order, not killed"

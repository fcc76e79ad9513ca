from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from helpers import fault_table
from sslbench.cli import main as cli
from sslbench.config.schema import Settings, conf_dir, from_config, register
from sslbench.run.setup import process_restored


def pytest_addoption(parser: pytest.Parser) -> None:
    fault_table.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    fault_table.configure(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    fault_table.note(item)


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether a fault test is to try all it can; otherwise a part that takes seconds."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> fault_table.Tried:
    """Tells the table how often a fault test has done what it does; once, if it is not told."""
    return lambda times: record_property("tried", times)


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of the official data sets, for tests marked `real_data`; skips where there is none."""
    root = os.environ.get("SSLBENCH_DATA")
    if not root:
        pytest.skip("set SSLBENCH_DATA to the folder that holds MNIST/raw")
    if not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip(f"SSLBENCH_DATA={root} has no MNIST/raw")
    return Path(root)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """One thread a process: tests run side by side, and waiting threads would slow each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _signals_as_in_a_terminal() -> None:
    """What is ignored (under nohup, in the background of a script) would be ignored by every process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _process_restored() -> Iterator[None]:
    """For tests that train without `run`: hypothesis refuses a process that flushes denormal numbers."""
    with process_restored():
        yield


@cache
def _composed(folder: str, typed: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration and its choices. Many tests ask for the same one, and Hydra takes 0.1 s for each."""
    register()
    with initialize_config_dir(folder, version_base="1.3"):
        composed = compose("config", overrides=list(typed), return_hydra_config=True)
    choices = dict(composed.hydra.runtime.choices)
    with open_dict(composed):
        del composed["hydra"]
    return composed, choices


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., Settings]:
    """Composes the shipped configuration: a tiny network, few steps, no W&B, output under `tmp_path`.

    With ``small=False``, as it is.
    """

    def compose_settings(*overrides: str, small: bool = True) -> Settings:
        model = any(override.startswith("model=") for override in overrides)
        tiny = [
            *([] if model else ["model=mlp", "model.hidden=[16]"]),
            "steps=8",
            "eval_every=4",
            "log_every=2",
            "batch.labelled=20",
            "batch.unlabelled=30",
            "logger=none",
            "device=cpu",
            f"output_root={tmp_path / 'outputs'}",
        ]
        typed = [*tiny, *overrides] if small else list(overrides)
        # The folders of a test are its own: they are put in afterwards.
        folders = [word for word in typed if word.startswith(("output_root=/", "run_dir=/"))]
        composed, choices = _composed(str(conf_dir()), tuple(word for word in typed if word not in folders))
        composed = copy.deepcopy(composed)
        for word in folders:
            key, _, place = word.partition("=")
            composed[key] = place
        return from_config(composed, choices, list(overrides))

    return compose_settings


@pytest.fixture
def sslbench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """The command within this process, in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        monkeypatch.setattr(sys, "argv", ["sslbench", *arguments])
        GlobalHydra.instance().clear()
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    yield call
    GlobalHydra.instance().clear()

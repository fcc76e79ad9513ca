from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from helpers.hostile import SECRET, Sentinel, one_line
from sslbench.cli.eval_command import main as evaluate
from sslbench.config import schema
from sslbench.config.schema import Settings
from sslbench.run.train import run


@pytest.fixture
def sentinel(tmp_path: Path) -> Sentinel:
    return Sentinel(tmp_path / "executed")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A finished run of a tiny network."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    typed = ["model=mlp", "model.hidden=[4]", "steps=2", "eval_every=2", "log_every=1", "algorithm=pi_model"]
    typed += ["batch.labelled=10", "batch.unlabelled=10", "logger=none", "device=cpu", f"run_dir={folder}"]
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=typed, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    settings = schema.from_config(composed, choices, typed)
    run(settings)
    return settings


@pytest.fixture
def folder(trained: Settings, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(trained.directory(), tmp_path / "run"))


@pytest.fixture
def refused(
    folder: Path, sentinel: Sentinel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Evaluates the run, which must be refused; returns what was said."""
    monkeypatch.setenv("SECRET", SECRET)

    def call(*options: str) -> str:
        with pytest.raises(SystemExit) as stop:
            evaluate([str(folder), *options])
        sentinel.check()
        shown = capsys.readouterr()
        said = str(stop.value.code)
        assert SECRET not in said + shown.out + shown.err
        return one_line(said, "sslbench-eval")

    return call

"""What an offline W&B run has written, read by W&B's own reader, and a client without a login."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.util import get_core_path


def log_out(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let the client of this process find neither a login nor settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "no.netrc"))
    wandb.teardown()  # the client keeps the settings that it saw first


def _inspect(folder: Path, *options: str) -> str:
    """What ``wandb leet inspect`` prints, without the second that the import of its command takes."""
    [log] = folder.glob("*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", *options, "--json"]
    command += ["--run-file", str(log), str(folder.parent)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def offline_folder(run_dir: Path) -> Path:
    """The one offline folder of the run in `run_dir`."""
    [folder] = (run_dir / "wandb").glob("offline-run-*")
    return folder


def summary_of(run_dir: Path) -> dict[str, Any]:
    """The state, the configuration and the last numbers of the run in `run_dir`."""
    seen: dict[str, Any] = json.loads(_inspect(offline_folder(run_dir), "--summary"))
    return seen


def records_of(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """All records of one kind, such as ``run`` or ``metric``."""
    return records_in(offline_folder(run_dir), kind)


def records_in(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Likewise, of one of several offline folders."""
    records = map(json.loads, _inspect(folder).splitlines())
    return [record[kind] for record in records if record["type"] == kind]


def points_of(run_dir: Path) -> list[dict[str, Any]]:
    """The log points."""
    return [record["item"] for record in records_of(run_dir, "history")]

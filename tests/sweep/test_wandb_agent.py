"""W&B sweeps as far as they go without a network: the client's own agent starts real runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

import sslbench
from helpers.wandb_files import log_out, points_of, records_of, summary_of
from sslbench.tracking import RunInfo, WandbTracker

DOCS = Path(__file__).parents[2] / "docs"

#: What the agent does when W&B hands it a run; there is no public way to hand it one.
AGENT = """
import json, sys

sweep, run_id, cell = json.loads(sys.argv[1])
try:
    from wandb.wandb_agent import Agent

    agent = Agent(None, None, sweep_id="abcd1234")
    agent._sweep_command = sweep["command"]
    arguments = {key: {"value": value} for key, value in cell.items()}
    order = {"type": "run", "run_id": run_id, "program": sweep["program"], "args": arguments}
    answer = agent._process_command(order)
    process = agent._run_processes[run_id]
except (ImportError, AttributeError, TypeError, KeyError) as error:
    sys.exit(
        f"the client's agent has changed ({error!r}): look at Agent._command_run in wandb/wandb_agent.py for "
        "the command and the environment that it gives a run, and mend this test"
    )
sys.exit(process.wait())
"""
TINY = ["model=mlp", "model.hidden=[16]", "steps=8", "eval_every=4", "log_every=2", "device=cpu", "threads=1"]


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_out(monkeypatch, tmp_path)


def sweep_of(method: str) -> dict[str, Any]:
    """The shipped sweep, or the one that its comments show instead."""
    text = (DOCS / "wandb_sweep.yaml").read_text()
    grid: dict[str, Any] = yaml.safe_load(text)
    instead = [line[1:] for line in text.splitlines() if re.match(r"#(\S|\s\s)", line)]
    return grid if method == "grid" else grid | yaml.safe_load("\n".join(instead))


def one_cell(sweep: dict[str, Any]) -> dict[str, Any]:
    """A combination that the sweep could draw."""
    cell = {}
    for name, choice in sweep["parameters"].items():
        [kind] = choice.keys() & {"value", "values", "min"}
        cell[name] = choice["values"][-1] if kind == "values" else choice[kind]
    return cell


def start_by_agent(
    folder: Path, sweep: dict[str, Any], cell: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """A run in `folder`, tiny and short, as the agent of the sweep ``abcd1234`` starts it."""
    at = sweep["command"].index("${args_no_hyphens}")
    short = sweep | {"command": [*sweep["command"][:at], *TINY, *sweep["command"][at:]]}
    given = {  # by `wandb agent team/study/abcd1234`
        "WANDB_SWEEP_ID": "abcd1234",
        "WANDB_PROJECT": "study",
        "WANDB_ENTITY": "team",
        "WANDB_MODE": "offline",
        # The code under test, from another folder too.
        "PYTHONPATH": f"{Path(sslbench.__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [sys.executable, "-c", AGENT, json.dumps([short, "run00001", cell])],
        cwd=folder,
        env=os.environ | given,
        capture_output=True,
        text=True,
    )


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["grid", "bayes"])
def test_the_shipped_sweep_runs_under_the_clients_agent(tmp_path: Path, method: str) -> None:
    sweep = sweep_of(method)
    assert sweep["method"] == method
    cell = one_cell(sweep)
    ended = start_by_agent(tmp_path, sweep, cell)
    assert ended.returncode == 0, ended.stderr

    [run_dir] = (tmp_path / "outputs" / "abcd1234").iterdir()
    result = json.loads((run_dir / "result.json").read_text())
    assert result["overrides"][-len(cell) :] == [f"{key}={value}" for key, value in cell.items()]
    [written] = records_of(run_dir, "run")
    assert (written["run_id"], written["sweep_id"]) == ("run00001", "abcd1234")
    assert (written["entity"], written["project"]) == ("team", "study")
    assert (written["run_group"], written["job_type"]) == (result["group"], "train")
    assert (run_dir / "wandb" / "run-id.txt").read_text() == "run00001\n"

    seen = summary_of(run_dir)
    assert {key: seen["config"][key] for key in cell} == cell
    saved = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert seen["config"]["resolved"]["algorithm"] == saved["algorithm"]
    assert seen["config"]["model"] == saved["model"]
    assert sweep["metric"]["goal"] == "maximize"
    assert seen["summary"][sweep["metric"]["name"]] == result["val_acc_best"]


def test_the_agent_is_told_of_a_failure(tmp_path: Path) -> None:
    ended = start_by_agent(tmp_path, sweep_of("grid"), {"algorithm": "vatt"})
    assert ended.returncode == 1
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("sslbench: ")]
    assert "vatt" in line


def test_the_page_shows_the_shipped_sweep() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", (DOCS / "wandb.md").read_text(), flags=re.DOTALL)
    shipped = (DOCS / "wandb_sweep.yaml").read_text()
    assert shown
    assert [block for block in shown if block not in shipped] == []


@pytest.mark.parametrize("agents_id", [None, "of-the-run", "another"])
def test_a_resumed_run_takes_the_agents_id_before_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agents_id: str | None
) -> None:
    history = [{"step": 20, "train/loss": 0.5}, {"step": 30, "train/loss": 0.5}]
    run = RunInfo("id", "name", "group", [], {"loss": {"unit": 1}}, tmp_path, 100, 30, history)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-id.txt").write_text("of-the-run\n")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    if agents_id is not None:
        monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
        monkeypatch.setenv("WANDB_RUN_ID", agents_id)
    real = wandb.init  # nobody answers: what would go online is written to a file
    monkeypatch.setattr(wandb, "init", lambda **asked: real(**asked | {"mode": "offline", "resume": None}))

    tracker = WandbTracker(mode="online")
    tracker.start(run)
    tracker.log(40, {"train/loss": 0.25})
    tracker.close("finished", None)
    [written] = records_of(tmp_path, "run")
    assert written["run_id"] == (agents_id or "of-the-run")
    assert [point["step"] for point in points_of(tmp_path)] == [20, 30, 40]

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sslbench.config.schema import Settings
from sslbench.run.train import run

TIMES = ("train_seconds", "steps_per_second", "overrides")


@pytest.fixture
def both(settings_of: Callable[..., Settings], tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a run and of the same run with a profile."""
    folders = (tmp_path / "plain", tmp_path / "profiled")
    for folder, profile in zip(folders, (False, True), strict=True):
        run(settings_of("steps=30", "eval_every=30", f"run_dir={folder}", f"profile={profile}"))
    return folders


def test_a_profile_changes_nothing_that_is_computed(both: tuple[Path, Path]) -> None:
    weights = [(folder / "model.safetensors").read_bytes() for folder in both]
    assert weights[0] == weights[1]
    results = [json.loads((folder / "result.json").read_text()) for folder in both]
    assert len({json.dumps({k: v for k, v in result.items() if k not in TIMES}) for result in results}) == 1
    assert not (both[0] / "profile").exists()


def test_the_trace_holds_ten_steps(both: tuple[Path, Path]) -> None:
    events = json.loads((both[1] / "profile" / "trace.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if str(event.get("name")).startswith("ProfilerStep#")}
    assert steps == {f"ProfilerStep#{number}" for number in range(15, 25)}


def test_the_table_holds_ten_parts_the_longest_first(both: tuple[Path, Path]) -> None:
    text = (both[1] / "profile" / "parts.md").read_text()
    names, *rows = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith("  "))
    assert len(rows) == 10
    shares = [float(row[names.index("Self CPU %")].rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 30 < sum(shares) <= 100


def test_a_run_that_is_too_short_says_so(
    settings_of: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of("profile=true", "steps=8")
    run(settings)
    assert capsys.readouterr().err == "sslbench: no profile was written: it takes 25 steps\n"
    assert not (settings.directory() / "profile").exists()

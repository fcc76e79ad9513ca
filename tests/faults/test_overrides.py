"""Whatever is typed ends in a composed configuration or in one line, never in a traceback."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import sslbench.run.train
from helpers.override_grammar import lists
from helpers.results import write_result
from sslbench.config.schema import Settings
from sslbench.sweep.local import LocalRunner
from sslbench.sweep.planned_run import PlannedRun

Sslbench = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end where training would begin."""

    def single(checked: Settings) -> dict[str, Any]:
        sslbench.run.train.check(checked)
        return {"val_acc_best": 0.5}

    def finish(runner: LocalRunner, todo: Sequence[PlannedRun]) -> None:
        for run in todo:
            run.folder.mkdir(parents=True, exist_ok=True)
            write_result(run.folder, run.run_id)

    monkeypatch.setattr("sslbench.run.train.run", single)
    monkeypatch.setattr(LocalRunner, "run", finish)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Hydra sets up Python's logging for the process, which here has many commands."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def _ends_well(code: int, out: str, err: str) -> None:
    """A composed configuration and silence; or one line; or the lines of a sweep."""
    assert "Traceback" not in out + err
    assert all(letter.isprintable() or letter == "\n" for letter in err)
    lines = err.splitlines()
    # The one line that Hydra prints by itself is that of --package.
    assert all(line.startswith(("sslbench: ", "package '")) for line in lines)
    if code == 0 or out.startswith("sweep: "):  # a sweep tells on stdout which of its runs have failed
        assert lines == []
    elif lines and lines[-1].startswith("sslbench: nothing was started: "):
        assert 2 <= len(lines) <= 12
    else:
        assert len(lines) == 1


@pytest.mark.fault(
    "override lists from Hydra's grammar, right, wrong and broken, with flags",
    "a composed configuration or one line, no traceback and no warning",
)
def test_any_list_of_overrides(
    sslbench: Sslbench,
    untrained: None,
    tmp_path: Path,
    capsys: Capture,
    tried: Callable[[int], None],
    thorough: bool,
) -> None:
    times = composed = 0

    @settings(
        max_examples=320 if thorough else 25,
        derandomize=not thorough,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lists)
    def end_well(typed: list[str]) -> None:
        nonlocal times, composed
        place = tmp_path / "one" / "two" / "three"  # a value such as ../.. stays within the test's folder
        place.mkdir(parents=True)
        (place / "file").touch()
        os.chdir(place)
        with warnings.catch_warnings(), _own_logging():
            warnings.simplefilter("error")
            code = sslbench(*typed)
        os.chdir(tmp_path)
        shutil.rmtree(tmp_path / "one")
        _ends_well(code, *capsys.readouterr())
        times += 1
        composed += code == 0

    end_well()
    assert list(tmp_path.iterdir()) == []
    assert composed >= times // 16, "nearly all lists are refused before anything is composed"
    tried(times)


#: Found by the test above, each a traceback or a stack of lines once.
_FOUND = {
    "~algorithm": "algorithm takes one choice",
    "~model": "model takes one choice",
    "algorithm=[]": "algorithm takes one choice",
    "~logger@a.b=[none]": "Config group override deletion value must be a string",
    "~steps": "steps is not given: add steps=...",
    "~schedule._target_": "schedule has no _target_",
    "model._target_=1": "model._target_=1 cannot be imported",
    "+model={1:2}": "Key 1 (int) is incompatible with (str)",
    "+model.x={1:2,a:3}": "a mapping has keys that are text and others",
    "steps=" + "9" * 5000: "Hydra cannot read this command line",
    "steps=" + "9" * 400: "steps must be at most",
    "seed=interval(1,1e400) --info": "",
    "a\x85=1": "cannot read 'a\\x85=1'",
    "\x1b[31m": "cannot read '\\x1b[31m'",
    "logger.tags=range(5,5) -m": "there is nothing to run",
    "~algorithm -m": "algorithm takes one choice",
    "algorithm=[0.0] -m": "Hydra cannot read this command line",
    "seed=1 --resolve": "The --resolve flag can only be used",
    "seed=1 --multirun --run": "Only one of --run, --multirun",
    "--unknown": "unrecognized arguments: --unknown (--hydra-help lists the flags)",
    "--cfg x": "argument --cfg/-c: invalid choice",
    "--cfg job --package nope": "package 'nope' not found in config",
    "--experimental-rerun x": "--experimental-rerun is not supported",
}


@pytest.mark.parametrize("typed", _FOUND, ids=lambda typed: ascii(typed)[:40])
def test_what_was_found_stays_one_line(
    typed: str, sslbench: Sslbench, untrained: None, tmp_path: Path, capfd: Capture
) -> None:
    with _own_logging():
        code = sslbench(*([] if typed.startswith("-") else ["model=mlp"]), *typed.split(" "))
    out, err = capfd.readouterr()
    _ends_well(code, out, err)
    assert code != 0
    assert _FOUND[typed] in err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_this_package_is_no_mistake_of_the_user(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("sslbench.run.train.run", broken)
    with pytest.raises(ZeroDivisionError):
        sslbench("model=mlp")


def test_a_yaml_of_the_users_own_that_is_none(sslbench: Sslbench, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("_target_: [sslbench\n")
    for more in ([], ["-m"]):
        assert sslbench("--config-dir", "own", "model=mine", *more) == 1
        out, err = capfd.readouterr()
        _ends_well(1, out, err)
        assert "mine.yaml" in err

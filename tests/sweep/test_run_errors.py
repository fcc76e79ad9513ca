"""Errors of cells that cannot be written into the folder of the run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from helpers.small_sweeps import TINY, Sslbench, count, planned
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.sweep import worker
from sslbench.sweep.driver import DRIVER
from sslbench.sweep.run_errors import CellError, KnownError, noted
from sslbench.sweep.sweep_folder import STOP, error_file
from sslbench.sweep.worker import train_cell

MakeSettings = Callable[..., Settings]


def block(place: Path, how: str) -> None:
    """Put something where a run with this folder writes."""
    if how == "folder":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    else:
        (place / how).mkdir(parents=True)


@pytest.mark.parametrize("how", ["folder", "job.log", "status.json"])
@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_run_that_cannot_write_into_its_folder(
    how: str, fail_fast: bool, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = [*TINY, "algorithm=supervised", "seed=0,1", f"fail_fast={fail_fast}"]
    place = planned(typed)[0].folder
    block(place, how)
    assert sslbench("-m", *typed) == 1
    out = capfd.readouterr().out
    assert count(out, "failed") == 1
    [told, *_] = (line for line in out.splitlines() if line.startswith(f"failed {place.name}: "))
    assert str(place) in told
    assert "seed=0" in told
    assert "traceback in" not in told
    assert (count(out, "not started"), count(out, "finished")) == ((1, 0) if fail_fast else (0, 1))
    if not fail_fast:
        assert out.index(told) < out.index("] finished "), "told when it happens"
    if how == "folder":
        place.unlink()
    else:
        (place / how).rmdir()
    assert sslbench("-m", *typed) == 0
    assert count(capfd.readouterr().out, "finished") == 1 + fail_fast


def test_no_more_gpus_are_looked_for_after_the_first_that_cannot_be_taken(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> None:
        raise UserError("a file is in the way of the locks")

    monkeypatch.setattr(worker, "visible_gpus", closed)
    monkeypatch.setenv(DRIVER, str(os.getpid()))  # of a worker that no scheduler gave its GPUs
    settings = settings_of()
    settings.device = "auto"
    with pytest.raises(UserError, match="in the way"), noted(tmp_path, "first", fail_fast=True):
        train_cell(settings, tmp_path)
    with pytest.raises(KnownError, match="not started"), noted(tmp_path, "second", fail_fast=True):
        train_cell(settings, tmp_path)
    assert [path.name for path in (tmp_path / "errors").iterdir()] == ["first.txt"]


def test_a_worker_that_composes_another_run_refuses_it(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    numbers = iter(range(1000))
    OmegaConf.register_new_resolver("another", lambda: next(numbers), use_cache=False)
    request.addfinalizer(lambda: OmegaConf.clear_resolver("another"))
    assert sslbench("-m", *TINY, "algorithm=supervised", "seed=0,1", "split_seed=${another:}") == 1
    out = capfd.readouterr().out
    assert count(out, "failed") == 2
    told = re.findall(r"^failed (\S+): planned was (\S+), and the worker makes (\S+) of", out, re.MULTILINE)
    assert len(told) == 2
    assert all(name == plan != made for name, plan, made in told)
    assert [path.name for path in Path("outputs").iterdir()] == ["sweeps"]


def test_what_the_folder_of_the_run_tells_is_not_told_twice(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    settings = settings_of("dataset=npz", "dataset.path=absent.npz", "num_labels=20", "num_valid=20")
    told = error_file(tmp_path, settings.run_id)
    with pytest.raises(KnownError, match="no such file"), noted(tmp_path, settings.run_id, fail_fast=False):
        train_cell(settings, tmp_path)
    assert not told.exists()
    (settings.directory() / "job.log").unlink()
    (settings.directory() / "job.log").mkdir()
    for fail_fast in (False, True):  # what an earlier sweep has left in status.json is no news
        with (
            pytest.raises(CellError, match=r"job\.log cannot be written"),
            noted(tmp_path, settings.run_id, fail_fast=fail_fast),
        ):
            train_cell(settings, tmp_path)
        assert "job.log cannot be written (Is a directory): move" in told.read_text()
        assert (tmp_path / STOP).exists() == fail_fast
    with noted(tmp_path, settings.run_id, fail_fast=False):
        assert not told.exists(), "an attempt begins anew"

"""What is planned, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.shipped import ALGORITHMS
from helpers.small_sweeps import TINY, Sslbench, planned
from sslbench.config.schema import conf_dir


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("algorithm.weight=1.0,-1", "algorithm: weight=-1"),
        ("algorithm.weight=1.0,heavy", "algorithm.weight=heavy"),
        ("num_labels=20,55", "num_labels=55 is not divisible by the 10 classes"),
        ("dataset.images.crop=1,9,-2", "dataset.images: crop=-2"),
        ("schedule=exponential schedule.every=0", "schedule: "),
        ("steps=4,many seed=-1,0", "seed=-1 must be from 0"),
        ("loss=mse,mee", "did you mean 'mse'"),
        ("steps=4,0", "steps=0 must be at least 1"),
        ("run_dir=here", "would be the folder of two different runs"),
    ],
)
def test_nothing_starts_while_a_configuration_is_wrong(
    wrong: str, message: str, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = tuple(f"{part.partition('=')[0]}=" for part in wrong.split(" "))
    tiny = [word for word in TINY if not word.startswith(changed)]
    assert sslbench("-m", *tiny, "algorithm=pi_model", "seed=0,1", *wrong.split(" ")) == 1
    err = capfd.readouterr().err
    assert message in err
    assert all(line.startswith("sslbench: ") for line in err.splitlines())
    assert "Traceback" not in err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    "typed",
    [
        "launcher=local,none",
        "sweep=losses,methods",
        "retry_failed=true,false",
        "++fail_fast=true,false",
        "jobs_per_gpu=range(1,3)",
    ],
)
def test_what_only_a_sweep_reads_takes_one_value(
    typed: str, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    key = typed.lstrip("+").partition("=")[0]
    assert sslbench("-m", *TINY, "algorithm=supervised", typed, "seed=0,1") == 1
    assert capfd.readouterr() == ("", f"sslbench: {key} takes one value in a sweep\n")
    assert not Path("outputs").exists()


def test_every_mistake_is_told(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = [word for word in TINY if not word.startswith("steps")]
    assert sslbench("-m", *tiny, "algorithm=supervised,nonsense", "steps=4,many") == 1
    err = capfd.readouterr().err
    for message in (
        "steps: Value 'many'",
        "algorithm=nonsense: there is no such choice",
        "3 of 4 configurations",
    ):
        assert message in err


def test_wrong_configurations_are_counted(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench("-m", *TINY, "algorithm=pi_model", "algorithm.weight=-1,2.0", "seed=range(0,4)") == 1
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 2
    assert err[0].endswith("seed=0] and 3 more")
    assert err[1] == "sslbench: nothing was started: 4 of 8 configurations are wrong"


def test_of_many_mistakes_some_are_told_and_the_rest_counted(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = ",".join(str(-number) for number in range(1, 14))
    assert sslbench("-m", *TINY, "algorithm=supervised", f"seed={wrong}") == 1
    *told, more, total = capfd.readouterr().err.splitlines()
    assert len(told) == 10
    assert more == "sslbench: and 3 more mistakes"
    assert total == "sslbench: nothing was started: 13 of 13 configurations are wrong"


def test_a_key_given_twice_is_as_hydra_takes_it() -> None:
    assert [
        run.settings.seed for run in planned([*TINY, "algorithm=supervised", "seed=0,1", "++seed=5"])
    ] == [5]


@pytest.mark.parametrize(
    ("typed", "batches"),
    [
        ("batch.labelled=5,6 batch={labelled:7,unlabelled:10}", {(7, 10)}),
        ("batch={labelled:7,unlabelled:10} batch.labelled=5,6", {(5, 10), (6, 10)}),
        ("batch={labelled:7,unlabelled:10},{unlabelled:20} batch.labelled=5", {(5, 10), (5, 20)}),
        ("batch.labelled=5,6 batch.unlabelled=10", {(5, 10), (6, 10)}),
    ],
)
def test_a_key_set_whole_and_in_part_is_as_hydra_takes_it(typed: str, batches: set[tuple[int, int]]) -> None:
    runs = planned([*TINY, "algorithm=pi_model", *typed.split(" ")])
    assert {(run.settings.batch.labelled, run.settings.batch.unlabelled) for run in runs} == batches
    assert len(runs) == len(batches)


@pytest.mark.parametrize(
    ("preset", "runs"), [("losses", 51), ("methods", 3 * len(ALGORITHMS)), ("labels", 60)]
)
def test_every_preset_can_be_planned(preset: str, runs: int) -> None:
    assert len(planned([], f"sweep={preset}")) == runs
    assert {path.stem for path in (conf_dir() / "sweep").iterdir()} == {"losses", "methods", "labels"}

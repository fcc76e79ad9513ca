"""The command, as it is typed: one line for each mistake, nothing left behind, and fast answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sslbench import __version__
from sslbench.config.schema import conf_dir
from sslbench.engine import step as engine_step

TINY = [
    "model=mlp",
    "model.hidden=[16]",
    "steps=4",
    "eval_every=2",
    "logger=none",
    "device=cpu",
    "threads=1",
]

Sslbench = Callable[..., int]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    program = [sys.executable, "-m", "sslbench", *arguments]
    return subprocess.run(
        program, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


MISTAKES = {
    "algorithm=vatt": "did you mean 'vat'",
    "experiment=seeds/vat_mnits": "did you mean 'seeds/vat_mnist'",
    "algorithm=null": "a group cannot be null",
    "stepss=3": "'stepss'; did you mean 'steps'",
    "algorithm.epss=1": "'algorithm.epss'; did you mean 'algorithm.eps'",
    "+stps=3": "'stps'; did you mean 'steps'",
    "+algorithm.epss=1": "VAT takes no argument 'epss'; did you mean 'eps'",
    "steps=many": "steps: Value 'many'",
    "steps=[1": "'steps=[1': a bracket in it is not closed",
    "seed=1,2": "add -m",
    "num_labels=55": "num_labels=55 is not divisible by the 10 classes: use 50 or 60",
    "num_labels=5": "num_labels=5 is smaller than the 10 classes",
    "num_labels=1290": "together exceed the 1297 training images",
    "dataset=cifar10 num_labels=4005": "num_labels=4005 is not divisible by the 10 classes: use 4000 or 4010",
    "steps=0": "steps=0 must be at least 1",
    "batch.unlabelled=-3": "batch.unlabelled=-3 must be at least 1",
    "seed=-1": "seed=-1 must be from 0",
    "device=gpu": "device=gpu is not one of auto, cpu, cuda; did you mean 'cuda'?",
    "lr=0.1": "there is no key 'lr'; did you mean 'optimizer.lr'?",
    "batch_size=3": "there is no key 'batch_size'; did you mean 'batch.labelled'?",
    "labelled=3": "there is no key 'labelled'; did you mean 'batch.labelled'?",
    "experiment/seeds=vat_mnist": "type experiment=seeds/vat_mnist",
    "+experiment/seeds=vat_mnist": "type experiment=seeds/vat_mnist",
    "hydra.run.dir=here": "type run_dir=DIR for the folder of one run, or output_root=DIR",
    "++hydra.sweep.dir=here": "type run_dir=DIR for the folder of one run, or output_root=DIR",
    "precision=fp16": "precision=fp16 is not one of auto, fp32, bf16",
    "algorithm.eps=far": "algorithm.eps=far",
    "algorithm.eps=-1": "algorithm: eps=-1",
    "algorithm.iterations=1.5": "algorithm.iterations=1.5",
    "model.hidden=wide": "model.hidden=wide",
    "optimizer.lr=fast": "optimizer.lr=fast",
    "optimizer.lr=-1": "optimizer: Invalid learning rate: -1",
    "model._target_=sslbench.models.Nothing": "model._target_=sslbench.models.Nothing cannot be imported",
    "model=conv_large": "model: ",
    "dataset.images.flip=true": "dataset.images: flip=True is not a valid augmentation",
    "dataset.images.crop=9": "dataset.images: crop=9",
    "dataset=npz": "dataset.path is not given: add dataset.path=...",
    "dataset=npz dataset.path=absent.npz": "absent.npz: No such file",
    "schedule=exponential schedule.every=0": "schedule: ",
    "batch.labelled=1": "batch.labelled=1: the model's batch norm needs 2 images or more",
    "algorithm=pi_model dataset.images.crop=0": "compares two random views",
    "output_root=file/below": "cannot be written",
    "num_labels=${nothing}": "nothing",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_with_the_remedy(
    override: str, sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    typed = override.split(" ")
    changed = tuple(part.partition("=")[0] for part in typed)
    arguments = [a for a in TINY if not a.startswith((*(f"{key}=" for key in changed), "model.hidden"))]
    if not override.startswith("model"):
        arguments.append("model.hidden=[16]")
    assert sslbench(*arguments, *typed) == 1
    out, err = capfd.readouterr()
    assert MISTAKES[override] in err
    assert len(err.splitlines()) == 1
    assert err.startswith("sslbench: ")
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "a mistake leaves nothing behind"


def test_cuda_without_cuda(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert sslbench(*TINY, "device=cuda") == 1
    assert "set device=cpu or device=auto" in capfd.readouterr().err


def test_help_names_everything_and_never_imports_torch() -> None:
    done = command("--help")
    assert done.returncode == 0
    for group in ("algorithm", "dataset", "loss", "logger", "model", "optimizer", "schedule", "experiment"):
        folder = conf_dir() / group
        for choice in folder.rglob("*.yaml"):
            assert choice.relative_to(folder).with_suffix("").as_posix() in done.stdout
    assert done.stdout.count("  sslbench ") >= 5
    assert max(map(len, done.stdout.splitlines())) <= 110
    script = (
        "import sys; from sslbench.cli import main as cli; sys.argv = ['sslbench', {!r}]; cli.main()\n"
        "assert 'torch' not in sys.modules"
    )
    for question in ("--help", "--cfg=job"):
        checked = subprocess.run(
            [sys.executable, "-c", script.format(question)], capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


def test_help_lists_the_groups_of_a_config_dir(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "my_net.yaml").touch()
    done = command("--help", "--config-dir", str(tmp_path / "conf"))
    assert done.returncode == 0
    assert "my_net, noisy_mlp" in done.stdout
    done = command("--help", "--config-dir", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert done.stderr == f"sslbench: --config-dir {tmp_path / 'absent'}: there is no such folder\n"


@pytest.mark.parametrize(
    ("launcher", "plugin", "extra"),
    [("slurm", "submitit", "slurm"), ("ray", "ray", "ray")],
)
def test_a_launcher_that_is_not_installed(launcher: str, plugin: str, extra: str, tmp_path: Path) -> None:
    hidden = f"hydra_plugins.hydra_{plugin}_launcher"
    script = (
        "import sys; from sslbench.cli import main as cli\n"
        f"for name in ('', '.{plugin}_launcher', '.config', '._config'):\n"
        f"    sys.modules['{hidden}' + name] = None\n"
        f"sys.argv = ['sslbench', '-m', 'launcher={launcher}', 'seed=0,1']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"is not installed: pip install 'sslbench[{extra}]'")
    assert "Traceback" not in done.stderr


def test_completion_knows_groups_choices_and_keys() -> None:
    for typed, expected in (
        ("sslbench algorithm=v", "algorithm=vat"),
        ("sslbench data", "dataset="),
        ("sslbench algorithm.entropy", "algorithm.entropy_weight="),
        ("sslbench exp", "experiment="),
        ("sslbench experiment=", "experiment=seeds/vat_mnist"),
        ("sslbench steps=3 experiment=seeds/va", "experiment=seeds/vat_mnist"),
    ):
        done = command("-sc", "query=bash", COMP_LINE=typed, COMP_POINT=str(len(typed)))
        assert expected in done.stdout.split()
        assert not [word for word in done.stdout.split() if word.startswith("experiment/")]


@pytest.mark.parametrize("module", ["main", "eval_command", "report_command"])
def test_version(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sslbench", "--version"])
    with suppress(SystemExit):
        import_module(f"sslbench.cli.{module}").main()
    name = {"main": "sslbench", "eval_command": "sslbench-eval", "report_command": "sslbench-report"}[module]
    assert capsys.readouterr().out == f"{name} {__version__}\n"


def test_help_explains_the_keys_of_a_choice() -> None:
    done = command("algorithm=vat", "experiment=seeds/vat_mnist", "--help")
    assert done.returncode == 0
    for file in ("algorithm/vat.yaml", "experiment/seeds/vat_mnist.yaml"):
        assert (conf_dir() / file).read_text() in done.stdout
    assert "algorithm=vat; type algorithm.KEY=VALUE to change a key of it:" in done.stdout


def test_an_interrupted_run_says_where_it_is(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    step, steps = engine_step.training_step, []

    def interrupt(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(engine_step, "training_step", interrupt)
    assert sslbench(*TINY, "run_dir=here", "steps=1000") == 130
    assert capfd.readouterr().err == (
        "sslbench: interrupted at step 2 of 1,000; the same command continues from here\n"
    )


def test_a_user_without_a_home_folder(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def homeless(application: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("SSLBENCH_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", homeless)
    assert sslbench(*TINY) == 0
    capfd.readouterr()
    assert sslbench(*TINY, "dataset=mnist") == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.endswith("you have no home folder: add data_root=DIR")
    assert sslbench(*TINY, "dataset=mnist", "dataset.download=false", "data_root=data") == 1
    assert "dataset.download=false" in capfd.readouterr().err


def test_cfg_prints_without_training(
    sslbench: Sslbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sslbench("algorithm=vat", "dataset=mnist", "--cfg", "job") == 0
    assert "sslbench.algorithms.vat.VAT" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("algorithm", "loss", "expected"),
    [("vat", None, "kl"), ("vat", "js", "js"), ("pi_model", None, "mse"), ("supervised", "kl", None)],
)
def test_loss_of_an_algorithm(
    algorithm: str, loss: str | None, expected: str | None, sslbench: Sslbench, tmp_path: Path
) -> None:
    assert sslbench(*TINY, f"algorithm={algorithm}", *([f"loss={loss}"] if loss else []), "run_dir=run") == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["loss"] == expected


def test_users_own_algorithm_and_data_set_need_no_change_here(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sslbench.algorithms.supervised import Supervised as Mine\n"
        "from sslbench.data.sources import digits as my_digits\n"
    )
    for group, text in {
        "algorithm": "_target_: mine.Mine\n",
        "dataset": (
            "_target_: mine.my_digits\n"
            "images:\n"
            "  {_target_: sslbench.data.views.ImageTransform, mean: [0.5], std: [0.5], valid: [noise]}\n"
            "typical: {num_labels: 20, num_valid: 50, perturbation_radius: 1.0}\n"
        ),
    }.items():
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / "mine.yaml").write_text(text)
    own = ["algorithm=mine", "dataset=mine", f"run_dir={tmp_path / 'run'}"]
    done = command("--config-dir", str(tmp_path / "my_conf"), *TINY, *own, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["algorithm"], result["dataset"], result["num_labels"]) == ("mine", "mine", 20)


def test_npz_of_any_shape(sslbench: Sslbench, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    images = {
        f"x_{part}": chance.integers(0, 256, (40, 9, 12, 2), dtype=np.uint8) for part in ("train", "test")
    }
    labels = {f"y_{part}": np.arange(40) % 4 for part in ("train", "test")}
    np.savez(tmp_path / "my.npz", **images, **labels)
    counts = ["num_labels=8", "num_valid=10", "run_dir=run"]
    assert sslbench(*TINY, "dataset=npz", "dataset.path=my.npz", *counts) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test_acc"] * 40 == pytest.approx(round(result["test_acc"] * 40))

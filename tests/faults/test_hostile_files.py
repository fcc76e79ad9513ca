"""Files of a run folder, and data sets, that somebody made to run code, to leak, or to crash the program."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from helpers.hostile import (
    NOT_JSON,
    REFUSED,
    Sentinel,
    changed,
    npz_files,
    odd_files,
    one_line,
    remove,
    torch_files,
    zipped,
)
from sslbench.cli.eval_command import main as evaluate
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.run.train import run
from sslbench.rundir.checkpoint import load_checkpoint

Tried = Callable[[int], None]


def test_the_payloads_are_live(sentinel: Sentinel) -> None:
    for content in sentinel.pickles().values():
        started = pickle.loads(content)
        if isinstance(started, dict) and hasattr(started["step"], "wait"):
            started["step"].wait()
        elif isinstance(started, dict) and hasattr(started["step"], "close"):
            started["step"].close()
        assert sentinel.path.exists()
        remove(sentinel.path)
    yaml.unsafe_load(f"!!python/object/apply:os.system ['{sentinel.command}']")
    assert sentinel.path.exists()


@pytest.mark.fault("a hostile checkpoint: pickles in every format of torch", REFUSED)
def test_checkpoint(folder: Path, sentinel: Sentinel, tried: Tried) -> None:
    path = folder / "checkpoint" / "last.pt"
    state = load_checkpoint(path)
    hostile = {**sentinel.pickles(), **NOT_JSON, "no state": pickle.dumps([1])}
    for name, call in sentinel.calls().items():
        for kind, content in {**torch_files(call), **torch_files({**state, "step": call})}.items():
            hostile[f"{name}, {kind}"] = content
        hostile[f"{name} within"] = torch_files({**state, "step": call})["zip"]
    for name, content in hostile.items():
        for written in (content, with_checksum(content)):
            path.write_bytes(written)
            with pytest.raises(UserError) as error:
                load_checkpoint(path)
            assert str(error.value).isprintable(), name
            sentinel.check()
    tried(2 * len(hostile))


def with_checksum(content: bytes) -> bytes:
    """As `save_checkpoint` adds it, so that the content reaches torch."""
    archive = content if content.endswith(b"\0\0") else content + b"\0\0"
    return archive[:-2] + b"\x40\0" + hashlib.sha256(archive).hexdigest().encode()


@pytest.mark.thorough
@pytest.mark.fault("hostile weights: a pickle as model.safetensors, absurd headers, no file", REFUSED)
def test_weights(folder: Path, sentinel: Sentinel, refused: Callable[..., str], tried: Tried) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    call = sentinel.calls()["os.system"]
    header = b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'
    hostile = {
        **sentinel.pickles(),
        **torch_files({**weights, "step": call}),
        **NOT_JSON,
        "endless header": (2**63).to_bytes(8, "little") + b"{}",
        "long header": (2**40).to_bytes(8, "little") + b"{}",
        "deep header": (20_000).to_bytes(8, "little") + b"[" * 20_000,
        "endless tensor": len(header).to_bytes(8, "little") + header,
    }
    for content in hostile.values():
        path.write_bytes(content)
        assert "model.safetensors" in refused()
    remove(path)
    for make in odd_files(path).values():
        make()
        assert "model.safetensors" in refused()
        remove(path)
    tried(len(hostile) + len(odd_files(path)))


@pytest.mark.thorough
@pytest.mark.fault("a hostile .npz data set: pickled objects, absurd headers", REFUSED)
def test_data_set(
    sslbench: Callable[..., int],
    tmp_path: Path,
    sentinel: Sentinel,
    tried: Tried,
    thorough: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "data.npz"
    whole = tmp_path / "whole.npz"
    images, labels = np.zeros((20, 4, 4, 1), np.uint8), np.arange(20) % 2
    np.savez(whole, x_train=images, y_train=labels, x_test=images, y_test=labels)
    parts = {f"{key}.npy": _member(whole, key) for key in ("y_train", "x_test", "y_test")}
    hostile = dict(list(npz_files(sentinel, "x_train").items())[:: 1 if thorough else 6])
    for name, content in hostile.items():
        path.write_bytes(content)
        if content[:2] == b"PK" and name != "outside":  # all else is as it should be
            member = _member(path, "x_train")
            path.write_bytes(zipped({"x_train.npy": member, **parts}))
        assert _train(sslbench, path) == 1, name
        assert "data.npz" in one_line(capsys.readouterr().err, "sslbench")
        sentinel.check()
    remove(path)
    for make in odd_files(path).values():
        make()
        assert _train(sslbench, path) == 1
        assert "data.npz" in one_line(capsys.readouterr().err, "sslbench")
        remove(path)
    tried(len(hostile) + len(odd_files(path)))


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{name}.npy")


def _train(sslbench: Callable[..., int], path: Path) -> int:
    return sslbench(
        *("dataset=npz", f"dataset.path={path}", "num_labels=4", "num_valid=4", "steps=2", "eval_every=2"),
        *("logger=none", "device=cpu", "algorithm=supervised", "model=mlp"),
    )


@pytest.mark.thorough
@pytest.mark.fault(
    "a hostile split.npz or metrics.jsonl in a run that is to go on", "never read, and replaced"
)
def test_resumed_folder(
    trained: Settings, folder: Path, sentinel: Sentinel, tried: Tried, thorough: bool
) -> None:
    settings = Settings(**{**vars(trained), "run_dir": str(folder)})
    (folder / "result.json").unlink()
    bomb = b"\x93NUMPY\1\0" + (118).to_bytes(2, "little")
    bomb += b"{'descr': '<U64', 'fortran_order': False, 'shape': (400000,), }".ljust(117) + b"\n"
    points = {
        "text for a number": b'{"step": 1, "val/acc": "1"}\n{"step": 2}\n',
        "text for a step": b'{"step": "1"}\n{"step": 2}\n',
        "endless number": b'{"step": 1, "a": ' + b"9" * 400 + b'}\n{"step": 2}\n',
        **{name: content.replace(b"\n", b" ") + b'\n{"step": 2}\n' for name, content in NOT_JSON.items()},
    }
    hostile = {
        "split.npz": {**npz_files(sentinel, "hash"), "bomb": zipped({"hash.npy": bomb + b"\0" * 10**8})},
        "metrics.jsonl": points,
    }
    times = 0
    for file, contents in hostile.items():
        whole = (folder / file).read_bytes()
        for name, content in list(contents.items())[:: 1 if thorough else 5]:
            (folder / file).write_bytes(content)
            run(settings)
            assert (folder / file).read_bytes() == whole, name
            (folder / "result.json").unlink()
            sentinel.check()
            times += 1
    tried(times)


@pytest.mark.fault("a hostile result.json, evaluated", REFUSED)
def test_evaluated_result(folder: Path, refused: Callable[..., str], tried: Tried) -> None:
    path = folder / "result.json"
    fields: list[dict[str, object]] = [
        {"test_acc": float("nan")},
        {"test_acc": float("inf")},
        {"test_acc": 10**400},
        {"test_acc": "\x1b[31m1"},
        {"test_acc": {"a": [1]}},
        {"val_acc_best": True},
        {"test_ece": None},
        {"device": ["cuda"]},
        {"split_hash": 5},
        {"split_hash": "../../etc/passwd"},
    ]
    hostile = [changed(path, **each).encode() for each in fields] + list(NOT_JSON.values())
    for content in hostile:
        path.write_bytes(content)
        refused("--device", "cpu")
    remove(path)
    for make in odd_files(path).values():
        make()
        refused()
        remove(path)
    tried(len(hostile) + len(odd_files(path)))


@pytest.mark.thorough
@pytest.mark.fault("a hostile model.json or whitening.safetensors, evaluated", REFUSED)
def test_saved_model(folder: Path, sentinel: Sentinel, refused: Callable[..., str], tried: Tried) -> None:
    path, whitening = folder / "model.json", folder / "whitening.safetensors"
    whole = path.read_bytes()
    fields: list[dict[str, object]] = [
        {"predictor": "../../etc/passwd\x1b[31m"},
        {"predictor": "__class__"},
        {"class_names": ["a"] * 100_000},
        {"class_names": "\ud800"},
        {"channels": 10**400},
        {"height": True},
        {"width": 2**31},
        {"num_train": -1},
        {"mean": [float("nan")]},
        {"std": [[1]]},
        {"preprocess": "gcn_zca"},
        {"schema": 2},
    ]
    hostile = [changed(path, **each).encode() for each in fields] + list(NOT_JSON.values())
    for content in hostile:
        path.write_bytes(content)
        refused("--device", "cpu")
    remove(path)
    odd = {name: make for name, make in odd_files(path).items() if "link" not in name}
    for make in odd.values():
        make()
        refused()
        remove(path)
    path.write_bytes(whole)
    path.write_text(changed(path, preprocess="gcn_zca"))
    tensors = [*sentinel.pickles().values(), *torch_files({"mean": sentinel.calls()["exec"]}).values(), b""]
    for content in tensors:
        whitening.write_bytes(content)
        assert "whitening.safetensors" in refused()
    tried(len(hostile) + len(odd) + len(tensors))


@pytest.mark.fault("a run folder of another machine, without its data", "nothing is downloaded or written")
def test_a_configuration_does_not_say_where_to_write(folder: Path, refused: Callable[..., str]) -> None:
    path, elsewhere = folder / "config.yaml", folder / "elsewhere"
    settings = yaml.safe_load(path.read_text())
    images = settings["dataset"]["images"]
    for name in ("mnist", "fashion_mnist", "svhn", "cifar10"):
        target = f"sslbench.data.sources.{name}"
        settings["dataset"] = {
            "_target_": target, "root": str(elsewhere), "download": True, "images": images
        }  # fmt: skip
        path.write_text(yaml.safe_dump(settings))
        assert "elsewhere" in refused()
        assert not elsewhere.exists()


def test_an_honest_run_is_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate([str(folder), "--json"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["agrees"]

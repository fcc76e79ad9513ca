"""What makes another run and what does not; runs of before keep a meaning."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from sslbench.algorithms.protocol import stages_of
from sslbench.config import identity as identity_module
from sslbench.config.build import build, check_nodes
from sslbench.config.data_file import absolute, content_hash
from sslbench.config.identity import digest, identity_of
from sslbench.config.saved import difference, load, save
from sslbench.config.schema import Settings, conf_dir
from sslbench.core import DataSpec
from sslbench.errors import UserError

MakeSettings = Callable[..., Settings]
BEFORE = Path(__file__).parents[1] / "fixtures" / "version_1"

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))

#: Ids of runs that may lie in somebody's outputs: a change of one trains all of them again.
IDS = {
    "": "vat-kl-digits-20-s0-d78e2cbd",
    "algorithm=supervised": "supervised-digits-20-s0-57c9aafe",
    "algorithm=supervised seed=3": "supervised-digits-20-s3-c5e9545f",
    "algorithm=vat loss=js seed=3": "vat-js-digits-20-s3-096aa2e1",
    "algorithm=pi_model dataset=cifar10 model=wrn_28_2 optimizer=sgd schedule=cosine": (
        "pi_model-mse-cifar10-4000-s0-0ee4ff29"
    ),
    "algorithm=mean_teacher dataset=mnist split_seed=0 precision=bf16": (
        "mean_teacher-mse-mnist-100-s0-729fbeb2"
    ),
    "algorithm=label_vectors algorithm.networks=per_class": "label_vectors-digits-20-s0-291a680b",
    "algorithm=sgan dataset=svhn dataset.images.preprocess=gcn_zca": "sgan-svhn-1000-s0-5cdb1c31",
    "experiment=seeds/vat_mnist num_labels=1000": "vat-kl-mnist-1000-s0-ae92a2bc",
    "experiment=seeds/mnist_100_mlp": "supervised-mnist-100-s0-c9a1c373",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small file of 3 classes."""
    file = tmp_path / "mine" / "tiny.npz"
    file.parent.mkdir()
    shutil.copy(BEFORE / "tiny.npz", file)
    return file


@pytest.mark.parametrize("typed", IDS)
def test_ids_stay(typed: str, settings_of: MakeSettings) -> None:
    assert settings_of(*typed.split(), small=False).run_id == IDS[typed]


def test_groups_stay(settings_of: MakeSettings) -> None:
    for seed in (0, 3):
        settings = settings_of("algorithm=supervised", f"seed={seed}", small=False)
        assert settings.group == "supervised-digits-20-bc4cce2e"


@dataclass
class Grown(Settings):
    """Settings of some later version, with one more plain key."""

    mixing: int | None = None


def test_a_new_key_that_is_null_renames_no_run(settings_of: MakeSettings) -> None:
    for overrides in (("algorithm=pi_model",), ("dataset=cifar10", "algorithm=supervised")):
        settings = settings_of(*overrides)
        grown = Grown(**vars(settings_of(*overrides)))
        grown.dataset["images"]["strong"] = None
        grown.dataset["fold"] = grown.algorithm["schedule"] = grown.optimizer["groups"] = None
        grown.algorithm["targets"] = {"kind": None, "inner": {"threshold": None}}
        assert (grown.run_id, grown.group) == (settings.run_id, settings.group)
        grown.dataset["images"]["strong"] = 2
        assert grown.run_id != settings.run_id
        assert replace(Grown(**vars(settings)), mixing=1).run_id != settings.run_id


def test_nulls_in_lists_keep_their_places() -> None:
    assert identity_of({"a": [None, 1], "b": [{"c": None}]}) == {"a": [None, 1], "b": [{}]}


def test_other_rules_give_other_ids(settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of()
    before = settings.run_id
    monkeypatch.setattr(identity_module, "VERSION", identity_module.VERSION + 1)
    assert settings.run_id != before


def test_a_saved_run_has_the_id_of_its_run(settings_of: MakeSettings, data: Path, tmp_path: Path) -> None:
    settings = settings_of("dataset=npz", f"dataset.path={data}", "algorithm=label_vectors")
    (tmp_path / "config.yaml").write_text(save(settings))
    data.unlink()
    again = load(tmp_path / "config.yaml")
    assert (again.run_id, again.group) == (settings.run_id, settings.group)
    assert again.summary() == settings.summary()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("precision=auto", "precision=fp32"),
        ("algorithm=supervised batch.unlabelled=30", "algorithm=supervised batch.unlabelled=7"),
        ("algorithm=supervised loss=mse", "algorithm=supervised loss=kl"),
        (
            "algorithm=label_vectors algorithm.networks=per_class model=mlp",
            "algorithm=label_vectors algorithm.networks=per_class model=cnn",
        ),
        ("seed=2", "seed=2 split_seed=2"),
    ],
)
def test_what_computes_the_same_is_one_run(one: str, other: str, settings_of: MakeSettings) -> None:
    assert settings_of(*one.split()).run_id == settings_of(*other.split()).run_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("precision=auto", "precision=bf16"),
        ("algorithm=pi_model batch.unlabelled=30", "algorithm=pi_model batch.unlabelled=7"),
        ("algorithm=supervised batch.labelled=20", "algorithm=supervised batch.labelled=7"),
        ("algorithm=label_vectors model=mlp", "algorithm=label_vectors model=cnn"),
        ("seed=2", "seed=2 split_seed=0"),
    ],
)
def test_what_computes_something_else_is_another_run(one: str, other: str, settings_of: MakeSettings) -> None:
    assert settings_of(*one.split()).run_id != settings_of(*other.split()).run_id


def test_a_run_without_a_model_of_the_group_says_so(settings_of: MakeSettings) -> None:
    assert settings_of("algorithm=label_vectors").summary()["model"] == "mlp"
    per_class = settings_of("algorithm=label_vectors", "algorithm.networks=per_class")
    assert per_class.summary()["model"] is None


class CountingFactory:
    """A `ModelFactory` that counts what is asked of it."""

    def __init__(self) -> None:
        self.spec = DataSpec(1, 8, 8, 4, 30, (0.0,), (1.0,))
        self.calls = 0

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        self.calls += 1
        from sslbench.models import CNN

        return CNN(1, (8, 8), num_outputs or 4, width=4, dropout=0.0)


@pytest.mark.parametrize("more", [(), ("algorithm.networks=per_class",)], ids=["", "per_class"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_ignores_what_it_says_it_does(
    algorithm: str, more: tuple[str, ...], settings_of: MakeSettings
) -> None:
    if more and algorithm != "label_vectors":
        return
    settings = settings_of(f"algorithm={algorithm}", *more)
    check_nodes(settings)
    says = settings.algorithm.get("ignores", [])
    if algorithm == "label_vectors":
        settings.algorithm["code_length"] = 4  # of the small networks, for images of this size
    made = build(settings.algorithm, "algorithm")
    factory = CountingFactory()
    made.build(factory)
    assert (factory.calls == 0) == ("model" in says)
    reads_unlabelled = any(stage.views.unlabelled for stage in stages_of(made))
    assert (not reads_unlabelled) == ("batch.unlabelled" in says)


@pytest.mark.parametrize("ignored", [["seed"], "model", ["steps", "model"]])
def test_nothing_else_may_be_ignored(ignored: Any, settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=supervised")
    settings.algorithm["ignores"] = ignored
    with pytest.raises(UserError, match=r"algorithm\.ignores=.* must be a list"):
        check_nodes(settings)


# --- data files ---


def of_file(settings_of: MakeSettings, path: object, *more: str) -> Settings:
    return settings_of("dataset=npz", f"dataset.path={path}", "algorithm=supervised", *more)


def test_the_same_file_elsewhere_is_the_same_data(
    settings_of: MakeSettings, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy" / data.name
    copy.parent.mkdir()
    shutil.copy(data, copy)
    monkeypatch.chdir(tmp_path)
    settings = of_file(settings_of, data)
    for path in (copy, "mine/tiny.npz", "copy/../mine/tiny.npz", "./copy/tiny.npz"):
        assert of_file(settings_of, path).run_id == settings.run_id
    assert of_file(settings_of, "copy/../mine/tiny.npz").dataset["path"] == str(data)


def test_another_file_of_that_name_is_other_data(
    settings_of: MakeSettings, data: Path, tmp_path: Path
) -> None:
    before = of_file(settings_of, data)
    with np.load(data) as arrays:
        changed = {**arrays, "x_test": arrays["x_test"] ^ 1}
    np.savez_compressed(data, **changed)
    after = of_file(settings_of, data)
    assert after.run_id != before.run_id
    assert after.name == before.name
    assert after.summary()["dataset_sha256"] != before.summary()["dataset_sha256"]
    assert str(difference(after, before)).startswith("dataset.sha256 is ")


def test_a_file_is_read_once(settings_of: MakeSettings, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_file(settings_of, data)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("it was read again"))
    of_file(settings_of, data, "num_labels=30")


def test_a_path_that_no_file_can_have_is_left_to_the_loader(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name in ("a\0b/c", "\udcff\ud800/c", "circle/c", "x" * 5000, ""):
        path = absolute(f"{tmp_path}/{name}")
        assert path == os.path.normpath(f"{tmp_path}/{name}")
        assert content_hash(path) is None
    assert absolute("a/..") == str(Path.cwd())
    assert absolute("~no-such-user/x").endswith("/~no-such-user/x")


def test_a_folder_counts_by_its_path(settings_of: MakeSettings, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, again, other = (
        settings_of(f"+dataset.path={tmp_path / path}") for path in ("one", "other/../one", "other")
    )
    assert one.run_id == again.run_id
    assert one.identity()["dataset"]["path"] == str(tmp_path / "one")
    assert other.run_id != one.run_id


def test_a_data_set_is_called_after_its_file_or_as_typed(settings_of: MakeSettings, data: Path) -> None:
    assert settings_of("dataset=mnist").dataset_name == "mnist"
    assert of_file(settings_of, data).name == "supervised-tiny-30-s0"
    named = of_file(settings_of, data, "dataset.name=cells")
    assert (named.name, named.summary()["dataset"]) == ("supervised-cells-30-s0", "cells")
    assert named.identity() == of_file(settings_of, data).identity(), "a name is no other data"
    odd = of_file(settings_of, data, "dataset.name='../a b:c'")
    assert odd.directory().name.startswith("supervised-.._a_b_c-30-s0-")
    assert odd.directory().parent == of_file(settings_of, data).directory().parent


def test_ten_labels_a_class_by_default(settings_of: MakeSettings, data: Path) -> None:
    assert of_file(settings_of, data).num_labels == 30
    assert of_file(settings_of, data).run_id == of_file(settings_of, data, "num_labels=30").run_id


def test_a_loader_may_have_an_argument_called_name(settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=supervised")
    settings.dataset |= {"_target_": f"{__name__}.named", "name": "cells", "sha256": "0"}
    with pytest.raises(UserError, match="dataset: it is called cells"):
        build(settings.dataset, "dataset")


def named(name: str) -> None:
    raise ValueError(f"it is called {name}")


# --- runs of before ---


@pytest.mark.parametrize("name", ["digits", "npz"])
def test_runs_of_before_have_an_identity(name: str) -> None:
    settings = load(BEFORE / name / "config.yaml")
    found = settings.identity()
    assert found["precision"] == "fp32"
    assert found["split_seed"] == 0
    assert digest(found) == settings.run_id.rpartition("-")[2]
    assert found == identity_of(asdict(settings))
    if name == "npz":  # its content is not known
        assert found["dataset"]["path"] == "/data/tiny.npz"
        assert settings.dataset_name == "tiny"

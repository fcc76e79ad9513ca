from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sslbench.config.build import build, check_nodes
from sslbench.config.checks import check_values
from sslbench.config.schema import Settings, conf_dir
from sslbench.run.train import run

EXPERIMENTS = sorted(
    path.relative_to(conf_dir() / "experiment").with_suffix("").as_posix()
    for path in (conf_dir() / "experiment").rglob("*.yaml")
)
# What a preset would be too slow without, or what random images cannot fulfil.
FAST = {
    "seeds/svhn_grid": ["model.depth=10"],
    "seeds/label_vectors_mnist": ["algorithm.min_similarity=-1"],
    "seeds/label_vectors_mnist_faithful": ["algorithm.min_similarity=-1"],
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_composes_and_builds(name: str, settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(f"experiment={name}", small=False)
    check_values(settings)
    check_nodes(settings)
    build(settings.algorithm, "algorithm")
    build(settings.dataset["images"], "dataset.images")


@pytest.fixture(scope="module")
def random_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the size of MNIST's, which are all that a preset needs to run."""
    path = tmp_path_factory.mktemp("data") / "random.npz"
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 20)):
        arrays[f"x_{part}"] = draw.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_runs(
    name: str, settings_of: Callable[..., Settings], random_images: Path, tmp_path: Path
) -> None:
    data = [
        "dataset=npz",
        f"dataset.path={random_images}",
        "dataset.images.noise=0.1",
        "num_labels=100",
        "num_valid=20",
        "steps=4",
        "eval_every=4",
        "batch.labelled=4",
        "batch.unlabelled=4",
        "logger=none",
        f"run_dir={tmp_path / 'run'}",
    ]
    result = run(settings_of(f"experiment={name}", *data, *FAST.get(name, []), small=False))
    assert result["steps"] == 4
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_vat_preset_and_its_baseline_differ_in_the_method_alone(
    settings_of: Callable[..., Settings],
) -> None:
    vat = settings_of("experiment=seeds/vat_mnist", small=False).identity()
    supervised = settings_of("experiment=seeds/mnist_100_mlp", small=False).identity()
    for identity in (vat, supervised):
        identity.pop("algorithm")
        identity.pop("loss", None)
        identity["batch"].pop("unlabelled", None)  # supervised draws none
    assert vat == supervised
    assert vat["steps"] == 24_000

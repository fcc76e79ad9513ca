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
    **{f"fixmatch/cifar10_{labels}": ["model.depth=10"] for labels in (40, 250, 4000)},
    **{f"fixmatch/svhn_{labels}": ["model.depth=10", "~dataset.extra"] for labels in (40, 250, 1000)},
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


@pytest.mark.parametrize(
    ("name", "labels", "valid", "extra"),
    [("cifar10", labels, 5000, None) for labels in (40, 250, 4000)]
    + [("svhn", labels, 7326, True) for labels in (40, 250, 1000)],
)
def test_the_protocol_of_fixmatch(
    name: str, labels: int, valid: int, extra: bool | None, settings_of: Callable[..., Settings]
) -> None:
    """The numbers of its paper (arXiv:2001.07685, section 4) and of its authors' code, fixmatch.py."""
    settings = settings_of(f"experiment=fixmatch/{name}_{labels}", small=False)
    assert settings.dataset_name == name
    assert (settings.num_labels, settings.num_valid) == (labels, valid)
    assert settings.dataset.get("extra") == extra
    images = settings.dataset["images"]
    assert (images["mean"], images["std"], images["crop"]) == ([0.5], [0.5], 4)
    assert images["flip"] == (name == "cifar10")
    assert settings.steps == 2**20
    assert settings.eval_every * settings.batch.labelled == 2**16
    assert settings.batch.unlabelled == 7 * settings.batch.labelled == 448
    assert settings.labelled_in_unlabelled
    assert (settings.model["depth"], settings.model["width"], settings.model["bn_momentum"]) == (28, 2, 0.001)
    optimizer = settings.optimizer
    assert optimizer["_target_"] == "torch.optim.SGD"
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.03, 0.9, 5e-4)
    assert optimizer["nesterov"]
    assert settings.weight_decay_on == "kernels"
    schedule = build(settings.schedule, "schedule")
    assert schedule(2**19, 2**20) == pytest.approx(np.cos(7 * np.pi / 32))
    assert settings.algorithm["_target_"].endswith("FixMatch")
    assert settings.algorithm["joint_batch"]
    assert (settings.algorithm["ema"], settings.algorithm["weighting"]["threshold"]) == (0.999, 0.95)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("fixmatch/")])
def test_the_supervised_baseline_of_a_preset_of_fixmatch(
    name: str, settings_of: Callable[..., Settings]
) -> None:
    words = ["algorithm=supervised", "~algorithm.ema", "~algorithm.joint_batch", "average=ema"]
    settings = settings_of(f"experiment={name}", *words, small=False)
    check_values(settings)
    check_nodes(settings)
    assert settings.algorithm["_target_"].endswith("Supervised")
    assert settings.average["decay"] == 0.999

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslbench.building import build, check_nodes
from sslbench.config import Settings, check_values, conf_dir

EXPERIMENTS = sorted(
    path.relative_to(conf_dir() / "experiment").with_suffix("").as_posix()
    for path in (conf_dir() / "experiment").rglob("*.yaml")
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_composes_and_builds(name: str, settings_of: Callable[..., Settings]) -> None:
    settings = settings_of(f"experiment={name}")
    check_values(settings)
    check_nodes(settings)
    build(settings.algorithm, "algorithm")
    build(settings.dataset["images"], "dataset.images")


def test_vat_preset_and_its_baseline_differ_in_the_method_alone(
    settings_of: Callable[..., Settings],
) -> None:
    vat = settings_of("experiment=seeds/vat_mnist", small=False).identity()
    supervised = settings_of("experiment=seeds/mnist_100_mlp", small=False).identity()
    for identity in (vat, supervised):
        identity.pop("algorithm")
        identity.pop("loss", None)
    assert vat == supervised
    assert vat["steps"] == 24_000

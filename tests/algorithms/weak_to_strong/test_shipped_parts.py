"""The parts as the yaml files put them together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.predicted import predicted
from sslbench.config.build import build
from sslbench.config.schema import conf_dir, register


def part(name: str, key: str) -> Any:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=[f"algorithm={name}"])
    node = OmegaConf.to_container(composed.algorithm, resolve=True)
    assert isinstance(node, dict)
    return build(node[key], f"algorithm.{key}")


def test_uda_takes_the_threshold_before_sharpening() -> None:
    """0.7 becomes more than 0.8 by sharpening, and still does not count."""
    probabilities = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.85, 0.05, 0.05, 0.05]], dtype=torch.float64)
    predictions = predicted(probabilities.log())
    targets = part("uda", "targets")(predictions)
    assert (targets.amax(dim=1) > 0.95).all()
    expected = probabilities**2.5 / (probabilities**2.5).sum(dim=1, keepdim=True)
    torch.testing.assert_close(targets, expected)
    assert part("uda", "weighting")(predictions).tolist() == [0, 1]


@pytest.mark.parametrize(("name", "aligned"), [("debiaspl", True), ("refixmatch", False)])
def test_hard_targets_are_of_the_prediction_that_the_method_names(name: str, aligned: bool) -> None:
    weak = torch.tensor([[2.0, 1, 0]], dtype=torch.float64)
    predictions = predicted(weak, aligned=torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64))
    expected = [0, 0, 1] if aligned else [1, 0, 0]
    assert part(name, "targets")(predictions).tolist() == [expected]


@pytest.mark.parametrize("name", ["fullmatch", "shrinkmatch"])
def test_the_extra_term_has_the_threshold_of_the_pseudo_labels(name: str) -> None:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [f"algorithm={name}", "algorithm.weighting.threshold=0.7"]
        algorithm = compose("config", overrides=words).algorithm
        assert algorithm.extra.threshold == 0.7

"""Every algorithm runs to a result on digits with nothing but its name; here in short form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.shipped import ALGORITHMS
from sslbench.config.schema import Settings
from sslbench.run.train import run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_result_with_its_defaults(
    name: str, settings_of: Callable[..., Settings]
) -> None:
    """Thresholds included: a network that has learnt almost nothing must not leave a stage without images."""
    settings = settings_of(f"algorithm={name}")
    assert settings.choices["dataset"] == "digits"
    result = run(settings)
    assert result["algorithm"] == name
    assert 0 < result["test_acc"] <= 1
    assert 0 < result["val_acc_best"] <= 1
    pseudo_labels = result["metrics_last"].get("diagnostic/pseudo_labels")
    assert pseudo_labels is None or pseudo_labels >= 100

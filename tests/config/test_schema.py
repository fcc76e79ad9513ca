from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslbench.config.build import build, check_nodes
from sslbench.config.saved import load, save
from sslbench.config.schema import Settings
from sslbench.losses import ce, js, kl, l1, mse

MakeSettings = Callable[..., Settings]
DISTANCES = {"mse": mse, "l1": l1, "kl": kl, "js": js, "ce": ce}


@pytest.mark.parametrize(
    ("overrides", "weight"),
    [
        (("algorithm=pi_model",), 20.0),
        (("algorithm=pi_model", "loss=mse"), 20.0),
        (("algorithm=pi_model", "loss=l1"), 6.0),
        (("algorithm=pi_model", "loss=kl"), 1.0),
        (("algorithm=pi_model", "loss=ce"), 1.0),
        (("algorithm=pi_model", "loss=js"), 5.0),
        (("algorithm=mean_teacher",), 8.0),
        (("algorithm=mean_teacher", "loss=kl"), 0.4),
        (("algorithm=ict",), 100.0),
        (("algorithm=ict", "loss=js"), 25.0),
        (("algorithm=mixmatch",), 75.0),
        (("algorithm=mixmatch", "loss=l1"), 22.5),
        (("algorithm=vat",), 1.0),
        (("algorithm=vat", "loss=mse"), 20.0),
        (("algorithm=pseudo_label", "loss=kl"), 1.0),
    ],
)
def test_default_weight_is_scaled_to_the_distance(
    overrides: tuple[str, ...], weight: float, settings_of: MakeSettings
) -> None:
    assert settings_of(*overrides).algorithm["weight"] == pytest.approx(weight, rel=1e-12)


@pytest.mark.parametrize("loss", DISTANCES)
@pytest.mark.parametrize("algorithm", ["pi_model", "vat"])
def test_an_explicit_weight_is_used_as_given(algorithm: str, loss: str, settings_of: MakeSettings) -> None:
    settings = settings_of(f"algorithm={algorithm}", f"loss={loss}", "algorithm.weight=3.0")
    assert settings.algorithm["weight"] == 3.0


def test_the_default_weight_and_the_same_one_typed_are_one_run(settings_of: MakeSettings) -> None:
    implied = settings_of("algorithm=pi_model", "loss=js")
    typed = settings_of("algorithm=pi_model", "loss=js", "algorithm.weight=5.0")
    assert implied.run_id == typed.run_id


@pytest.mark.parametrize("name", ["loss", "algorithm"])
def test_typical_is_no_part_of_the_identity(name: str, settings_of: MakeSettings) -> None:
    identity = settings_of("algorithm=pi_model", "loss=mse").identity()
    node = identity["loss"] if name == "loss" else identity["algorithm"]["distance"]
    assert node == {"_target_": "sslbench.losses.mse", "_partial_": True}
    assert "typical" not in str(identity)


def test_typical_of_a_distance_does_not_change_the_run(settings_of: MakeSettings) -> None:
    chosen = ("algorithm=pi_model", "loss=mse", "algorithm.weight=20.0")
    plain, other = settings_of(*chosen), settings_of(*chosen, "loss.typical.unit=0.5")
    assert other.loss["typical"] != plain.loss["typical"]
    assert (other.run_id, other.group) == (plain.run_id, plain.group)
    # Where the weight is not given it does, by way of the weight.
    scaled = settings_of(*chosen[:2], "loss.typical.unit=0.5")
    assert scaled.algorithm["weight"] == 10.0
    assert scaled.run_id != plain.run_id


@pytest.mark.parametrize("loss", DISTANCES)
def test_typical_never_reaches_the_distance(loss: str, settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=pi_model", f"loss={loss}")
    assert "typical" in settings.loss
    check_nodes(settings)
    distance = build(settings.loss, "loss")
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3), torch.rand(4, 3).softmax(1)
    torch.testing.assert_close(distance(logits, target), DISTANCES[loss](logits, target))
    inner = build(settings.algorithm, "algorithm")._distance
    torch.testing.assert_close(inner(logits, target), DISTANCES[loss](logits, target))


def test_a_saved_run_keeps_its_weight_and_its_id(tmp_path: Path, settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=mean_teacher", "loss=js")
    path = tmp_path / "config.yaml"
    path.write_text(save(settings))
    again = load(path)
    assert again.algorithm["weight"] == 2.0
    assert again.run_id == settings.run_id


@pytest.mark.parametrize(
    "text", ["${seed}", "\\${seed}", "\\\\${", "x${oc.env:HOME}y", "'${a}'", "$", "a\nb\x1b", "\\"]
)
def test_text_is_saved_as_it_is(text: str, settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    settings.choices["model"] = settings.logger["tags"] = text
    settings.overrides.append(text)
    settings.dataset["facts"] = {"names": [text]}
    (tmp_path / "config.yaml").write_text(save(settings), encoding="utf-8")
    assert load(tmp_path / "config.yaml") == settings

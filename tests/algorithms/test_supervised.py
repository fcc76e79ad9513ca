from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sslbench.algorithms.supervised import Supervised
from sslbench.config.build import build, check_nodes
from sslbench.config.identity import digest
from sslbench.config.schema import Settings
from sslbench.core import Batch, Progress
from sslbench.errors import UserError

START = Progress(torch.tensor(0.0), 8)


def example() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    images, targets = torch.randn(5, 1, 3, 4), torch.tensor([0, 3, 1, 2, 2])
    return model, Batch((images,), targets, (), torch.arange(5), torch.empty(0, dtype=torch.int64))


def test_loss_is_cross_entropy() -> None:
    model, batch = example()
    expected = nn.functional.cross_entropy(model(batch.labelled[0]), batch.targets)
    torch.testing.assert_close(Supervised().step({"student": model}, batch, START).losses["main"], expected)


def test_mixed_labels_are_learnt_from_mixed_images() -> None:
    def neighbours(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.equal(targets.argmax(dim=1), batch.targets)
        return images.roll(1, dims=0), 0.75 * targets + 0.25 * targets.roll(1, dims=0)

    model, batch = example()
    found = Supervised(mixing=neighbours).step({"student": model}, batch, START).losses["main"]
    images, targets = neighbours(batch.labelled[0], torch.eye(4)[batch.targets])
    expected = nn.functional.cross_entropy(model(images), targets)
    torch.testing.assert_close(found, expected)
    assert found.requires_grad


def test_views(settings_of: Callable[..., Settings]) -> None:
    assert Supervised().views.labelled == ("weak",)
    for name, is_strong in (("supervised_strong", True), ("supervised_mixup", False)):
        views = build(settings_of(f"algorithm={name}").algorithm, "algorithm").views
        assert isinstance(views.labelled[0], str) != is_strong
        assert len(views.labelled) == 1
        assert views.unlabelled == ()


def test_null_options_make_no_other_run(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of("algorithm=supervised")
    before = settings.run_id
    settings.algorithm |= {"strong": None, "mixing": None}
    assert settings.run_id == before
    names = ("supervised", "supervised_strong", "supervised_mixup", "supervised_cutmix")
    assert len({digest(settings_of(f"algorithm={name}").identity()) for name in names}) == 4


def test_a_word_is_no_view(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of("algorithm=supervised", "+algorithm.strong=randaugment")
    with pytest.raises(UserError, match=r"^algorithm.strong=randaugment: it takes .*StrongView"):
        check_nodes(settings)

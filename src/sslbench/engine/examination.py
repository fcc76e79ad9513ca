"""What a method may see of the data between its stages, and what its numbers are taken from."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages
from sslbench.engine.evaluation import BATCH_SIZE, EvaluationSet, evaluating


@final
class VisibleImages:
    """The `sslbench.core.TrainingImages` of a run. It holds no labels, so that none can be read by mistake.

    Args:
        images: the training images.
        split: which of them are labelled and unlabelled.
        device: of the images.
    """

    def __init__(self, images: DeviceImages, split: Split, device: torch.device) -> None:
        self.labelled = torch.from_numpy(split.labelled).to(device)
        self.unlabelled = torch.from_numpy(split.unlabelled).to(device)
        self._images = images

    def predict(self, model: nn.Module, index: Tensor) -> Tensor:
        """See `sslbench.core.TrainingImages.predict`."""
        with evaluating(model):
            return torch.cat([model(self._images.clean(part)) for part in torch.split(index, BATCH_SIZE)])


@final
class LabelledParts:
    """The data by parts, with every label: the `sslbench.core.Examination` of a run.

    Attributes:
        targets: class indices of the training images, int64 ``[N]``.
        valid: the validation set.
        test: the test set.
        visible: the training images as a method may see them between stages.

    Args:
        images: the training images.
        targets: their class indices, int64 ``[N]``, on the training device.
        split: which of them are labelled and unlabelled.
        valid: the validation set.
        test: the test set.
    """

    def __init__(
        self,
        images: DeviceImages,
        targets: Tensor,
        split: Split,
        valid: EvaluationSet,
        test: EvaluationSet,
    ) -> None:
        self.targets, self.valid, self.test = targets, valid, test
        self.visible = VisibleImages(images, split, targets.device)
        parts = {"labelled": self.visible.labelled, "unlabelled": self.visible.unlabelled}
        self._parts = {
            name: EvaluationSet(images, index, targets[index], valid.num_classes)
            for name, index in parts.items()
        } | {"val": valid, "test": test}

    def mean(self, part: str, model: nn.Module, score: Callable[[Tensor, Tensor], Tensor]) -> float:
        """See `sslbench.core.Examination.mean`."""
        data = self._parts[part]
        batches = zip(*(torch.split(t, BATCH_SIZE) for t in (data.index, data.targets)), strict=True)
        with evaluating(model):
            scores = [score(model(data.images.clean(index)), targets) for index, targets in batches]
        return float(torch.cat(scores).double().mean())

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
class LabelledParts:
    """The data by parts: the `TrainingImages` and the `Examination` of a run.

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
        device = targets.device
        self.labelled = torch.from_numpy(split.labelled).to(device)
        self.unlabelled = torch.from_numpy(split.unlabelled).to(device)
        self.targets, self.valid, self.test = targets, valid, test
        self._images = images
        parts = {"labelled": self.labelled, "unlabelled": self.unlabelled}
        self._parts = {
            name: EvaluationSet(images, index, targets[index], valid.num_classes)
            for name, index in parts.items()
        } | {"val": valid, "test": test}

    def predict(self, model: nn.Module, index: Tensor) -> Tensor:
        """See `sslbench.core.TrainingImages.predict`."""
        with evaluating(model):
            return torch.cat([model(self._images.clean(part)) for part in torch.split(index, BATCH_SIZE)])

    def mean(self, part: str, model: nn.Module, score: Callable[[Tensor, Tensor], Tensor]) -> float:
        """See `sslbench.core.Examination.mean`."""
        data = self._parts[part]
        batches = zip(*(torch.split(t, BATCH_SIZE) for t in (data.index, data.targets)), strict=True)
        with evaluating(model):
            scores = [score(model(data.images.clean(index)), targets) for index, targets in batches]
        return float(torch.cat(scores).double().mean())

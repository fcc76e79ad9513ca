"""What an algorithm may read of the data between its stages, and for its diagnostics."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages
from sslbench.engine.evaluation import BATCH_SIZE, EvaluationSet, evaluating


@final
class TrainingImages:
    """The `sslbench.core.TrainingImages` of a run, without labels, so that none can be read by mistake."""

    def __init__(self, images: DeviceImages, split: Split, device: torch.device) -> None:
        self.unlabelled = torch.from_numpy(split.unlabelled).to(device)
        self._images = images

    def predict(self, model: nn.Module, index: Tensor) -> Tensor:
        with evaluating(model):
            return torch.cat([model(self._images.clean(part)) for part in torch.split(index, BATCH_SIZE)])


@final
class DiagnosticData:
    """The `sslbench.core.DiagnosticData` of a run: all its data by parts, with every label.

    Attributes:
        targets: class indices of the training images, int64 ``[N]``, on the training device.
        training: these images as an algorithm may read them between stages, without labels.
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
        self.training = TrainingImages(images, split, targets.device)
        labelled = torch.from_numpy(split.labelled).to(targets.device)
        parts = {"labelled": labelled, "unlabelled": self.training.unlabelled}
        self._parts = {
            name: EvaluationSet(images, index, targets[index], valid.num_classes)
            for name, index in parts.items()
        } | {"val": valid, "test": test}

    def mean(self, part: str, model: nn.Module, score: Callable[[Tensor, Tensor], Tensor]) -> float:
        data = self._parts[part]
        batches = zip(*(torch.split(t, BATCH_SIZE) for t in (data.index, data.targets)), strict=True)
        with evaluating(model):
            scores = [score(model(data.images.clean(index)), targets) for index, targets in batches]
        return float(torch.cat(scores).double().mean())

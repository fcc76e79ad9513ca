"""How good the pseudo-labels are, for people to see: nothing is trained or selected on it."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from sslbench.core import PseudoLabelled


@final
class PseudoLabelMeter:
    """Compares pseudo-labels with the true labels, on the device; read only when they are logged.

    Args:
        targets: class indices of the training set, int64 ``[N]``, on the training device: of all images,
            which nothing else in a step may see.
        labelled: positions of the labelled images, int64 ``[L]``, on the device.
        num_classes: K.
    """

    def __init__(self, targets: Tensor, labelled: Tensor, num_classes: int) -> None:
        self._targets = targets
        self._classes = torch.arange(num_classes, device=targets.device)
        self._labelled_shares = self._one_hot(targets[labelled]).mean(dim=0)
        # Of all pseudo-labels: how many, and how many are right; then the same weighted. Behind them, the
        # sum of the weighted distributions, by class.
        self._sums = torch.zeros(4 + num_classes, dtype=torch.float64, device=targets.device)

    def _one_hot(self, classes: Tensor) -> Tensor:
        return (classes[:, None] == self._classes).double()

    def add(self, pseudo_labels: PseudoLabelled, index: Tensor) -> None:
        """Take in those of the images at `index` ``[U]``; never waits for the device."""
        probabilities, weights = pseudo_labels.probabilities.double(), pseudo_labels.weights.double()
        right = (probabilities.argmax(dim=1) == self._targets[index]).double()
        by_image = torch.stack([torch.ones_like(right), right, weights, weights * right], dim=1)
        self._sums += torch.cat([by_image, weights[:, None] * probabilities], dim=1).sum(dim=0)

    def means(self) -> dict[str, float]:
        """Over all images since it was cleared, by name; each is absent where there is nothing to divide by.

        - accuracy: share of the pseudo-labels whose most probable class is right.
        - coverage: mean weight, which for weights of 0 and 1 is the share that is accepted.
        - accepted_accuracy: as accuracy, each counted by its weight.
        - class_distance: between the mean distribution of the pseudo-labels, by weight, and that of the
          labels; the total variation, from 0 to 1.
        """
        count, right, weight, weighted_right, *by_class = self._sums.tolist()
        found: dict[str, float] = {}
        if count:
            found |= {"accuracy": right / count, "coverage": weight / count}
        if weight:
            shares = zip(by_class, self._labelled_shares.tolist(), strict=True)
            found["accepted_accuracy"] = weighted_right / weight
            found["class_distance"] = sum(abs(mass / weight - share) for mass, share in shares) / 2
        return {f"pseudo_label/{name}": value for name, value in found.items()}

    def clear(self) -> None:
        """Begin anew."""
        self._sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """All that was taken in."""
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self._sums.copy_(state["sums"])

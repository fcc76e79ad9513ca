"""What the term on unlabelled images would be on the labelled ones: subtracted, it removes a bias."""

from dataclasses import replace
from typing import cast, final

from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions, Stateful, Targets, Weighting
from sslbench.errors import UserError
from sslbench.losses import ce


@final
class LabelledCorrection(nn.Module):
    """The term of FixMatch on labelled images, without their labels (DeFixMatch, arXiv:2203.07512).

    ``mean m(x) CE(f(strong x), target(f(weak x)))`` over labelled x, with a factor of -1. Labelled images
    come from the same distribution as unlabelled ones, so that the two terms cancel in expectation and the
    whole loss is an unbiased estimate of that of full supervision. It may be below 0. An alignment of the
    unlabelled predictions does not reach the labelled ones.

    The formula is checked against the authors' code (github.com/HugoSchmutz/DeFixmatch).

    Args:
        weighting: as that of the unlabelled images.
        targets: likewise.

    Raises:
        ValueError: a part has state, which would be about other images.
        UserError: from the first step: labelled images have no strong view.
    """

    name = "labelled_correction"
    weight = -1.0
    needs_features = False

    def __init__(self, weighting: Weighting, targets: Targets) -> None:
        super().__init__()
        for name, part in {"weighting": weighting, "targets": targets}.items():
            if isinstance(part, Stateful):
                raise ValueError(f"{name} keeps a state about unlabelled images: choose one without")
        self._weighting, self._targets = cast("nn.Module", weighting), cast("nn.Module", targets)

    def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        strong = predictions.labelled_strong
        if strong is None:
            raise UserError(
                "algorithm.labelled_strong must be true: the labelled correction needs strong views"
            )
        weak = predictions.labelled.detach()
        probabilities = weak.softmax(dim=1)
        # Parts without a state read none of the other members.
        labelled = replace(
            predictions, weak=weak, strong=strong, probabilities=probabilities, aligned=probabilities
        )
        of_labelled: Tensor = self._weighting(labelled)
        return (of_labelled * ce(strong, self._targets(labelled))).mean()

"""Self-training: a model makes pseudo-labels of unlabelled images, and a fresh one learns from them."""

import string
from collections.abc import Mapping
from typing import cast, final

from torch import Tensor, nn

from sslbench.algorithms.outputs import plain_sum
from sslbench.checks import check_probability
from sslbench.core import (
    Batch,
    DiagnosticData,
    ModelFactory,
    Progress,
    Stage,
    StepOutput,
    TrainingImages,
    Views,
)
from sslbench.errors import UserError
from sslbench.losses import ce, one_hot
from sslbench.losses.classification import cross_entropy
from sslbench.models.targets import PseudoLabels


@final
class SelfTraining:
    """Scudder 1965, IEEE Transactions on Information Theory 11, 363-371.

    The rounds, the threshold and the soft labels are those of Noisy Student (Xie et al. 2020,
    arXiv:1911.04252).

    model_a is trained on the labelled images alone. At its end, its predictions on the clean unlabelled
    images become their pseudo-labels, from which model_b is trained, fresh; with more rounds model_b makes
    new pseudo-labels for model_c, and so on. All stages are equally long. The last model is the result; all
    are reported on the labelled images, the unlabelled ones and the test set.

    Deviations from Noisy Student: by default a later model sees no true label, so that its accuracy on the
    labelled images shows what it learnt from pseudo-labels alone (`with_labelled` adds them); no model is
    larger than the one before; the only noise is the data set's augmentation and the model's dropout.

    Args:
        rounds: how often pseudo-labels are made, 1 to 25.
        threshold: least probability of the class that an image needs to take part, in [0, 1].
        soft: whether the whole predicted distribution is the target, in place of its most probable class.
        with_labelled: whether later models learn from the labelled images too.
    """

    def __init__(self, rounds: int, threshold: float, soft: bool, with_labelled: bool) -> None:
        if not 1 <= rounds <= 25:
            raise ValueError(f"rounds={rounds} must be from 1 to 25")
        check_probability(threshold=threshold)
        self._threshold, self._soft, self._with_labelled = threshold, soft, with_labelled
        self._names = tuple(f"model_{letter}" for letter in string.ascii_lowercase[: rounds + 1])
        later = Views(labelled=("weak",) if with_labelled else (), unlabelled=("weak",))
        self.stages = tuple(
            Stage(later if number else Views(labelled=("weak",)), (name,), self._names[number::-1])
            for number, name in enumerate(self._names)
        )

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """The models, each fresh, and the pseudo-labels that they make."""
        models = {name: new_model() for name in self._names}
        return {**models, "labels": PseudoLabels(new_model.spec.num_train, new_model.spec.num_classes)}

    def begin_stage(self, models: Mapping[str, nn.Module], stage: int, images: TrainingImages) -> Tensor:
        """Make pseudo-labels with the model before; the stage has the images above the threshold."""
        probabilities = images.predict(models[self._names[stage - 1]], images.unlabelled).softmax(dim=1)
        confidence, classes = probabilities.max(dim=1)
        sure = confidence >= self._threshold
        if not sure.any():
            raise UserError(
                f"no unlabelled image reached algorithm.threshold={self._threshold} (the most certain has "
                f"{confidence.max():.3f}): lower it, or train longer with steps"
            )
        index = images.unlabelled[sure]
        targets = probabilities if self._soft else one_hot(classes, probabilities.shape[1])
        cast("PseudoLabels", models["labels"]).assign(index, targets[sure])
        return index

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        model = models[self._names[progress.stage]]
        terms, pseudo_labels = {}, None
        if progress.stage:
            pseudo_labels = models["labels"](batch.unlabelled_index)
            terms["pseudo"] = ce(model(batch.unlabelled[0]), pseudo_labels).mean()
        if not progress.stage or self._with_labelled:
            terms["supervised"] = cross_entropy(model(batch.labelled[0]), batch.targets)
        return plain_sum(terms, pseudo_labels)

    def diagnose(self, models: Mapping[str, nn.Module], stage: int, data: DiagnosticData) -> dict[str, float]:
        """Accuracy of each model so far on labelled and unlabelled images, and of the pseudo-labels."""
        metrics = {
            f"{part}/{name}_acc": data.mean(part, models[name], _is_right)
            for part in ("labelled", "unlabelled")
            for name in self._names[: stage + 1]
        }
        if stage:
            metrics |= cast("PseudoLabels", models["labels"]).diagnose(data.targets)
        return metrics


def _is_right(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.argmax(dim=1) == targets

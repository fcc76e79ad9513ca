"""Label vectors: networks learn to point at one fixed vector a class, in two rounds."""

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from sslbench.algorithms.outputs import plain_sum
from sslbench.checks import check_choice, check_counts, check_positive
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
from sslbench.losses import one_hot
from sslbench.models.label_vector_networks import ClassNetworks, LabelVectorNetworks, codebook
from sslbench.models.targets import PseudoLabels

NETWORKS = ("shared", "per_class")
_ROUNDS = ("round_1", "round_2")
_LOSS_DECAY = 0.98  # of the running loss that selects a restart: about the last 50 steps


@final
class LabelVectors:
    """Two rounds of learning to point at label vectors; from no paper, see docs/design/label-vectors.md.

    Round 1 learns from the labelled images. It then predicts the class of every unlabelled image, the one
    with the greatest cosine similarity. Up to `num_per_class` images of each predicted class get it as their
    pseudo-label: the most similar ones, or, with a `min_similarity`, a random draw of those that reach it.
    Round 2 trains fresh networks on these images and the labelled ones. Each round trains several restarts
    side by side, and the one with the lowest training loss predicts.

    With `negatives`, the loss is the cross-entropy over the similarities of all classes, divided by the
    temperature. Without, it is ``1 - cosine`` with the true class's vector alone: then nothing pushes other
    classes away. With ``networks=per_class`` there is one small network for each class, which is compared
    with its own vector. Otherwise one network of the group `model`, with `code_length` outputs, serves all.

    The loss is the mean over the restarts. They share no weights, so with an optimizer whose step does not
    depend on the gradient's scale (Adam's, but for epsilon) each is trained as it would be alone.

    Args:
        networks: ``shared`` or ``per_class``.
        negatives: whether other classes' vectors are pushed away.
        code_length: numbers in a label vector.
        max_cosine: largest similarity of two label vectors, above 0, at most 1.
        codebook_seed: of the draw of the label vectors, 0 to 2**32 - 1.
        temperature: of the similarities in the loss with negatives, and in the reported probabilities.
        restarts: of each round.
        min_similarity: least similarity of an image that gets a pseudo-label, in [-1, 1]; None for none.
        num_per_class: images of each predicted class that get a pseudo-label, at most.
    """

    stages = (
        Stage(Views(labelled=("weak",)), ("round_1",), ("round_1",)),
        Stage(Views(("weak",), ("weak",)), ("round_2",), ("round_2", "round_1")),
    )

    def __init__(
        self,
        networks: str,
        negatives: bool,
        code_length: int,
        max_cosine: float,
        codebook_seed: int,
        temperature: float,
        restarts: int,
        min_similarity: float | None,
        num_per_class: int,
    ) -> None:
        check_choice(NETWORKS, networks=networks)
        if not 0 < max_cosine <= 1:
            raise ValueError(f"max_cosine={max_cosine} must be above 0 and at most 1")
        if not 0 <= codebook_seed < 2**32:
            raise ValueError(f"codebook_seed={codebook_seed} must be from 0 to 2**32 - 1")
        check_positive(temperature=temperature)
        if min_similarity is not None and not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity={min_similarity} must be from -1 to 1")
        check_counts(code_length=code_length, restarts=restarts, num_per_class=num_per_class)
        self._per_class, self._negatives = networks == "per_class", negatives
        self._code_length, self._max_cosine = code_length, max_cosine
        self._codebook_seed, self._temperature, self._restarts = codebook_seed, temperature, restarts
        self._min_similarity, self._num_per_class = min_similarity, num_per_class

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        spec = new_model.spec
        vectors = codebook(spec.num_classes, self._code_length, self._max_cosine, self._codebook_seed)

        def network() -> nn.Module:
            if not self._per_class:
                return new_model(self._code_length)
            networks = ClassNetworks(spec.channels, (spec.height, spec.width), spec.num_classes)
            if networks.code_length != self._code_length:
                raise ValueError(
                    f"networks=per_class give {networks.code_length} numbers for images of "
                    f"{spec.height}x{spec.width} pixels: set code_length={networks.code_length}"
                )
            return networks

        rounds = {
            name: LabelVectorNetworks(network, self._restarts, vectors, self._temperature) for name in _ROUNDS
        }
        return {**rounds, "labels": PseudoLabels(spec.num_train, spec.num_classes)}

    def begin_stage(self, models: Mapping[str, nn.Module], stage: int, images: TrainingImages) -> Tensor:
        """Let round 1 give pseudo-labels."""
        similarity = images.predict(models["round_1"], images.unlabelled) * self._temperature
        num_classes = similarity.shape[1]
        best, classes = similarity.max(dim=1)
        selected = torch.cat([self._select(best, classes == k) for k in range(num_classes)]).sort().values
        if not len(selected):
            raise UserError(
                f"no unlabelled image reached algorithm.min_similarity={self._min_similarity} (the nearest "
                f"has {best.max():.3f}): lower it, train longer with steps, or leave it out with "
                f"algorithm.min_similarity=null"
            )
        index = images.unlabelled[selected]
        cast("PseudoLabels", models["labels"]).assign(index, one_hot(classes[selected], num_classes))
        return index

    def _select(self, similarity: Tensor, candidate: Tensor) -> Tensor:
        """Positions of the candidates that get a pseudo-label, at most `num_per_class`."""
        if self._min_similarity is None:
            candidates = torch.nonzero(candidate)[:, 0]
            order = similarity[candidates].argsort(descending=True)
        else:
            candidates = torch.nonzero(candidate & (similarity >= self._min_similarity))[:, 0]
            order = torch.randperm(len(candidates)).to(candidates.device)
        return candidates[order[: self._num_per_class]]

    def _losses(self, networks: LabelVectorNetworks, images: Tensor, targets: Tensor) -> Tensor:
        """Of each image in each restart, ``[R, B]``; `targets` are one-hot, ``[B, K]``."""
        similarities = networks.similarities(images)
        if self._negatives:
            return -(log_softmax(similarities / self._temperature, dim=2) * targets).sum(dim=2)
        return 1 - (similarities * targets).sum(dim=2)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        networks = cast("LabelVectorNetworks", models[_ROUNDS[progress.stage]])
        targets = one_hot(batch.targets, len(networks.vectors))
        losses = self._losses(networks, batch.labelled[0], targets)
        terms, pseudo_labels = {"supervised": losses.mean()}, None
        if progress.stage:
            pseudo_labels = models["labels"](batch.unlabelled_index)
            pseudo = self._losses(networks, batch.unlabelled[0], pseudo_labels)
            terms["pseudo"] = pseudo.mean()
            losses, targets = torch.cat([losses, pseudo], dim=1), torch.cat([targets, pseudo_labels])
        networks.track_loss(losses, targets, _LOSS_DECAY)
        return plain_sum(terms, pseudo_labels)

    def diagnose(self, models: Mapping[str, nn.Module], stage: int, data: DiagnosticData) -> dict[str, float]:
        """Accuracy of the pseudo-labels, and the score that a reader of the true labels would compute.

        ``diagnostic/label_informed_acc`` compares the output of each class's network with the label vector of
        the image's *true* class: an image counts as right if the true class's own network is the nearest.
        That score reads the answer off the label. It is reported to show how far from the truth it lies.
        """
        metrics = {}
        networks = cast("LabelVectorNetworks", models[_ROUNDS[stage]])
        if self._per_class:

            def informed(codes: Tensor, targets: Tensor) -> Tensor:
                similarity = (codes * networks.vectors[targets, None]).sum(dim=2)
                return similarity.argmax(dim=1) == targets

            metrics["diagnostic/label_informed_acc"] = data.mean("test", _Codes(networks), informed)
        if stage:
            metrics |= cast("PseudoLabels", models["labels"]).diagnose(data.targets)
        return metrics


@final
class _Codes(nn.Module):
    """Images to the outputs of each class's network, ``[B, K, L]``."""

    def __init__(self, networks: LabelVectorNetworks) -> None:
        super().__init__()
        self._networks = networks

    def forward(self, x: Tensor) -> Tensor:
        return self._networks.select_best(self._networks.codes(x))

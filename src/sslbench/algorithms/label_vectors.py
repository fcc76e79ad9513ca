"""Label vectors: networks learn to point at one fixed vector a class, in two rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from sslbench.core import Batch, Examination, ModelFactory, Progress, Stage, StepOutput, TrainingImages, Views
from sslbench.errors import UserError
from sslbench.models.label_vector_networks import ClassNetworks, LabelVectorNetworks, codebook
from sslbench.models.targets import AssignedTargets

NETWORKS = ("shared", "per_class")
_ROUNDS = ("round_1", "round_2")
_LOSS_DECAY = 0.98  # of the running loss by which a try is chosen: about the last 50 steps


@final
class LabelVectors:
    """Two rounds of learning to point at label vectors; from no paper, see docs/design/label-vectors.md.

    Round 1 learns from the labelled images. Every unlabelled image whose best cosine similarity reaches
    `min_similarity` then gets that class, and round 2 trains fresh networks on up to `num_per_class` of them
    a class, drawn at random, and on the labelled images. In each round several tries are trained side by
    side, and the one with the lowest training loss predicts: the class of the greatest similarity.

    With `negatives`, the loss is the cross-entropy over the similarities of all classes, divided by the
    temperature. Without, it is ``1 - cosine`` with the true class's vector alone: then nothing pushes other
    classes away. With ``networks=per_class`` there is one small network a class, compared with its own
    vector, else one network of the group `model` for all classes, with `code_length` outputs.

    The loss is the mean over the tries. They share no weights, so with an optimizer whose step does not
    depend on the gradient's scale (Adam's, but for epsilon) each is trained as it would be alone.

    Args:
        networks: ``shared`` or ``per_class``.
        negatives: whether other classes' vectors are pushed away.
        code_length: numbers in a label vector.
        max_cosine: largest similarity of two label vectors, above 0, at most 1.
        codebook_seed: draws the label vectors, 0 to 2**32 - 1.
        temperature: of the similarities in the loss with negatives, and in the reported probabilities.
        restarts: tries a round.
        min_similarity: least similarity of an image that gets a label in round 2, in [-1, 1].
        num_per_class: images a class that get one.

    Raises:
        ValueError: an argument is out of range.
    """

    stages = (
        Stage("round_1", Views(labelled=("weak",)), ("round_1",), ("round_1",)),
        Stage("round_2", Views(("weak",), ("weak",)), ("round_2",), ("round_2", "round_1")),
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
        min_similarity: float,
        num_per_class: int,
    ) -> None:
        if networks not in NETWORKS:
            raise ValueError(f"networks={networks}: choose from {', '.join(NETWORKS)}")
        if not 0 < max_cosine <= 1:
            raise ValueError(f"max_cosine={max_cosine} must be above 0 and at most 1")
        if not 0 <= codebook_seed < 2**32:
            raise ValueError(f"codebook_seed={codebook_seed} must be from 0 to 2**32 - 1")
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be above 0")
        if not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity={min_similarity} must be from -1 to 1")
        counts = {"code_length": code_length, "restarts": restarts, "num_per_class": num_per_class}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name}={count} must be at least 1")
        self._per_class, self._negatives = networks == "per_class", negatives
        self._code_length, self._max_cosine = code_length, max_cosine
        self._codebook_seed, self._temperature, self._restarts = codebook_seed, temperature, restarts
        self._min_similarity, self._num_per_class = min_similarity, num_per_class

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """The tries of both rounds, and the labels between them."""
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
        return {**rounds, "labels": AssignedTargets(spec.num_train, spec.num_classes)}

    def begin_stage(self, models: Mapping[str, nn.Module], stage: int, images: TrainingImages) -> Tensor:
        """Give labels to the images on which round 1 is surest."""
        similarity = images.predict(models["round_1"], images.unlabelled) * self._temperature
        best, classes = similarity.max(dim=1)
        drawn = []
        for k in range(similarity.shape[1]):
            near = torch.nonzero((classes == k) & (best >= self._min_similarity))[:, 0]
            order = torch.randperm(len(near))[: self._num_per_class]
            drawn.append(near[order.to(near.device)])
        chosen = torch.cat(drawn).sort().values
        if not len(chosen):
            raise UserError(
                f"no unlabelled image reached algorithm.min_similarity={self._min_similarity} (the nearest "
                f"has {best.max():.3f}): lower it, or train longer with steps"
            )
        index = images.unlabelled[chosen]
        one_hot = classes[chosen, None] == torch.arange(similarity.shape[1], device=classes.device)
        cast("AssignedTargets", models["labels"]).assign(index, one_hot)
        return index

    def _losses(self, networks: LabelVectorNetworks, images: Tensor, one_hot: Tensor) -> Tensor:
        """Of each image in each try, ``[R, B]``."""
        similarities = networks.similarities(images)
        if self._negatives:
            return -(log_softmax(similarities / self._temperature, dim=2) * one_hot).sum(dim=2)
        return 1 - (similarities * one_hot).sum(dim=2)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        """See `Algorithm.step`."""
        networks = cast("LabelVectorNetworks", models[_ROUNDS[progress.stage]])
        classes = torch.arange(len(networks.vectors), device=batch.targets.device)
        one_hot = (batch.targets[:, None] == classes).float()
        losses = self._losses(networks, batch.labelled[0], one_hot)
        terms = {"supervised": losses.mean()}
        if progress.stage:
            given = models["labels"](batch.unlabelled_index)
            pseudo = self._losses(networks, batch.unlabelled[0], given)
            terms["pseudo"] = pseudo.mean()
            losses, one_hot = torch.cat([losses, pseudo], dim=1), torch.cat([one_hot, given])
        networks.follow(losses, one_hot, _LOSS_DECAY)
        return StepOutput(torch.stack(list(terms.values())).sum(), terms)

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        """Nothing to follow up."""

    def examine(
        self, models: Mapping[str, nn.Module], stage: int, examination: Examination
    ) -> dict[str, float]:
        """The given labels' accuracy, and what a score that knows the answer would say.

        ``diagnostic/label_informed_acc`` compares the output of each class's network with the label vector of
        the image's *true* class: an image counts as right when the true class's own network is the nearest.
        It reads the answer off the label, and is here to show how far such a score lies from the truth.
        """
        metrics = {}
        networks = cast("LabelVectorNetworks", models[_ROUNDS[stage]])
        if self._per_class:

            def informed(codes: Tensor, targets: Tensor) -> Tensor:
                similarity = (codes * networks.vectors[targets, None]).sum(dim=2)
                return similarity.argmax(dim=1) == targets

            metrics["diagnostic/label_informed_acc"] = examination.mean("test", _Codes(networks), informed)
        if stage:
            labels = cast("AssignedTargets", models["labels"])
            metrics["diagnostic/given_labels"] = float(labels.given.sum())
            metrics["diagnostic/given_labels_acc"] = labels.accuracy(examination.targets)
        return metrics


@final
class _Codes(nn.Module):
    """Images to what each class's network says, ``[B, K, L]``."""

    def __init__(self, networks: LabelVectorNetworks) -> None:
        super().__init__()
        self._networks = networks

    def forward(self, x: Tensor) -> Tensor:
        return self._networks.chosen(self._networks.codes(x))

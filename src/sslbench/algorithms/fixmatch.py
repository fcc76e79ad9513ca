"""FixMatch and its family: the prediction at a weak view is the target of the one at a strong view."""

import copy
from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn

from sslbench.algorithms.ramp_up import cosine_ramp_up
from sslbench.algorithms.weak_to_strong.protocol import (
    Alignment,
    ExtraTerm,
    LabelledLoss,
    Predictions,
    Stateful,
    Targets,
    Weighting,
)
from sslbench.checks import check_decay, check_not_negative
from sslbench.core import (
    Average,
    Batch,
    FeatureModel,
    ModelFactory,
    Progress,
    PseudoLabelled,
    StepOutput,
    StrongView,
    View,
    Views,
)
from sslbench.losses import ce
from sslbench.losses.classification import cross_entropy
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.ema import frozen_copy


@final
class FixMatch:
    """Sohn et al. 2020, arXiv:2001.07685, algorithm 1, with the parts in which later methods differ.

    ``loss = supervised + weight * ramp(t) * mean m(x) CE(f(strong x), target(f(weak x)))`` over unlabelled x,
    and perhaps an extra term. The mean is over all unlabelled images, so that few confident ones weigh
    little. An average of the student's weights is evaluated; it makes no targets. The yaml files put the
    methods together; each part names the paper that it is from.

    Batch norm: with `joint_batch`, all views pass through the student together, and their common statistics
    are those of evaluation, as in the authors' code. Without it, labelled and weak views pass each for
    itself, and the strong views leave the running statistics alone.

    Deviation: RandAugment in place of CTAugment, which the paper has beside it.

    Args:
        strong: the strong view.
        weighting: how much each pseudo-label counts.
        targets: the pseudo-labels.
        alignment: corrects the class distribution of the predictions first; None for none.
        labelled: the loss on labelled images; None for cross-entropy, the mean over their views.
        extra: a further term; None for none.
        labelled_strong: whether labelled images have a strong view beside the weak one.
        joint_batch: see above.
        interpolate_logits: whether labelled logits are drawn between those of a pass of the labelled images
            and those of the joint pass (AdaMatch, arXiv:2106.04732, section 3.3); needs `joint_batch`.
        ramp_up: share of the run over which the weight grows, along a cosine (arXiv:2106.04732, eq. 11).
    """

    predictors = ("average", "student")

    def __init__(
        self,
        strong: StrongView,
        weighting: Weighting,
        targets: Targets,
        weight: float,
        ramp_up: float,
        ema: float,
        joint_batch: bool,
        alignment: Alignment | None = None,
        labelled: LabelledLoss | None = None,
        extra: ExtraTerm | None = None,
        labelled_strong: bool = False,
        interpolate_logits: bool = False,
    ) -> None:
        check_not_negative(weight=weight, ramp_up=ramp_up)
        check_decay(ema=ema)
        if interpolate_logits and not joint_batch:
            raise ValueError("interpolate_logits=true needs joint_batch=true")
        labelled_views: tuple[View, ...] = ("weak", strong) if labelled_strong else ("weak",)
        self.views = Views(labelled=labelled_views, unlabelled=("weak", strong))
        self.averages = {"average": Average("student", ema)}
        parts = {
            "weighting": weighting,
            "targets": targets,
            "alignment": alignment,
            "labelled": labelled,
            "extra": extra,
        }
        self._parts = {name: part for name, part in parts.items() if part is not None}
        has_head = extra is not None and extra.needs_features
        self.trained = ("student", "extra") if has_head else ("student",)
        self._extra = extra
        self._weight, self._ramp_up = weight, ramp_up
        self._joint_batch, self._interpolate_logits = joint_batch, interpolate_logits

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        student = new_model()
        if self._extra is not None and self._extra.needs_features and not isinstance(student, FeatureModel):
            raise ValueError(f"{self._extra.name} needs a model with `features` and `classifier`")
        modules = {"student": student, "average": frozen_copy(student)}
        for name, part in self._parts.items():
            module = copy.deepcopy(part)
            assert isinstance(module, nn.Module), "a part is a module"
            if isinstance(module, Stateful):
                module.prepare(new_model.spec, student)
            modules[name] = module
        return modules

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        predictions = self._predict(models, batch, progress)
        weights: Tensor = models["weighting"](predictions)
        targets: Tensor = models["targets"](predictions)
        logits = predictions.strong
        if "alignment" in models:
            logits = cast("Alignment", models["alignment"]).adjust(logits)
        terms = {
            "supervised": self._supervised(models, predictions),
            "pseudo_label": (weights * ce(logits, targets)).mean(),
        }
        weight = self._weight * cosine_ramp_up(progress.fraction, self._ramp_up)
        loss = terms["supervised"] + weight * terms["pseudo_label"]
        if self._extra is not None:
            term: Tensor = models["extra"](predictions, targets, weights)
            terms[self._extra.name] = term
            loss = loss + weight * self._extra.weight * term
        return StepOutput(loss, terms, {"pseudo_label_weight": weight}, PseudoLabelled(targets, weights))

    def _predict(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> Predictions:
        student, (weak_view, strong_view) = models["student"], batch.unlabelled
        if self._joint_batch:
            views = (*batch.labelled, weak_view, strong_view)
            logits, features = self._forward(student, torch.cat(views))
            *labelled, weak, strong = torch.split(logits, [len(view) for view in views])
            features = None if features is None else features[-len(strong_view) :]
            if self._interpolate_logits:
                with frozen_batch_stats(student):
                    alone = torch.split(student(torch.cat(batch.labelled)), len(batch.targets))
                labelled = [
                    torch.lerp(own, joint, torch.rand_like(own))
                    for own, joint in zip(alone, labelled, strict=True)
                ]
        else:
            labelled = [student(batch.labelled[0])]
            with torch.no_grad():
                weak = student(weak_view)
            with frozen_batch_stats(student):
                labelled += [student(view) for view in batch.labelled[1:]]
                strong, features = self._forward(student, strong_view)
        weak = weak.detach()
        probabilities = weak.softmax(dim=1)
        aligned = probabilities
        if "alignment" in models:
            aligned = models["alignment"](probabilities, labelled[0].detach().softmax(dim=1))
        return Predictions(
            weak=weak,
            strong=strong,
            probabilities=probabilities,
            aligned=aligned,
            index=batch.unlabelled_index,
            labelled=labelled[0],
            labelled_strong=labelled[1] if len(labelled) > 1 else None,
            targets=batch.targets,
            progress=progress,
            features=features,
        )

    def _forward(self, student: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and features where the extra term needs them."""
        if self._extra is None or not self._extra.needs_features:
            return student(images), None
        model = cast("FeatureModel", student)
        features = model.features(images)
        return model.classifier(features), features

    def _supervised(self, models: Mapping[str, nn.Module], predictions: Predictions) -> Tensor:
        if "labelled" in models:
            loss: Tensor = models["labelled"](predictions)
            return loss
        loss = cross_entropy(predictions.labelled, predictions.targets)
        if predictions.labelled_strong is not None:
            loss = (loss + cross_entropy(predictions.labelled_strong, predictions.targets)) / 2
        return loss

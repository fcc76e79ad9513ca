"""Averages of a network's weights over the steps of training."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def frozen_copy(model: AnyModule) -> AnyModule:
    """A copy of `model` whose parameters take no gradient."""
    return copy.deepcopy(model).requires_grad_(requires_grad=False)


def warmed_up(decay: float, step: Tensor) -> Tensor:
    """``min(1 - 1 / (t + 1), decay)``: a plain mean over the first steps.

    The formula of the code of Tarvainen & Valpola 2017 (arXiv:1703.01780), where t begins at 1; here at 0, so
    that the initial weights have no share. `step` is t, the steps finished before this one, float32 ``[]``.
    """
    return (1 - 1 / (step + 1)).clamp(max=decay)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: Tensor) -> None:
    """``average = decay * average + (1 - decay) * model``, in place, over parameters and buffers alike.

    Batch-norm statistics are averaged as the weights are: they come from the student's passes over ordinary
    images, so evaluation of the average needs no pass of its own. Counters are copied. The modules have the
    same structure; `decay` is ``[]``, in [0, 1], on their device.
    """
    ours, theirs = [], []
    for mine, its in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            ours.append(mine)
            theirs.append(its)
        else:
            mine.copy_(its)
    torch._foreach_mul_(ours, decay)
    torch._foreach_add_(ours, torch._foreach_mul(theirs, 1 - decay))

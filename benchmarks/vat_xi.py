"""How far rounding and curvature turn VAT's adversarial direction, for each length of the finite difference.

    python benchmarks/vat_xi.py RUN_DIR

For a finished run: the cosine between the direction found in float32 at `xi` and the one found in float64 at
1e-6, after one power iteration from the same start, as the median over 250 test images. The table in
docs/design/vat.md is its output for `experiment=seeds/vat_mnist steps=20 eval_every=20`.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sslbench.algorithms.protocol import Algorithm
from sslbench.algorithms.vat import unit_length
from sslbench.config import saved
from sslbench.config.build import build
from sslbench.losses import kl
from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.run.setup import build_models, prepare_data, prepare_process
from sslbench.rundir.weights import load_weights

LENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)


def direction(model: nn.Module, images: Tensor, start: Tensor, xi: float) -> Tensor:
    """One power iteration from `start`; ``[B, C, H, W]`` in float64."""
    start = start.clone().requires_grad_()
    with frozen_batch_stats(model):
        target = model(images).softmax(dim=1).detach()
        moved = kl(model(images + xi * start), target).sum()
    (gradient,) = torch.autograd.grad(moved, start)
    return unit_length(gradient).double()


def main() -> None:
    """Measure and print."""
    directory = Path(sys.argv[1])
    settings = saved.load(directory / "config.yaml")
    prepare_process(settings)
    device = torch.device("cpu")
    data = prepare_data(settings, device)
    algorithm: Algorithm = build(settings.algorithm, "algorithm")
    model = build_models(settings, algorithm, data, device)[algorithm.predictors[0]]
    load_weights(directory / "model.safetensors", model)
    images = data.test.images.clean(data.test.index[:250])
    start = unit_length(torch.randn_like(images))
    exact = direction(copy.deepcopy(model).double(), images.double(), start.double(), LENGTHS[0])
    for xi in LENGTHS:
        cosine = (direction(model, images, start, xi) * exact).flatten(1).sum(dim=1)
        print(f"xi {xi:<8g} cosine {cosine.median().item():.3f}")


if __name__ == "__main__":
    main()

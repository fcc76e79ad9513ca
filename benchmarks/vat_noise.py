"""What VAT's search finds when its passes share their dropout masks, and when each pass draws its own.

    python benchmarks/vat_noise.py

For each of ten seeds, an MLP 64-64-64-10 with dropout 0.5 learns digits for 300 steps. Then, in float64 and
for 200 test images, directions are found by one power iteration with xi = 0.1 and compared with the top
eigenvector of the exact Hessian at the masks of the clean pass. docs/design/vat.md shows the output: mean and
standard deviation over the seeds of the mean over the images.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sslbench.algorithms.vat import unit_length
from sslbench.losses import cross_entropy, kl
from sslbench.models import MLP, SameNoise

XI, EPS, TRAIN = 0.1, 1.0, 1297

Passes = Callable[[Tensor], Tensor]


def trained(images: Tensor, targets: Tensor) -> nn.Module:
    """The network, after 300 steps of Adam with batches of 100."""
    model = MLP(1, (8, 8), 10, hidden=(64, 64), batch_norm=False, dropout=0.5).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(300):
        batch = torch.randint(len(images), (100,))
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), targets[batch]).backward()
        optimizer.step()
    return model


def search(passes: Passes, images: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """One power iteration from `start`: ``[B, 64]``, length 1."""
    direction = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kl(passes(images + XI * direction), target).sum(), direction)
    return unit_length(gradient).flatten(1)


def top_eigenvectors(passes: Passes, images: Tensor, target: Tensor) -> Tensor:
    """Of the Hessian of each image's distance at r = 0: ``[B, 64]``."""
    r = torch.zeros_like(images, requires_grad=True)
    (gradient,) = torch.autograd.grad(kl(passes(images + r), target).sum(), r, create_graph=True)
    columns = [
        torch.autograd.grad(column.sum(), r, retain_graph=True)[0].flatten(1)
        for column in gradient.flatten(1).unbind(1)
    ]
    return torch.linalg.eigh(torch.stack(columns, dim=2)).eigenvectors[:, :, -1]


def measured(seed: int) -> dict[str, float]:
    """The rows of the table for one network."""
    torch.manual_seed(seed)
    data = load_digits()
    pixels = torch.from_numpy(data.images / 16).view(-1, 1, 8, 8)
    model = trained(pixels[:TRAIN], torch.from_numpy(data.target[:TRAIN]).long())
    images = pixels[TRAIN : TRAIN + 200]

    clean = SameNoise(model)
    target = clean(images).softmax(1).detach()
    top = top_eigenvectors(clean, images, target)
    start, other = (unit_length(torch.randn_like(images)) for _ in range(2))

    def masks() -> Passes:
        drawn = SameNoise(model)
        drawn(images)
        return drawn

    def row(name: str, passes: Passes) -> dict[str, float]:
        found = search(passes, images, target, start)
        with torch.no_grad():
            reached = kl(clean(images + EPS * found.view_as(images)), target)
            unmoved = kl(passes(images), target)
        cosines = {
            "search from -d": found * search(passes, images, target, -start),
            "search from another start": found * search(passes, images, target, other),
        }
        return {
            f"{name}: distance at r = 0": unmoved.mean().item(),
            **{f"{name}: cosine with the {k}": c.sum(1).mean().item() for k, c in cosines.items()},
            f"{name}: |cosine| with the top eigenvector": (found * top).sum(1).abs().mean().item(),
            f"{name}: distance at eps = 1": reached.mean().item(),
        }

    fresh = masks()
    between = search(fresh, images, target, start) * search(masks(), images, target, start)
    return {
        **row("own masks", fresh),
        "own masks: cosine with the search at other masks": between.sum(1).mean().item(),
        **row("shared masks", clean),
    }


def main() -> None:
    """Measure and print."""
    values = defaultdict(list)
    for seed in range(10):
        for name, value in measured(seed).items():
            values[name].append(value)
    for name, found in values.items():
        print(f"{name:60s} {statistics.mean(found):8.3f} ± {statistics.stdev(found):.3f}")


if __name__ == "__main__":
    main()

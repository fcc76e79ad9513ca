"""Which operations keep the labels: the accuracy of a good supervised network on augmented test images.

    python benchmarks/label_keeping.py mnist fashion_mnist npz:FILE.npz >docs/results/label_keeping.md

For each data set a network is trained on almost all labels, with strong views of all operations at the
greatest magnitudes that published code has, so that it knows what augmented images look like. What it then
gets wrong on augmented test images has lost its class, or nearly. Each operation is applied alone, to every
test image, with magnitudes drawn uniformly within the limits of the data set, and within those of the
network's training. Network, labels and draws have fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from compose import settings_from
from torch import Tensor

from sslbench.config.build import build
from sslbench.data.arrays import ImageArrays
from sslbench.data.strong import CUTOUT, BoundOperations
from sslbench.data.views import ImageTransform
from sslbench.engine.device import pick_device
from sslbench.run.predictor import Predictor, load_predictor
from sslbench.run.train import run

#: The union of what the ranges ``paper`` and ``released`` have.
EVERYTHING: dict[str, tuple[float, float] | None] = {
    "identity": None,
    "autocontrast": None,
    "equalize": None,
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.05, 1.72)),
    "posterize": (1, 8),
    "solarize": (0, 256),
    "rotate": (-30, 30),
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.3, 0.3)),
    CUTOUT: (0, 0.5),
}
Range = Sequence[float] | None


def accuracy(predictor: Predictor, images: Tensor, labels: Tensor) -> float:
    """Of the pixels uint8 ``[N, H, W, C]``, in percent."""
    with torch.no_grad():
        outputs = [predictor.model(predictor.transform(part.numpy())) for part in images.split(500)]
    return 100 * float((torch.cat(outputs).argmax(dim=1) == labels).double().mean())


def augmented(images: Tensor, name: str, limits: Range, fill: Tensor) -> Tensor:
    """All images after the one operation, with magnitudes within `limits`."""
    generator = torch.Generator().manual_seed(0)
    if name == CUTOUT:
        assert limits is not None
        return BoundOperations({}, 0, 0.0, limits[1])(images.clone(), fill, generator)
    low, high = limits or (0.0, 0.0)
    return BoundOperations({name: (low, high)}, 1, 1.0, 0.0)(images.clone(), fill, generator)


def rows(dataset: str, words: Sequence[str], steps: int, folder: Path) -> list[str]:
    """The lines of the table of one data set."""
    everything = [
        f"++dataset.images.operations.{name}={'null' if limits is None else list(limits)}".replace(" ", "")
        for name, limits in EVERYTHING.items()
    ]
    length = ["batch.labelled=100", f"steps={steps}", f"eval_every={steps // 4}", "logger=none"]
    settings = settings_from(
        ["algorithm=supervised_strong", "model=cnn", *words, *everything, *length, f"run_dir={folder}"]
    )
    result = run(settings)
    print(f"{dataset}: test accuracy {100 * result['test_acc']:.2f} %", file=sys.stderr)
    predictor = load_predictor(folder, pick_device("cpu"))
    arrays: ImageArrays = build(settings.dataset, "dataset")
    shipped = settings_from(list(words)).dataset["images"]["operations"]
    look: ImageTransform = build(settings.dataset["images"], "dataset.images")
    channels = arrays.x_test.shape[3]
    fill = torch.tensor(
        [round(255 * mean) for mean in look.mean * (channels // len(look.mean))], dtype=torch.uint8
    )
    images, labels = torch.from_numpy(np.array(arrays.x_test)), torch.from_numpy(arrays.y_test)
    clean = accuracy(predictor, images, labels)
    lines = [
        f"\n## {dataset}\n",
        f"{len(images):,} test images, {clean:.2f} % right without any operation. Network: `cnn`, "
        f"{settings.num_labels:,} labels, {steps:,} steps.\n",
        "| operation | limits of the data set | accuracy % | cost | limits tried | accuracy % | cost |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for name, tried in EVERYTHING.items():
        if name == "color" and channels == 1:
            continue
        cells = []
        for listed, limits in ((name in shipped, shipped.get(name)), (True, tried)):
            if not listed:
                cells.append("not listed | - | -")
                continue
            found = accuracy(predictor, augmented(images, name, limits, fill), labels)
            cells.append(f"{shown(limits)} | {found:.2f} | {clean - found:+.2f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def shown(limits: Range) -> str:
    """Limits for people."""
    return "none" if limits is None else " to ".join(f"{limit:g}" for limit in limits)


def main() -> None:
    """Train, measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="mnist, fashion_mnist, or npz:FILE with what it is named")
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    counts: Mapping[str, list[str]] = {
        "mnist": ["num_labels=45000"],
        "fashion_mnist": ["num_labels=50000"],
        "npz": ["num_labels=30000", "num_valid=2000"],
    }
    print("# Operations that keep the labels\n")
    print(__doc__.split("\n\n", 2)[2].strip())
    print("\nA cost is in percentage points; above 1, the operation or its magnitude is left out.")
    for dataset in options.datasets:
        name, _, path = dataset.partition(":")
        words = [f"dataset={name}", *counts[name]]
        if path:
            look = ["crop=4", "flip=true", "noise=0.0"]
            words += [f"dataset.path={path}", *(f"dataset.images.{each}" for each in look)]
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(rows(Path(path).stem if path else name, words, options.steps, Path(folder))))


if __name__ == "__main__":
    main()

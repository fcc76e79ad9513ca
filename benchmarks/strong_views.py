"""Strong views of 32x32x3 images beside the ordinary way: PIL and torchvision, image by image, on one core.

    python benchmarks/strong_views.py

Both ways draw the same kind of view: a weak crop and flip, two operations of RandAugment, cutout, and
normalisation. Rounds are taken in turn, and the ratio of each round is printed with its median and range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from ordinary import strong_transforms
from PIL import Image

from sslbench.data.operations import OPERATIONS
from sslbench.data.strong import CUTOUT, RANGES, RandomOperations
from sslbench.data.views import DeviceImages, ImageTransform

CPU = torch.device("cpu")
BATCH, PASSES = 448, 5
LIMITS = {name: RANGES["paper"].get(name) for name in OPERATIONS} | {CUTOUT: (0, 0.5)}
LOOK = ImageTransform([0.49, 0.48, 0.45], [0.25, 0.24, 0.26], ["crop", "flip"], 4, True, operations=LIMITS)


def rate(view: Callable[[], object], passes: int) -> float:
    """Images a second."""
    began = time.perf_counter()
    for _ in range(passes):
        view()
    return passes * BATCH / (time.perf_counter() - began)


def whole_view(pixels: NDArray[np.uint8], probability: float) -> Callable[[], object]:
    """Ours, from stored images to network inputs."""
    stored, generator = DeviceImages(pixels, LOOK, CPU), torch.Generator().manual_seed(0)
    strong = RandomOperations("paper", 2, probability, 0.5)
    return lambda: stored.view(strong, torch.randint(len(pixels), (BATCH,), generator=generator), generator)


def operations_alone(pixels: NDArray[np.uint8], probability: float) -> Callable[[], object]:
    """Ours, from pixels to pixels."""
    augment = RandomOperations("paper", 2, probability, 0.0).within(LIMITS)
    generator, fill = torch.Generator().manual_seed(0), torch.zeros(3, dtype=torch.uint8)
    return lambda: augment(torch.from_numpy(pixels[:BATCH]).clone(), fill, generator)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 32, 32, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels[:BATCH]]
    print(f"torch {torch.__version__}, one thread, batches of {BATCH}; images a second, {rounds} rounds\n")
    print("| views | probability of an operation | PIL and torchvision | sslbench | ratio | range |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, view, look in (
        ("weak, RandAugment, cutout, normalised", whole_view, LOOK),
        ("RandAugment alone", operations_alone, None),
    ):
        for probability in (0.5, 1.0):
            transform = strong_transforms(look, 32, 32, probability)
            ways = {
                "theirs": (partial(map_all, transform, pictures), 1),
                "ours": (view(pixels, probability), PASSES),
            }
            found = [{way: rate(*how) for way, how in ways.items()} for _ in range(rounds + 1)][1:]
            ratios = [each["ours"] / each["theirs"] for each in found]
            theirs, ours = (statistics.median(each[way] for each in found) for way in ways)
            ends = f"{min(ratios):.1f} to {max(ratios):.1f}"
            middle = statistics.median(ratios)
            print(
                f"| {name} | {probability} | {theirs:,.0f} | {ours:,.0f} | {middle:.1f} | {ends} |",
                flush=True,
            )


def map_all(transform: Callable[[Image.Image], object], pictures: list[Image.Image]) -> None:
    """Theirs, image by image."""
    for picture in pictures:
        transform(picture)


if __name__ == "__main__":
    main()

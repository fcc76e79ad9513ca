"""A picture of what a run's images go through: some of them under each view."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from sslbench.core import Stage, View
from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages
from sslbench.seeding import stream

_IMAGES = 10  # columns
_DRAWS = 3  # rows of each random view
_SIDE = 64  # least pixels of an image in the picture
_MARGIN = 56  # pixels for the names of the rows


def view_sheet(images: DeviceImages, split: Split, stages: tuple[Stage, ...], seed: int) -> NDArray[np.uint8]:
    """The first unlabelled images of the training set, a column each, with a row for each draw of a view.

    The views are those that the stages declare, below the clean images. They are drawn from a random stream
    of their own, so that training does not change.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    from PIL import Image, ImageDraw

    device = images.device
    index = torch.from_numpy(split.unlabelled[:_IMAGES]).to(device)
    generator = stream(seed, "view sheet", device)
    rows = [
        (name, np.concatenate(list(images.pixels(images.view(view, index, generator)).cpu().numpy()), axis=1))
        for name, view in _rows(stages)
    ]
    scale = -(-_SIDE // min(images.height, images.width))
    pixels = np.concatenate([row for _, row in rows]).repeat(scale, axis=0).repeat(scale, axis=1)
    colours = pixels if pixels.shape[2] == 3 else pixels[..., :1].repeat(3, axis=2)
    picture = Image.new("RGB", (_MARGIN + colours.shape[1], colours.shape[0]), "white")
    picture.paste(Image.fromarray(colours), (_MARGIN, 0))
    draw = ImageDraw.Draw(picture)
    for position, (name, _) in enumerate(rows):
        draw.text((4, int((position + 0.5) * scale * images.height) - 6), name, fill="black")
    return np.asarray(picture)


def _rows(stages: tuple[Stage, ...]) -> Iterator[tuple[str, View]]:
    yield "clean", "clean"
    shown: list[View] = ["clean"]
    for stage in stages:
        for view in (*stage.views.labelled, *stage.views.unlabelled):
            if view not in shown:
                shown.append(view)
                yield from [(view if isinstance(view, str) else "strong", view)] * _DRAWS

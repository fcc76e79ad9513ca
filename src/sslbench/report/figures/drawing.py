"""What all figures of the page share: their look, and how they become SVG that fits into a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_URL = r"(url\(#)([^)]+)"
_LOOK = {
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be searched, and is smaller than outlines
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "path.simplify_threshold": 0.2,
}
WIDTH, HEIGHT = 4.4, 2.9  # inches, of a panel without its legend
_LEGEND_ROW = 0.17  # inches
_ENTRY, _LETTER = 0.44, 0.068  # inches of a legend's entry: its line and the space beside it, and a letter
_TICKS = 6  # of an axis at most


@dataclass(frozen=True)
class Panel:
    """One picture of the page.

    Attributes:
        title: above it.
        caption: what it shows, in a sentence or two.
        svg: the picture, an ``<svg>`` element.
    """

    title: str
    caption: str
    svg: str


@contextmanager
def look(name: str = "sslbench", **changes: Any) -> Iterator[None]:
    """Draw in the look of the report.

    Args:
        name: of the figure; the same name and numbers give the same bytes.
        changes: settings of matplotlib beside the look.
    """
    settings: dict[Any, Any] = {**_LOOK, "svg.hashsalt": name, **changes}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A name may be in a script that matplotlib's font lacks; the browser's has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def legend_columns(entries: Sequence[str], most: int = 2, width: float = WIDTH) -> int:
    """How many of at most `most` columns of a legend fit into `width` inches."""
    longest = max(map(len, entries), default=0)
    return max(1, min(most, len(entries), int(width / (_ENTRY + _LETTER * longest))))


def panel_axes(entries: Sequence[str] = (), columns: int = 2, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """The axes of a panel with room for a legend below.

    The margins are fixed: to work them out, matplotlib would draw every figure twice.

    Args:
        entries: of the legend; none for no legend.
        columns: of the legend at most; long entries leave room for fewer.
        height: of the panel without the legend, in inches.
    """
    rows = -(-len(entries) // legend_columns(entries, columns))
    height += _LEGEND_ROW * rows
    figure = Figure(figsize=(WIDTH, height))
    below = 0.48 + _LEGEND_ROW * rows
    axes = figure.add_axes((0.62 / WIDTH, below / height, 1 - 0.76 / WIDTH, 1 - (below + 0.12) / height))
    axes.locator_params(nbins=_TICKS)
    return figure, axes


def fitted_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Axes whose margins follow the names beside them; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def legend(axes: Axes, columns: int = 2) -> None:
    """The legend below the axes of `panel_axes`, which was told its entries and `columns`."""
    handles, names = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles,
        names,
        loc="lower center",
        ncols=legend_columns(names, columns),
        borderaxespad=0.2,
        columnspacing=1.2,
    )


def label_of(name: str) -> str:
    """A legend's entry; matplotlib would leave out one that begins with an underscore."""
    return f"\u2009{name}" if name.startswith("_") else name


def to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element for a page that holds many.

    Identifiers are replaced by ones that begin with `name`: matplotlib's would be the same in each figure.

    Args:
        figure: drawn within `look`.
        name: of the figure, unique in the page; letters, digits and dashes.
        label: what a screen reader says.
    """
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(out.getvalue())
    for parent in root.iter():
        for child in list(parent):
            # The style is of every element of the page that the figure is put into.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    _rename(root, name)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep the identifiers that something refers to, ``url(#x)`` or a link to ``#x``, under new names."""
    used: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return match[1] + used.setdefault(match[2], f"{name}-{len(used)}")

    for element in root.iter():
        for key, pattern in (("clip-path", _URL), ("style", _URL), (_LINK, r"^(#)(.+)")):
            if value := element.get(key):
                element.set(key, re.sub(pattern, renamed, value))
        if path := element.get("d"):
            # A hundredth of a point is less than anybody sees.
            element.set("d", re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", path).replace("\n", ""))
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in used:
            element.set("id", used[old])

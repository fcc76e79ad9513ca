"""What all figures share: their look, their axes and legends, and how they become part of a page."""

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LOOK = {
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text, which is smaller than outlines
    "svg.hashsalt": "sslbench",  # the same numbers give the same bytes
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
        kind: what figures of this kind show, for a screen reader.
        svg: the picture, an SVG file.
    """

    title: str
    caption: str
    kind: str
    svg: str

    @property
    def address(self) -> str:
        """The picture as a ``data:`` address: an image of its own, whose identifiers meet no others."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@contextmanager
def look(**changes: Any) -> Iterator[None]:
    """Draw in the look of the report; `changes` are settings of matplotlib beside it."""
    settings: dict[Any, Any] = {**_LOOK, **changes}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A name may be in a script that matplotlib's font lacks; the browser's has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def panel_axes() -> Axes:
    """The axes of a figure, which `to_panel` makes a panel."""
    axes = Figure().add_subplot()
    axes.locator_params(nbins=_TICKS)
    return axes


def to_panel(
    axes: Axes, title: str, caption: str, kind: str, columns: int = 2, height: float = HEIGHT
) -> Panel:
    """The panel of `panel_axes`, `height` inches high, with a legend of at most so many columns below.

    The margins are fixed: to work them out, matplotlib would draw every figure twice.
    """
    handles, names = axes.get_legend_handles_labels()
    longest = max(map(len, names), default=0)
    columns = max(1, min(columns, len(names), int(WIDTH / (_ENTRY + _LETTER * longest))))
    rows = -(-len(names) // columns)
    height += _LEGEND_ROW * rows
    below = 0.48 + _LEGEND_ROW * rows
    figure = axes.get_figure(root=True)
    assert figure is not None, "panel_axes makes one"
    figure.set_size_inches(WIDTH, height)
    axes.set_position((0.62 / WIDTH, below / height, 1 - 0.76 / WIDTH, 1 - (below + 0.12) / height))
    figure.legend(handles, names, loc="lower center", ncols=columns, borderaxespad=0.2, columnspacing=1.2)
    return Panel(title, caption, kind, to_svg(figure))


def fitted_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Axes whose margins follow the names beside them; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def label_of(name: str) -> str:
    """A legend's entry; matplotlib would leave out one that begins with an underscore."""
    return f"\u2009{name}" if name.startswith("_") else name


def to_svg(figure: Figure) -> str:
    """The figure, drawn within `look`, as an SVG file; the same figure gives the same text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return out.getvalue()

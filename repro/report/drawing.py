"""What all figures share: style, registration, panels and marks; and a drawn figure as files."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from repro.plan import Comparison
from repro.report.record import PAGES, Record
from repro.verify.statistics import mean_interval

T = TypeVar("T")
Draw = Callable[[Record, list[Comparison]], Figure | None]
DrawPanel = Callable[[Axes, Record, Comparison, list[T]], None]

BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # of text over lines
BLACK, GREY, BLUE, VERMILLION = "#000000", "#777777", "#0072B2", "#D55E00"
WIDTH = 4.5  # inches, 720 pixels; a phone shows them at half that size, and 10 points are then 11 pixels
DPI = 160
COLUMNS = 44  # characters across a figure
MARKS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★", "<": "◀",
         "o ": "○", "s ": "□", "^ ": "△", "D ": "◇", "v ": "▽"}  # fmt: skip
"""Marks of lines, as Matplotlib and as a name call them; a space after it makes a mark hollow."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "svg.hashsalt": "repro",  # the same drawing, the same bytes
}


@dataclass(frozen=True)
class Maker:
    """A registered figure."""

    name: str  # its question and caption stand under it in templates/captions.j2
    pages: tuple[str, ...]  # empty: one figure over all pages
    each: bool  # one figure for each comparison of a page
    draw: Draw


@dataclass(frozen=True)
class Drawn:
    """A figure with its place."""

    key: str  # the name of its file
    name: str  # of its caption
    page: str  # empty: the report itself
    title: str  # of its setting, where a page has several of them; else empty
    figure: Figure


FIGURES: list[Maker] = []


def figure(name: str, *pages: str, each: bool = False) -> Callable[[Draw], Draw]:
    """Registers a figure for these pages; without pages it is drawn once, over all of them. It may give None."""

    def register(draw: Draw) -> Draw:
        FIGURES.append(Maker(name, pages, each, draw))
        return draw

    return register


def panels(
    name: str,
    *pages: str,
    of: Callable[[Record, Comparison], list[T]],
    height: Callable[[int], float],
    xlabel: str = "",
    end: Callable[[Sequence[Axes]], None] = lambda _: None,
) -> Callable[[DrawPanel[T]], DrawPanel[T]]:
    """Registers a figure that has a panel for each comparison, under each other.

    A panel draws what is `of` a comparison; one without anything has none. `height` is that of a panel with so many, in
    inches; `end` is done when all panels are drawn.
    """

    def register(draw_panel: DrawPanel[T]) -> DrawPanel[T]:
        def draw(record: Record, shown: list[Comparison]) -> Figure | None:
            found = [(one, items) for one in shown if (items := of(record, one))]
            if not found:
                return None
            heights = [height(len(items)) + 0.3 for _, items in found]
            drawing, grid = new_figure(
                sum(heights) + 0.6 * len(found), len(found), squeeze=False, height_ratios=heights
            )
            for axes, (comparison, items) in zip(grid[:, 0], found, strict=True):
                axes.set_title(wrapped(comparison.heading, COLUMNS))
                draw_panel(axes, record, comparison, items)
            if xlabel:
                grid[-1, 0].set_xlabel(xlabel)
            end(grid[:, 0])
            return drawing

        figure(name, *pages)(draw)
        return draw_panel

    return register


def all_drawn(record: Record) -> list[Drawn]:
    """Every registered figure that the recorded runs give, in the order of registration."""
    found = []
    mpl.use("agg")
    with mpl.rc_context(STYLE):
        for maker in FIGURES:
            for page in maker.pages or ("",):
                pages = (page,) if page else tuple(PAGES)
                shown = [one for each in pages for one in record.of_page(each) if not one.again]
                for group in [[one] for one in shown] if maker.each else [shown]:
                    drawing = maker.draw(record, group) if group else None
                    if drawing:
                        setting, title = (group[0].setting, group[0].heading) if maker.each else ("", "")
                        key = "_".join(filter(None, (page, maker.name, setting.removeprefix("moons_"))))
                        found.append(Drawn(key, maker.name, page, title, drawing))
    return found


# ---------------------------------------------------------------------------------------------- marks


def new_figure(height: float, *shape: int, **kwargs: Any) -> tuple[Figure, Any]:
    """An empty figure of the usual width, `height` in inches, with one or more axes."""
    drawing = Figure(figsize=(WIDTH, height), layout="constrained")
    return drawing, drawing.subplots(*shape, **kwargs)


def wrapped(text: str, width: int) -> str:
    """Text on lines of at most `width` characters; `h = 0` stays whole."""
    return "\n".join(textwrap.wrap(text.replace(" = ", "\u00a0=\u00a0"), width))


def name_rows(axes: Axes, names: Sequence[str], values: Sequence[str] = ()) -> None:
    """A name above each row, its number to the right of it; the first row is at the top."""
    axes.set_yticks(np.arange(len(names)) - 0.42, names, ha="left", va="center", bbox=BEHIND)
    axes.tick_params(axis="y", length=0, pad=0)
    axes.set_ylim(len(names) - 0.6, -0.75)
    axes.grid(visible=False, axis="y")
    for place, value in enumerate(values):
        axes.annotate(value, (1.02, place), xycoords=axes.get_yaxis_transform(), va="center", annotation_clip=False)


def interval(axes: Axes, place: float, low: float, middle: float, high: float, colour: str, edge: float = 0.8) -> None:
    """An interval in a row, with a dot."""
    axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([middle], [place], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=edge)


def band(axes: Axes, steps: Any, seeds: np.ndarray, colour: str, style: str, mark: str) -> None:
    """The mean over seeds [R, T] with its 95 % interval along training."""
    columns = [column[np.isfinite(column)].tolist() for column in seeds.T]
    middle, low, high = np.array([mean_interval(column) for column in columns]).T
    along(axes, steps, middle, colour, style, mark)
    axes.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)


def along(axes: Axes, steps: Any, values: Any, colour: str, style: str, mark: str) -> None:
    """A line along training with a few marks (a key of `MARKS`), so that it is known without its colour."""
    first = 0.03 + 0.05 * len(axes.lines)
    axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.6, marker=mark[0], markersize=5.5,
              markevery=(first, 0.4), markerfacecolor=colour if len(mark) == 1 else "white")  # fmt: skip


def name_lines(axes: Axes, names: Sequence[str]) -> None:
    """Names the first lines at the right edge, with their marks, apart where they would overlap; scales are final."""
    to_panel = axes.transData + axes.transAxes.inverted()
    line_height = 1.2 * 10 / 72 / (axes.get_window_extent().height / axes.figure.dpi)  # of the panel's height
    ends = []
    for line, name in zip(axes.lines, names, strict=False):
        data = np.column_stack(line.get_data())
        drawn = to_panel.transform(data[np.isfinite(data[:, 1])])
        mark = MARKS[f"{line.get_marker()}{' ' if line.get_markerfacecolor() == 'white' else ''}"]
        ends.append((drawn[-1, 1], f"{mark} {name}".replace("\n", "\n     "), line.get_color()))
    ends.sort()
    heights = [line_height * (1 + name.count("\n")) for _, name, _ in ends]
    gaps = [0.0, *((one + other) / 2 for one, other in itertools.pairwise(heights))]
    places: list[float] = []
    for (wanted, _, _), gap in zip(ends, gaps, strict=True):
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    top = max(0.95, sum(gaps))
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gaps[i]
    for place, (_, name, colour) in zip(places, ends, strict=True):
        dark = [0.6 * part for part in to_rgb(colour)]
        axes.annotate(name, (1, place), xytext=(4, 0), xycoords="axes fraction", textcoords="offset points",
                      color=dark, va="center", annotation_clip=False)  # fmt: skip


# ---------------------------------------------------------------------------------------------- files


Picture = dict[str, bytes]
"""A drawn figure as files, by suffix: svg and png."""

_waiting: dict[str, Figure] = {}
"""Figures by key, which the processes that turn them into files inherit."""


def as_pictures(drawn: Sequence[Drawn]) -> dict[str, Picture]:
    """All figures as files, made side by side: that is half of the report's time."""
    _waiting.update({one.key: one.figure for one in drawn})
    workers = max(1, min(os.cpu_count() or 1, len(drawn), 8))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        pictures = dict(zip(_waiting, pool.map(_picture, _waiting), strict=True))
    _waiting.clear()
    return pictures


def _picture(key: str) -> Picture:
    png, svg, small = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        _waiting[key].savefig(png, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        _waiting[key].savefig(svg, format="svg", dpi=90, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    with Image.open(png) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return {"svg": _renumbered(svg.getvalue()), "png": small.getvalue()}


def _renumbered(svg: bytes) -> bytes:
    """The same drawing with the names of its clip paths counted: Matplotlib makes them of places in memory."""
    names = list(dict.fromkeys(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg)))
    numbers = {name: b"clip%d" % number for number, name in enumerate(names)}
    return re.sub(rb"p[0-9a-f]{10}(?=[\")])", lambda found: numbers.get(found[0], found[0]), svg)

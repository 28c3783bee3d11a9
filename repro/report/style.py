"""One look for all figures: colours that the colour-blind can tell apart (Okabe and Ito 2008), quiet axes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#888888"

WIDTH = 8.0  # inches; 1,200 pixels
_DPI = 150
_SMALL, _NORMAL = 8, 9  # points

Line = str | tuple[float, tuple[float, ...]]
"""A line style of Matplotlib's: a name, or offset and lengths of dashes and gaps in units of the line's width."""

LOOKS: dict[str, tuple[str, Line]] = {
    "supervised": (BLACK, "-"),
    "supervised_all": (BLACK, "--"),
    "supervised_alone": (BLACK, ":"),
    "supervised_smoothing": (GREY, "--"),
    "pseudo_label": (ORANGE, "-"),
    "uda": (SKY, "-"),
    "fixmatch": (GREY, "-"),
    "mpl_no_feedback": (VERMILLION, "-"),
    "no_feedback": (VERMILLION, "-"),
    "mpl": (BLUE, "-"),
    "mpl_reversed": (PURPLE, "-"),
    "mpl_shuffled": (GREEN, "--"),
    "mpl_cosine": (GREEN, "-"),
    "cosine": (GREEN, "-"),
    "mpl_dot_product": (BLUE, "--"),
    "mpl_finite_difference": (BLUE, ":"),
    "mpl_no_consistency": (ORANGE, "--"),
    "mpl_unsupervised_teacher": (GREY, "--"),
    "exact": (SKY, "-"),
    "exact_reversed": (SKY, "--"),
    "per_example": (ORANGE, "-"),
    "mpl_finetuned": (BLUE, "-."),
    "mpl_argmax": (SKY, "--"),
    "mpl_soft": (GREY, ":"),
    "mpl_released": (PURPLE, "--"),
    "mpl_baseline": (ORANGE, "-."),
    "mpl_no_baseline": (VERMILLION, "-."),
    "mpl_released_batch_norm": (ORANGE, ":"),
    "mpl_average": (BLACK, "-."),
    "mpl_no_average": (GREY, "-."),
    "mpl_labelled_apart": (GREEN, "-."),
    "mpl_labelled_among": (GREEN, ":"),
    "mpl_regulariser": (PURPLE, ":"),
    "mixup": (GREEN, "-"),
    "randaugment": (BLACK, "-."),
    "mpl_pseudo_label": (VERMILLION, "--"),
    "mpl_mixup": (VERMILLION, ":"),
    "mpl_randaugment": (SKY, "-."),
}
"""Colour and line of an arm, by what its name ends in: the same in every figure."""

_OTHERS = (BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY)


_UNKNOWN: Line = (0, (6, 1.5, 1, 1.5, 1, 1.5))  # dash, dot, dot


def look(suffix: str) -> tuple[str, Line]:
    """Colour and line style of an arm; an unknown one gets a line of its own kind in a colour that its name decides."""
    return LOOKS.get(suffix, (_OTHERS[sum(suffix.encode()) % len(_OTHERS)], _UNKNOWN))


def new_figure(height: float) -> Figure:
    """An empty figure of the usual width; `height` in inches."""
    return Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained", facecolor="white")


def quiet(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Labels with units, a faint grid, no box."""
    axes.set_xlabel(x, fontsize=_NORMAL)
    axes.set_ylabel(y, fontsize=_NORMAL)
    axes.set_title(title, fontsize=_NORMAL, loc="left")
    axes.tick_params(which="both", labelsize=_SMALL)
    axes.xaxis.get_offset_text().set_fontsize(_SMALL)
    axes.yaxis.get_offset_text().set_fontsize(_SMALL)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def wrapped(text: str, width: int) -> str:
    """Text on lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, to the right of them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, _short(labels), loc="outside right upper", **_LEGEND)


def panel_legend(axes: Axes) -> None:
    """A legend for one row of panels, to the right of its last one."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, _short(labels), loc="upper left", bbox_to_anchor=(1.02, 1.05), borderaxespad=0, **_LEGEND)


_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": _SMALL, "handlelength": 2.4}


def _short(labels: list[str]) -> list[str]:
    return [wrapped(label, 24) for label in labels]


def step_axis(axes: Axes, ticks: int = 6, label: bool = True) -> None:
    """Training steps along x: 500, or, on a long axis, 20k and 1M."""
    thousands = EngFormatter(sep="")
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.xaxis.set_major_formatter(lambda x, _: thousands(x) if axes.get_xlim()[1] > 10_000 else f"{x:,.0f}")
    if label:
        axes.set_xlabel("training step", fontsize=_NORMAL)


def end_in_view(panels: Sequence[Axes]) -> None:
    """One y scale on which the last third of every line fills the panels."""
    ends = [float(y) for axes in panels for line in axes.lines for y in _last_third(line)]
    if ends:
        margin = max(0.12 * (max(ends) - min(ends)), 0.5)
        for axes in panels:
            axes.set_ylim(min(ends) - margin, max(ends) + margin)


def _last_third(line: Line2D) -> np.ndarray:
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    late = x >= x.min() + 2 / 3 * (x.max() - x.min()) if len(x) else np.isfinite(x)
    return np.asarray(y[late & np.isfinite(y)])


def name_lines(axes: Axes, names: Sequence[str]) -> None:
    """Names the panel's lines in their colours, once its scales are final.

    At the right edge, moved apart where names would overlap; a line that ends before it, above its end.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    gap = 1.25 * _SMALL / 72 * axes.figure.dpi / axes.bbox.height
    at_edge: list[tuple[float, str, str]] = []
    for line, name in zip(axes.lines, names, strict=True):
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        if x[-1] > left + 0.85 * (right - left):
            at_edge.append(((y[-1] - low) / (high - low), name, str(line.get_color())))
        else:
            side = "right" if x[-1] > (left + right) / 2 else "left"
            _name(axes, name, (x[-1], y[-1]), "data", str(line.get_color()), above=side)
    places: list[float] = []
    for wanted, _, _ in sorted(at_edge):
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    top = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    for place, (_, name, colour) in zip(places, sorted(at_edge), strict=True):
        _name(axes, name, (1, place), "axes fraction", colour)


def _name(axes: Axes, name: str, place: tuple[float, float], where: str, colour: str, above: str = "") -> None:
    """Text to the right of a place, or above it, with its "left" or "right" end there."""
    offset, across, along = ((0, 3), above, "bottom") if above else ((3, 0), "left", "center")
    axes.annotate(
        name, place, xytext=offset, xycoords=where, textcoords="offset points",
        fontsize=_SMALL, color=colour, ha=across, va=along, annotation_clip=False,
    )  # fmt: skip

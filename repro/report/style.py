"""One look for all figures: colours that the colour-blind can tell apart (Okabe and Ito 2008), quiet axes."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#888888"

WIDTH = 8.0  # inches; 1,200 pixels
_DPI = 150
_SMALL, _NORMAL = 8, 9  # points

LOOKS = {
    "supervised": (BLACK, "-"),
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
}
"""Colour and line of an arm, by what its name ends in: the same in every figure."""

_OTHERS = (BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY)


def look(suffix: str) -> tuple[str, str]:
    """Colour and line style of an arm; an unknown one gets a dash-dotted line in a colour that its name decides."""
    return LOOKS.get(suffix, (_OTHERS[sum(suffix.encode()) % len(_OTHERS)], "-."))


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
        labels = [wrapped(label, 24) for label in labels]
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=_SMALL, handlelength=2.4)

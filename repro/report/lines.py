"""Lines along training, one for each arm, with the legend to the right; many arms in several panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.report.arms import Arm
from repro.report.families import CONTEXT, families
from repro.report.series import Band
from repro.report.style import end_in_view, legend, look, new_figure, panel_legend, quiet, step_axis

_MANY = (
    " Arms that change the same part of the method share a row; MPL and h = 0 are in each, and only they have bands. "
    "Scales are those of the last third of training."
)


@dataclass(frozen=True)
class Quantity:
    """Something that every arm has a line of."""

    title: str
    unit: str  # along the y axis
    draw: Callable[[Axes, Arm, bool], None]  # with a band or without
    low: float | None = None  # of the y axis, where all arms share a panel
    high: float | None = None
    says: str = ""  # title and unit in one, along the y axis where a panel's title is its family


def line_figure(arms: Sequence[Arm], quantities: Sequence[Quantity]) -> tuple[Figure, str]:
    """Few arms: the quantities below each other. Many: a row for each family of arms, a column for each quantity.

    Returns the figure and what its caption must say of the layout.
    """
    panels = families(arms)
    many = len(panels) > 1
    height, shape = (2.2, (len(panels), len(quantities))) if many else (2.5, (len(quantities), 1))
    figure = new_figure(0.6 + height * shape[0])
    grid = figure.subplots(*shape, sharex=True, squeeze=False)
    if not many:
        for axes, quantity in zip(grid[:, 0], quantities, strict=True):
            _draw(axes, quantity, arms, arms)
            quiet(axes, y=quantity.unit, title=quantity.title)
            axes.set_ylim(quantity.low, quantity.high)
        legend(figure, grid[0, 0])
    for row, (title, members) in zip(grid, panels if many else (), strict=many):
        for axes, quantity in zip(row, quantities, strict=True):
            _draw(axes, quantity, members, [arm for arm in members if arm.suffix in CONTEXT])
            quiet(axes, y=quantity.says or quantity.unit, title=title if axes is row[0] else "")
            end_in_view([axes])
        panel_legend(row[-1])
    for axes in grid[-1]:
        step_axis(axes)
    return figure, _MANY if many else ""


def _draw(axes: Axes, quantity: Quantity, arms: Sequence[Arm], shaded: Sequence[Arm]) -> None:
    for arm in arms:
        quantity.draw(axes, arm, arm in shaded)


def draw_band(axes: Axes, band: Band, arm: Arm, shade: bool = True) -> None:
    """A line in % and the interval around it; gaps where a value is not known."""
    colour, line = look(arm.suffix)
    known = np.isfinite(band.middle)
    axes.plot(band.steps[known], 100 * band.middle[known], color=colour, linestyle=line, linewidth=1.6, label=arm.title)
    if shade:
        axes.fill_between(band.steps, 100 * band.low, 100 * band.high, color=colour, alpha=0.12, linewidth=0)

"""Accuracy: of the final weights by arm, and along training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.numbers import percent
from repro.report.pictures import Picture
from repro.report.series import Band, curve, mean_band, rate_band
from repro.report.style import legend, look, new_figure, quiet, wrapped
from repro.verify.statistics import mean_interval


def forest(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Every arm's mean with its interval over the seeds' own results."""
    shown = [arm for arm in arms if arm.accuracy]
    if not shown:
        return None
    figure = new_figure(1.0 + 0.36 * len(shown))
    axes = figure.subplots()
    quiet(axes, x="test accuracy (%)")
    axes.grid(visible=False, axis="y")
    for row, arm in enumerate(shown):
        _forest_row(axes, row, arm)
    axes.set_yticks(range(len(shown)), [wrapped(arm.title, 36) for arm in shown], fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    return Picture(
        f"{group.key}_accuracy",
        figure,
        f"Test accuracy of {len(shown)} arms, one row each. {_ranking(shown)}",
        "Large dots: mean over seeds with its 95 % interval. Small dots: the seeds themselves.",
    )


def _forest_row(axes: Axes, row: int, arm: Arm) -> None:
    colour, _ = look(arm.suffix)
    values = 100 * np.array([arm.accuracy[seed] for seed in sorted(arm.accuracy)])
    offsets = 0.24 * np.sin(2.4 * np.arange(len(values)))  # spread out, the same way every time
    if len(values) > 1:
        axes.plot(values, row + offsets, ".", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    mean, low, high = mean_interval(values.tolist())
    axes.plot([low, high], [row, row], "-", color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot([mean], [row], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)


def _ranking(arms: Sequence[Arm]) -> str:
    means = sorted(((mean_interval(list(arm.accuracy.values()))[0], arm.title) for arm in arms), reverse=True)
    (best, first), (worst, last) = means[0], means[-1]
    return f"Highest: {first}, {percent(best)} %; lowest: {last}, {percent(worst)} %."


def learning_curves(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Mean accuracy along training; for data sets with a notion of a good separator also the share that found one."""
    series = [(arm, curve(arm.runs, f"accuracy/{arm.counted}")) for arm in arms]
    shown = [(arm, values) for arm, values in series if values is not None]
    if not shown:
        return None
    panels = 2 if group.good else 1
    figure = new_figure(0.6 + 2.5 * panels)
    grid = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for arm, values in shown:
        draw_band(grid[0], mean_band(values), arm)
        if group.good:
            draw_band(grid[1], rate_band(values, group.good[0]), arm, shade=arm.suffix in ("mpl", group.reference))
    quiet(grid[0], y="test accuracy (%)", title="Mean over seeds")
    if group.good:
        good = f"{100 * group.good[0]:g}"
        quiet(grid[1], y="data sets (%)", title=f"Share of data sets at least {good} % correct")
        grid[1].set_ylim(-3, 103)
    grid[-1].set_xlabel("training step", fontsize=9)
    legend(figure, grid[0])
    alt = f"Test accuracy along training for {len(shown)} arms" + (
        f", and the share of data sets with at least {100 * group.good[0]:g} % correct. " if group.good else ". "
    )
    ends = "; ".join(f"{arm.title}: {percent(float(mean_band(values).middle[-1]))} %" for arm, values in shown)
    caption = "Bands: 95 % intervals over seeds" + (
        "; for the share of data sets only those of MPL and of the reference, so that the lines stay visible."
        if group.good
        else "."
    )
    return Picture(f"{group.key}_curves", figure, f"{alt}Mean at the end: {ends}.", caption)


def draw_band(axes: Axes, band: Band, arm: Arm, shade: bool = True) -> None:
    """A line in % and the interval around it; gaps where a value is not known."""
    colour, line = look(arm.suffix)
    known = np.isfinite(band.middle)
    axes.plot(band.steps[known], 100 * band.middle[known], line, color=colour, linewidth=1.6, label=arm.title)
    if shade:
        axes.fill_between(band.steps, 100 * band.low, 100 * band.high, color=colour, alpha=0.12, linewidth=0)

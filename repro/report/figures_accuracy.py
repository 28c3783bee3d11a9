"""Accuracy: of the final weights by arm, and along training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.lines import Quantity, draw_band, line_figure
from repro.report.numbers import percent
from repro.report.pictures import Picture
from repro.report.series import curve, mean_band, rate_band
from repro.report.style import look, new_figure, quiet, wrapped
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
    offsets = 0.24 * np.sin(1.2 + 2.4 * np.arange(len(values)))  # spread out, the same way every time
    if len(values) > 1:
        strength = min(0.8, max(0.3, 4 / len(values)))  # few seeds are looked at one by one
        axes.plot(values, row + offsets, ".", color=colour, alpha=strength, markersize=6, markeredgewidth=0, zorder=3)
    mean, low, high = mean_interval(values.tolist())
    axes.plot([low, high], [row, row], "-", color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot([mean], [row], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)


def _ranking(arms: Sequence[Arm]) -> str:
    means = sorted(((mean_interval(list(arm.accuracy.values()))[0], arm.title) for arm in arms), reverse=True)
    (best, first), (worst, last) = means[0], means[-1]
    return f"Highest: {first}, {percent(best)} %; lowest: {last}, {percent(worst)} %."


def learning_curves(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Mean accuracy along training; for data sets with a notion of a good separator also the share that found one."""
    series = {arm.name: curve(arm.runs, f"accuracy/{arm.counted}") for arm in arms}
    known = {name: values for name, values in series.items() if values is not None}
    shown = [arm for arm in arms if arm.name in known]
    if not shown:
        return None

    def mean(axes: Axes, arm: Arm, shade: bool) -> None:
        draw_band(axes, mean_band(known[arm.name]), arm, shade)

    def share(axes: Axes, arm: Arm, shade: bool) -> None:
        shade = shade and arm.suffix in ("mpl", group.reference)
        draw_band(axes, rate_band(known[arm.name], group.good[0]), arm, shade)

    quantities = [Quantity("Mean over seeds", "test accuracy (%)", mean)]
    if group.good:
        title = f"Share of data sets at least {100 * group.good[0]:g} % correct"
        quantities.append(Quantity(title, "data sets (%)", share, low=-3, high=103))
    figure, layout = line_figure(shown, quantities)
    alt = f"Test accuracy along training for {len(shown)} arms" + (
        f", and the share of data sets with at least {100 * group.good[0]:g} % correct. " if group.good else ". "
    )
    ends = "; ".join(f"{arm.title}: {percent(float(mean_band(known[arm.name]).middle[-1]))} %" for arm in shown)
    caption = "Bands: 95 % intervals over seeds" + (
        "; for the share of data sets only those of MPL and of the reference, so that the lines stay visible."
        if group.good
        else "."
    )
    return Picture(f"{group.key}_curves", figure, f"{alt}Mean at the end: {ends}.", caption + layout)

"""h along training: its size, its spread from step to step, and what of it is noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from repro.report.arms import Arm
from repro.report.families import MOST
from repro.report.groups import Group
from repro.report.numbers import plain
from repro.report.pictures import Picture
from repro.report.series import Series, metric
from repro.report.style import GREY, look, new_figure, quiet, step_axis, wrapped

_COLUMNS = 3
_ARMS_IN_A_ROW = 8  # of the last panel, in the height of one row of the others


def feedback_panels(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """One panel for each arm that has feedback, since the forms of h differ in scale by orders of magnitude."""
    shown = [(arm, series) for arm in arms if (series := metric(arm.runs, "feedback")) is not None]
    if not shown:
        return None
    norms = [(arm, series) for arm in arms if (series := metric(arm.runs, "feedback_gradient_norm")) is not None]
    many = len(norms) > MOST
    panels = len(shown) + (bool(norms) and not many)
    rows, below = -(-panels // _COLUMNS), -(-len(norms) // _ARMS_IN_A_ROW) if many else 0
    figure = new_figure(0.3 + 1.9 * (rows + below))
    parts = figure.subfigures(2, 1, height_ratios=[rows, below], squeeze=False)[:, 0] if many else [figure]
    places = parts[0].add_gridspec(rows, _COLUMNS)
    grid = [parts[0].add_subplot(places[divmod(i, _COLUMNS)]) for i in range(panels)]
    for axes, (arm, series) in zip(grid, shown, strict=False):
        _h_panel(axes, arm, series)
    if many:
        _norm_rows(parts[1].subplots(), norms)
    elif norms:
        _norm_panel(grid[-1], norms)
    for i, axes in enumerate(grid):
        step_axis(axes, ticks=4, label=i >= panels - _COLUMNS)
    for axes in grid[: len(shown) : _COLUMNS]:
        axes.set_ylabel("h", fontsize=9)
    sizes = "; ".join(f"{arm.title}: {_size(arm, series)}" for arm, series in shown)
    return Picture(
        f"{group.key}_feedback",
        figure,
        f"The feedback h along training, one panel for each of {len(shown)} arms. Over the whole run, {sizes}.",
        "Line: h averaged over the steps since the last point and over seeds. Band: ± one standard deviation from step "
        "to step. Dashed: the noise floor, what h would read had the student not moved (where h is a difference of two "
        "losses). Each panel has its own scale. Last panel: length of the gradient that h gives the teacher.",
    )


def _h_panel(axes: Axes, arm: Arm, series: Series) -> None:
    colour, _ = look(arm.suffix)
    h = series.values.mean(axis=0)
    spread = metric(arm.runs, "feedback_spread")
    if spread is not None and np.array_equal(spread.steps, series.steps):
        width = spread.values.mean(axis=0)
        axes.fill_between(series.steps, h - width, h + width, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(series.steps, h, color=colour, linewidth=1.5)
    floor = metric(arm.runs, "noise_floor")
    if floor is not None:
        axes.plot(floor.steps, floor.values.mean(axis=0), "--", color="black", linewidth=1.1)
    quiet(axes, title=wrapped(arm.title, 32))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.locator_params(axis="y", nbins=5)


def _norm_panel(axes: Axes, norms: Sequence[tuple[Arm, Series]]) -> None:
    for arm, series in norms:
        colour, line = look(arm.suffix)
        values = series.values.mean(axis=0)
        positive = values > 0
        axes.plot(series.steps[positive], values[positive], color=colour, linestyle=line, linewidth=1.4)
    quiet(axes, title="gradient of h·CE, norm")
    axes.set_yscale("log")


def _norm_rows(axes: Axes, norms: Sequence[tuple[Arm, Series]]) -> None:
    """So many lines would hide each other: a row for each arm, with median and middle nine tenths of the points."""
    for row, (arm, series) in enumerate(norms):
        values = series.values.mean(axis=0)
        if (values > 0).any():
            low, middle, high = np.percentile(values[values > 0], [5, 50, 95])
            axes.plot([low, high], [row, row], "-", color=look(arm.suffix)[0], linewidth=2)
            axes.plot([middle], [row], "o", color=look(arm.suffix)[0], markersize=5)
    quiet(axes, title="gradient of h·CE, norm: median and middle nine tenths of the points")
    axes.set_xscale("log")
    axes.set_yticks(range(len(norms)), [arm.title for arm, _ in norms])
    axes.set_ylim(len(norms) - 0.5, -0.5)


def _size(arm: Arm, series: Series) -> str:
    """Mean h and its spread in words."""
    mean = float(series.values.mean())
    spread = metric(arm.runs, "feedback_spread")
    text = f"mean {_three(mean)}"
    return text if spread is None else f"{text} with a spread of {_three(float(spread.values.mean()))}"


def _three(number: float) -> str:
    if number and abs(number) < 0.01:
        mantissa, exponent = f"{number:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return plain(number, 2)

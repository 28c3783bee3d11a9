"""The paper's Figure 2 redrawn: what each method's network answers at every point of the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from repro.evaluate.run import EvaluatedRun
from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.numbers import percent
from repro.report.pictures import Picture
from repro.report.style import BLUE, ORANGE, WIDTH, new_figure, quiet, wrapped

_REGIONS = LinearSegmentedColormap.from_list("regions", ["#F7DFAE", "#FFFFFF", "#B5D6EA"])
_CLASS_COLOURS = (ORANGE, BLUE)


def decision_regions(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """One panel for each arm of `group.boundary`, on the first data set of all: not chosen by its result."""
    by_suffix = {arm.suffix: arm for arm in arms}
    chosen = [by_suffix[suffix] for suffix in group.boundary if suffix in by_suffix]
    shown = [(arm, run) for arm in chosen for run in arm.runs[:1] if arm.counted in run.boundary]
    if not shown:
        return None
    width = WIDTH / len(shown)
    figure = new_figure(0.6 * width + 0.6)
    grid = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (arm, run) in zip(grid, shown, strict=True):
        _panel(axes, run, arm)
        axes.set_title(f"{wrapped(arm.title, int(14 * width))}\n{_accuracy(arm, run)}", fontsize=9, loc="left")
    seeds = sorted({run.seeds[0] for _, run in shown})
    which = "seed " + ", ".join(map(str, seeds))
    results = "; ".join(f"{arm.title}: {_accuracy(arm, run)}" for arm, run in shown)
    return Picture(
        f"{group.key}_regions",
        figure,
        f"Two half-moon clusters in the plane with the decision regions of {len(shown)} methods on the data set of "
        f"{which}. Correct on its test points: {results}.",
        f"The data set of {which}, the first one trained, not chosen by its result. Background: the network's answer "
        "(white: undecided), black line: its decision boundary. Large dots: labelled points; small: unlabelled ones, "
        "coloured by the class that training does not see.",
    )


def _panel(axes: Axes, run: EvaluatedRun, arm: Arm) -> None:
    drawn = run.boundary
    probability = drawn[arm.counted][0].astype(float) / 255
    quiet(axes)
    axes.grid(visible=False)
    axes.set_aspect("equal")
    axes.pcolormesh(
        drawn["x"], drawn["y"], probability, cmap=_REGIONS, vmin=0, vmax=1, shading="gouraud", rasterized=True
    )
    if probability.min() < 0.5 < probability.max():
        axes.contour(drawn["x"], drawn["y"], probability, levels=[0.5], colors="black", linewidths=1.2)
    for kind, colour in enumerate(_CLASS_COLOURS):
        points = drawn["points"][0][drawn["classes"][0] == kind]
        axes.plot(points[:, 0], points[:, 1], ".", color=colour, markersize=1.8, markeredgewidth=0, alpha=0.8)
    for kind, colour in enumerate(_CLASS_COLOURS):
        points = drawn["labelled"][0][drawn["labels"][0] == kind]
        axes.plot(points[:, 0], points[:, 1], "o", color=colour, markersize=6.5, markeredgecolor="black")
    axes.set_xlim(float(np.min(drawn["x"])), float(np.max(drawn["x"])))
    axes.set_ylim(float(np.min(drawn["y"])), float(np.max(drawn["y"])))
    axes.set_xticks([-1, 0, 1, 2])
    axes.set_yticks([-1, 0, 1])


def _accuracy(arm: Arm, run: EvaluatedRun) -> str:
    seed = run.seeds[0]
    return f"{percent(arm.accuracy[seed])} %" if seed in arm.accuracy else "no number"

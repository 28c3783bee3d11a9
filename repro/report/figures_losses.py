"""Small panels, one for each arm: the losses it trains on, and the accuracies of its networks along training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.numbers import percent, plain
from repro.report.pictures import Picture
from repro.report.series import curve, mean_band, metric
from repro.report.style import (
    BLACK,
    BLUE,
    ORANGE,
    PURPLE,
    Line,
    end_in_view,
    name_lines,
    new_figure,
    quiet,
    step_axis,
    wrapped,
)

_COLUMNS = 3

_LOSSES = (
    ("labels", BLACK, ("labelled_loss", "teacher_labelled_loss")),
    ("UDA", ORANGE, ("uda_loss",)),
    ("pseudo labels", BLUE, ("student_loss", "unlabelled_loss", "pseudo_label_loss")),
)
"""A line's name, its colour, and the columns of metrics.csv that it may be recorded in."""

_NETWORKS: tuple[tuple[str, str, Line, str], ...] = (
    ("teacher", ORANGE, "-", "teacher"),
    ("teacher, averaged", PURPLE, "--", "teacher_average"),
    ("student", BLUE, "-", "student"),
    ("student, averaged", BLACK, "--", "student_average"),
)
"""A line's name, its colour and style, and the network."""


@dataclass(frozen=True)
class _Drawn:
    """A line of one panel."""

    name: str
    colour: str
    style: Line
    steps: np.ndarray
    values: np.ndarray

    @property
    def ends(self) -> tuple[float, float]:
        """First and last value."""
        known = self.values[np.isfinite(self.values)]
        return float(known[0]), float(known[-1])


def training_losses(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Every loss of every arm, mean over seeds, all panels on one scale."""
    shown = [(arm, lines) for arm in arms if (lines := _losses(arm))]
    if not shown:
        return None
    ends = "; ".join(
        f"{arm.title}: " + ", ".join(f"{line.name} {plain(line.ends[0])} to {plain(line.ends[1])}" for line in lines)
        for arm, lines in shown
    )
    return Picture(
        f"{group.key}_losses",
        _panels(shown, "cross-entropy"),
        f"Losses along training, one panel for each of {len(shown)} arms. From the first to the last point, {ends}.",
        "Averaged over the steps since the last point and over seeds; one scale for all panels. Labels: the loss "
        "on labelled images (the teacher's, where there are two networks). UDA: consistency between views. Pseudo "
        "labels: the loss on them (the student's, where there are two networks). A gap: no image entered that loss.",
    )


def _losses(arm: Arm) -> list[_Drawn]:
    found = []
    for name, colour, columns in _LOSSES:
        series = next((values for column in columns if (values := metric(arm.runs, column)) is not None), None)
        if series is not None:
            mean = series.values.mean(axis=0)
            mean = np.where(mean == 0, np.nan, mean)  # exactly 0: masked or not this network's turn
            if np.isfinite(mean).any():
                found.append(_Drawn(name, colour, "-", series.steps, mean))
    return found


def network_curves(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Test accuracy of teacher and student, averaged or not, of every arm that has more than one network."""
    shown = [(arm, lines) for arm in arms if len(lines := _accuracies(arm)) > 1]
    if not shown:
        return None
    ends = "; ".join(
        f"{arm.title}: " + ", ".join(f"{line.name} {percent(line.ends[1] / 100)} %" for line in lines)
        for arm, lines in shown
    )
    return Picture(
        f"{group.key}_networks",
        _panels(shown, "test accuracy (%)", end=True),
        f"Test accuracy of each network along training, one panel for each of {len(shown)} arms. At the end, {ends}.",
        "Mean over seeds; one scale for all panels, that of the last third of training. Finetuning comes "
        "after training and has no curve.",
    )


def _accuracies(arm: Arm) -> list[_Drawn]:
    series = [(network, curve(arm.runs, f"accuracy/{network[3]}")) for network in _NETWORKS]
    return [
        _Drawn(name, colour, style, values.steps, 100 * mean_band(values).middle)
        for (name, colour, style, _), values in series
        if values is not None
    ]


def _panels(shown: Sequence[tuple[Arm, list[_Drawn]]], unit: str, end: bool = False) -> Figure:
    """One panel for each arm; its lines are named at their ends. With `end`, the last third fills the scale."""
    rows = -(-len(shown) // _COLUMNS)
    figure = new_figure(0.3 + 1.75 * rows)
    grid = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, (arm, lines) in zip(grid, shown, strict=False):
        for line in lines:
            axes.plot(line.steps, line.values, color=line.colour, linestyle=line.style, linewidth=1.4)
        quiet(axes, title=wrapped(arm.title, 32))
        step_axis(axes, ticks=3, label=False)
    if end:
        end_in_view(list(grid[: len(shown)]))
    for axes, (_, lines) in zip(grid, shown, strict=False):
        name_lines(axes, [line.name for line in lines])
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(shown) - _COLUMNS) : len(shown)]:
        axes.set_xlabel("training step", fontsize=9)
    for axes in grid[: len(shown) : _COLUMNS]:
        axes.set_ylabel(unit, fontsize=9)
    return figure

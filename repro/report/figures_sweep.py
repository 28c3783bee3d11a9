"""Accuracy and success against a setting that the paper leaves open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from repro.report.arms import Arm, swept_value
from repro.report.groups import Group
from repro.report.pictures import Picture
from repro.report.style import legend, look, new_figure, quiet
from repro.report.swept import swept
from repro.verify.statistics import mean_interval, rate_interval

_UNITS = {"noise": "noise (standard deviation)", "batch": "unlabelled batch (examples)"}
Point = tuple[float, Arm]


def sweeps(group: Group, arms: Sequence[Arm]) -> list[Picture]:
    """For each swept setting, mean accuracy and share of data sets with a good separator, by method."""
    by_setting: dict[str, dict[str, list[Point]]] = {}
    for arm in arms:
        point = swept(group, arm.name)
        if point and arm.accuracy:
            value = swept_value(arm, point.what, point.value)
            by_setting.setdefault(point.what, {}).setdefault(point.arm, []).append((value, arm))
    return [_sweep(group, what, methods) for what, methods in sorted(by_setting.items())]


def _sweep(group: Group, what: str, methods: dict[str, list[Point]]) -> Picture:
    figure = new_figure(3.1)
    left, right = figure.subplots(1, 2)
    values = sorted({value for points in methods.values() for value, _ in points})
    for row, (suffix, points) in enumerate(methods.items()):
        ordered = sorted(points, key=lambda point: point[0])
        x = np.array([values.index(value) for value, _ in ordered]) + 0.08 * (row - (len(methods) - 1) / 2)
        _line(
            left,
            suffix,
            x,
            [mean_interval(list(arm.accuracy.values())) for _, arm in ordered],
            _method(ordered[0][1], what),
        )
        _line(right, suffix, x, [_success(arm, group.good[0]) for _, arm in ordered], "")
    unit = _UNITS.get(what, what)
    quiet(left, x=unit, y="test accuracy (%)", title="Mean over data sets")
    quiet(right, x=unit, y="data sets (%)", title=f"At least {100 * group.good[0]:g} % correct")
    right.set_ylim(-3, 103)
    for axes in (left, right):
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.grid(visible=False, axis="x")
    legend(figure, left)
    return Picture(
        f"{group.key}_{what}",
        figure,
        f"Mean accuracy and share of data sets with a good separator against {unit}, at "
        f"{', '.join(f'{value:g}' for value in values)}, for "
        f"{', '.join(_method(points[0][1], what) for points in methods.values())}.",
        "Bars: 95 % intervals; values at equal distances, methods side by side so that equal results stay visible.",
    )


def _line(axes: Axes, suffix: str, x: np.ndarray, triples: Sequence[tuple[float, float, float]], label: str) -> None:
    colour, line = look(suffix)
    middle, low, high = 100 * np.array(triples, float).T
    axes.plot(x, middle, marker="o", linestyle=line, color=colour, linewidth=1.4, markersize=4, label=label)
    axes.vlines(x, low, high, color=colour, linewidth=1.4)


def _success(arm: Arm, threshold: float) -> tuple[float, float, float]:
    good = sum(share >= threshold for share in arm.accuracy.values())
    return (good / len(arm.accuracy), *rate_interval(good, len(arm.accuracy)))


def _method(arm: Arm, what: str) -> str:
    """The arm's title without the value of the swept setting."""
    return arm.title.split(f", {what} ")[0]

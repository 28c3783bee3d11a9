"""Figures of two moons: how often a good separator is found, what the networks answer, what the paper leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from repro.plan import Comparison, all_arms
from repro.report.figures import GREY, MAIN, WIDTH, figure, new_figure, stacked, wrapped
from repro.report.tables import NETWORKS, ArmRow, Record, arm_rows, sweep_points
from repro.results import Run
from repro.verify.statistics import mean_interval

_REGIONS = LinearSegmentedColormap.from_list("regions", ["#F3C96B", "#FFFFFF", "#8CC3E6"])
_CLASSES = (("#9C6A00", "o"), ("#004F80", "^"))
_SWEPT = {
    "data.noise": "noise (standard deviation)",
    "budget.unlabelled_batch": "unlabelled batch (examples)",
    "method.feedback_weight": "weight of h (feedback alone)",
}


@figure("success", "two_moons")
def success(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """How often each arm finds a good separator, with the exact interval of the rate."""
    panels = [(one, rows) for one in shown if one.good and (rows := _worth_drawing(arm_rows(record, one)))]
    if not panels:
        return
    drawing, grid = stacked([len(rows) for _, rows in panels], 0.27)
    for axes, (comparison, rows) in zip(grid, panels, strict=True):
        for place, row in enumerate(rows):
            hits, low, high = row.successes[0]
            colour = all_arms()[row.arm].colour
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([100 * hits / row.n], [place], "o", color=colour, markersize=6, markeredgecolor="white")
            axes.annotate(f"{hits} of {row.n}", (1.01, place), xycoords=axes.get_yaxis_transform(), fontsize=9,
                          va="center", annotation_clip=False)  # fmt: skip
        axes.set_yticks(range(len(rows)), [f"{row.title} ({NETWORKS[row.place.network]})" for row in rows], fontsize=9)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.set_title(wrapped(comparison.heading, 80))
        axes.grid(visible=False, axis="y")
    grid[-1].set_xlabel(f"data sets with at least {100 * panels[-1][0].good[0]:g} % right (%)")
    yield "", drawing


def _worth_drawing(rows: Sequence[ArmRow]) -> list[ArmRow]:
    """All arms; only the main ones where no arm finds a separator on a tenth of the data sets."""
    found = any(row.successes[0][0] >= row.n / 10 for row in rows)
    return [row for row in rows if found or row.arm in MAIN]


@figure("regions", "two_moons")
def decision_regions(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """What the networks that count answer at every point of the plane, on the first three data sets."""
    for comparison in shown:
        arms = [arm for arm in comparison.regions if record.has(comparison.run(arm))]
        places = [record.counted(comparison.run(arm)) for arm in arms]
        drawn = [(arm, at) for arm, at in zip(arms, places, strict=True)
                 if f"boundary.{at.network}" in record.runs[at.run].arrays]  # fmt: skip
        if not drawn:
            continue
        columns = max(len(record.runs[at.run].arrays[f"boundary.{at.network}"]) for _, at in drawn)
        height = 0.2 + len(drawn) * (0.62 * WIDTH / columns / 1.12 + 0.12)
        drawing, grid = new_figure(height, len(drawn), columns, squeeze=False, sharex=True, sharey=True)
        for row, (arm, place) in zip(grid, drawn, strict=True):
            run, accuracy = record.runs[place.run], record.percent(place)
            for i, axes in enumerate(row):
                seed = int(run.seeds.index[i])
                _panel(axes, run, place.network, i)
                axes.set_title(
                    f"data set {seed}: {accuracy[seed]:.1f} %" if seed in accuracy else "refused", fontsize=9
                )
            row[0].set_ylabel(f"{wrapped(comparison.title(arm), 20)}\n({NETWORKS[place.network]})", fontsize=9)
        yield comparison.setting, drawing


def _panel(axes: Axes, run: Run, network: str, i: int) -> None:
    found = {key.removeprefix("boundary."): array for key, array in run.arrays.items() if key.startswith("boundary.")}
    share = found[network][i].astype(float) / 255
    axes.grid(visible=False)
    axes.pcolormesh(found["x"], found["y"], share, cmap=_REGIONS, vmin=0, vmax=1, shading="gouraud", rasterized=True)
    if share.min() < 0.5 < share.max():
        axes.contour(found["x"], found["y"], share, levels=[0.5], colors="black", linewidths=1.3)
    for kind, (colour, marker) in enumerate(_CLASSES):
        points = found["points"][i][found["classes"][i] == kind]
        axes.plot(*points.T, ".", color=colour, markersize=2, markeredgewidth=0, rasterized=True)
        labelled = found["labelled"][i][found["labels"][i] == kind]
        axes.plot(*labelled.T, marker, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=1)
    axes.set_xlim(float(np.min(found["x"])), float(np.max(found["x"])))
    axes.set_ylim(float(np.min(found["y"])), float(np.max(found["y"])))
    axes.set_xticks([-1, 0, 1, 2])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=8)


@figure("sweep", "two_moons")
def sweep(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Mean accuracy against each setting that was varied; methods side by side so that equal results stay visible."""
    points = sweep_points(record, shown[0].page)
    keys = [key for key in _SWEPT if any(key == swept for swept, _ in points)]
    if not keys:
        return
    drawing, grid = new_figure(3.1, 1, len(keys), squeeze=False, sharey=True)
    for axes, key in zip(grid[0], keys, strict=True):
        arms = [arm for swept, arm in points if swept == key]
        values = sorted({value for arm in arms for value in points[key, arm]})
        for place, arm in enumerate(arms):
            look, mine = all_arms()[arm], points[key, arm]
            x = np.array([values.index(value) for value in mine]) + 0.1 * (place - (len(arms) - 1) / 2)
            middle, low, high = np.array([mean_interval([*record.percent(at).values()]) for at in mine.values()]).T
            axes.plot(x, middle, marker="osD^"[place % 4], color=look.colour, linestyle=look.line, markersize=5)
            axes.vlines(x, low, high, color=look.colour, linewidth=1.6)
            title = {"mpl": "MPL", "exact": "exact"}.get(arm, look.title.split(",")[0])
            axes.plot([], [], marker="osD^"[place % 4], color=look.colour, linestyle=look.line, label=title)
        axes.axhline(50, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(_SWEPT[key])
        axes.legend(fontsize=8.5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 0.12))
    grid[0][0].set_ylabel("test accuracy (%)")
    yield "", drawing

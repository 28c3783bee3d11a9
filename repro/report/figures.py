"""The figures, each of which answers one question a reader has, in the order in which pages show them.

A figure is a function with `@figure(name, *pages)` or, for a panel of each comparison, `@panels`; its question and
caption stand in templates/captions.j2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from repro.config import lookup
from repro.plan import Comparison, all_arms
from repro.report import tables
from repro.report.drawing import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    WIDTH,
    Drawn,
    all_drawn,
    band,
    beside,
    figure,
    interval,
    name_lines,
    name_rows,
    new_figure,
    panels,
    wrapped,
)
from repro.report.record import PAGES, Place, Record, points
from repro.report.tables import NETWORKS, NOTHING, Dose, FeedbackSize, Row
from repro.results import Run
from repro.verify.statistics import PairedDifference

MOST_FIGURES = 25
NEAR = 3.0
"""Points to both sides of zero in the overview; what lies beyond is an arrow with its number."""
FEW = 12
"""Up to so many seeds are drawn one by one."""
MAIN = ("supervised", "pseudo_label", "uda", "mpl_no_feedback", "no_feedback", "mpl", "exact")
"""Arms of figures in which all arms would hide each other."""
BRIEF = {"uda": "UDA", "mpl_no_feedback": "h = 0", "no_feedback": "h = 0", "mpl": "MPL"}
"""Arms where room is short."""
COMPARED = ("mpl", "mpl_held", "mpl_cosine", "mpl_reversed", "exact", "per_example")
"""Forms of feedback whose pseudo labels are held against those without; at most four are drawn."""
FOLLOWED = ("consistency_alone", "feedback_alone", "exact_alone", "exact_alone_reversed", "mpl_no_feedback", "mpl_held",
            "mpl_held_reversed", "mpl_weight_100", "mixup_no_feedback")  # fmt: skip
"""Arms whose planted labels are followed; the others would hide each other, and stand in the table."""
DATA = tuple(page for page in PAGES if page != "feedback")
"""Pages of one data set each."""
IMAGES = DATA[1:]


def all_figures(record: Record) -> list[Drawn]:
    """Every figure of this file that the recorded runs give."""
    return all_drawn(record)


def brief(arm: str) -> str:
    """An arm's title where room is short."""
    return BRIEF.get(arm, arm.removeprefix("mpl_").replace("_", " "))


def with_network(row: Row) -> str:
    """An arm and the network that counts."""
    return f"{row.title} ({NETWORKS[row.place.network]})"


@figure("feedback_everywhere")
def feedback_everywhere(record: Record, shown: list[Comparison]) -> Figure | None:
    """MPL minus h = 0 in every setting: accuracy, and wrong pseudo labels at the end."""
    names: list[str] = []
    accuracy: list[PairedDifference | None] = []
    wrong: list[PairedDifference | None] = []
    for comparison in shown:
        without = record.counted(comparison.run(comparison.reference))
        mpl = record.counted(comparison.run("mpl"))
        gain = record.paired(mpl, without)
        if gain and comparison.reference in {"mpl_no_feedback", "no_feedback"}:
            names.append(f"{wrapped(comparison.heading, 38)}\n{NETWORKS[mpl.network]}, {gain.n} seeds")
            accuracy.append(gain)
            rows = tables.wrong_labels(record, comparison)
            wrong.append(next((row.number.gain for row in rows if row.arm == "mpl"), None))
    if not names:
        return None
    drawing, grid = new_figure(1.0 + 0.62 * len(names), 1, 2, sharey=True)
    titles = ("test accuracy (points)", "wrong pseudo labels (points)")
    for axes, title, gains in zip(grid, titles, (accuracy, wrong), strict=True):
        for place, gain in enumerate(gains):
            if gain:
                _gain(axes, place, gain, BLACK, NEAR)
                axes.annotate(points(gain), (0.5, place), xytext=(0, 8), textcoords="offset points", ha="center",
                              xycoords=axes.get_yaxis_transform(), fontsize=9,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
        axes.set_xlim(-NEAR, NEAR)
        axes.set_xlabel(title)
        axes.grid(visible=False, axis="y")
    grid[0].set_yticks(range(len(names)), names, fontsize=9)
    grid[0].set_ylim(len(names) - 0.5, -0.7)
    return drawing


def _gain(axes: Axes, place: float, gain: PairedDifference, colour: str, limit: float) -> None:
    """A difference with its interval in a row; an arrow at the edge where they lie outside."""
    if abs(gain.mean) > limit:
        side = np.sign(gain.mean)
        axes.plot([0.97 * side * limit], [place], ">" if side > 0 else "<", color=colour, markersize=7)
        return
    low, high = (gain.low, gain.high) if np.isfinite(gain.low) else (gain.mean, gain.mean)
    interval(axes, place, max(low, -limit), gain.mean, min(high, limit), colour)
    for bound, marker in ((low, "<"), (high, ">")):
        if abs(bound) > limit:
            axes.plot([0.98 * np.sign(bound) * limit], [place], marker, color=colour, markersize=5)


@figure("selection")
def selection(record: Record, shown: list[Comparison]) -> Figure | None:
    """What choosing the checkpoint by test accuracy would add, by setting and arm."""
    places: list[Row | Comparison] = []  # a heading, then its arms
    for comparison in shown:
        rows = [row for row in tables.selections(record, comparison) if row.arm in MAIN]
        places += [comparison, *rows] if rows else []
    if not places:
        return None
    drawing, axes = new_figure(0.8 + 0.24 * len(places))
    for place, one in enumerate(places):
        if isinstance(one, Comparison):
            axes.text(-0.01, place, wrapped(one.heading, 60), transform=axes.get_yaxis_transform(), ha="right",
                      va="center", fontsize=9, weight="bold")  # fmt: skip
        elif one.number.gain:
            _gain(axes, place, one.number.gain, all_arms()[one.arm].colour, np.inf)
    ticks = {place: with_network(one) for place, one in enumerate(places) if isinstance(one, Row)}
    axes.set_yticks([*ticks], [*ticks.values()], fontsize=9)
    axes.set_ylim(len(places) - 0.4, -0.7)
    axes.set_xlabel("best on the test set minus final (points)")
    axes.grid(visible=False, axis="y")
    return drawing


@panels("attribution", *DATA, of=tables.attribution, height=lambda n: 0.5 * n, xlabel="test accuracy (%)")
def waterfall(axes: Axes, _: Record, comparison: Comparison, steps: list[Row]) -> None:
    """A bar from each part's accuracy to the next one's, with the interval of the difference at its end."""
    ends = []
    for place, step in enumerate(steps):
        level, gain = step.number.mean, step.number.gain
        start = steps[place - 1].number.mean if gain else level
        low, high = (level + bound - gain.mean if gain and np.isfinite(bound) else level
                     for bound in ((gain.low, gain.high) if gain else (level, level)))  # fmt: skip
        if gain:
            colour, hatch = (BLUE, "") if level >= start else (VERMILLION, "////")
            axes.barh(place, level - start, left=start, height=0.5, color=colour, alpha=0.7, hatch=hatch,
                      edgecolor="white", linewidth=0)  # fmt: skip
            axes.plot([start, start], [place - 1.25, place + 0.25], color=GREY, linewidth=0.8)
        else:
            axes.plot([level], [place], "o", color=BLACK, markersize=7)
        axes.plot([low, high], [place, place], color=BLACK, linewidth=1.6, solid_capstyle="butt")
        axes.annotate(points(gain) or f"{level:.2f} %", (max(high, level, start), place), xytext=(6, 0),
                      textcoords="offset points", fontsize=9, va="center")  # fmt: skip
        ends += [low, high]
    name_rows(axes, [f"{step.title}\n({NETWORKS[step.place.network]})" for step in steps])
    margin = 0.08 * (max(ends) - min(ends)) + 0.2
    axes.set_xlim(min(ends) - margin, max(ends) + 4.5 * margin)


def _compared(record: Record, comparison: Comparison) -> list[Row]:
    return [row for row in tables.arms(record, comparison) if row.number.gain]


@panels("differences", *IMAGES, of=_compared, height=lambda n: 0.31 * n, xlabel="test accuracy (points)")
def forest(axes: Axes, _: Record, comparison: Comparison, rows: list[Row]) -> None:
    """Every arm minus the reference, with its interval; few seeds as dots; arms far away as arrows."""
    gains = {row.arm: row.number.gain for row in rows if row.number.gain}
    near = [gain for arm, gain in gains.items() if all_arms()[arm].method == "mpl"] or [*gains.values()]
    ends = [abs(bound) for gain in near for bound in (gain.low, gain.high, gain.mean) if np.isfinite(bound)]
    limit = 1.15 * max([*ends, 0.4])
    for place, (arm, gain) in enumerate(gains.items()):
        _gain(axes, place, gain, all_arms()[arm].colour, limit)
        if gain.n <= FEW:
            inside = [value for value in gain.differences if abs(value) <= limit]
            axes.plot(inside, [place + 0.22] * len(inside), ".", color=GREY, markersize=5, markeredgewidth=0)
        beside(axes, place, points(gain))
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_xlim(-limit, limit)
    name_rows(axes, [with_network(row) for row in rows])
    axes.set_title(wrapped(f"{comparison.heading}: minus {comparison.title(comparison.reference)}", 80))


@dataclass(frozen=True)
class Line:
    """A network's mean accuracy over seeds along training."""

    arm: str
    network: str
    name: str
    style: str
    steps: np.ndarray
    mean: np.ndarray


def _accuracy_lines(record: Record, comparison: Comparison) -> list[Line]:
    lines = []
    for arm in (arm for arm in MAIN if arm in comparison.arms and arm != "pseudo_label"):  # whose student begins late
        counted = record.counted(comparison.run(arm))
        places = dict.fromkeys([tables.teacher_of(counted), counted])
        for place in places:
            curve = record.curve(place.run, f"accuracy.{place.network}")
            if not curve.empty:
                name = f"{brief(arm)}, {place.network.split('_')[0]}" if len(places) > 1 else brief(arm)
                style = "-" if place == counted else "--"
                mean = curve.to_numpy().mean(axis=0)
                lines.append(Line(arm, place.network, name, style, curve.columns.to_numpy(), mean))
    return lines


@panels("curves", *DATA, of=_accuracy_lines, height=lambda _: 2.5, xlabel="training step")
def along_training(axes: Axes, _: Record, __: Comparison, lines: list[Line]) -> None:
    """Test accuracy along training, teacher dashed and student solid; the last half of every line fills the panel."""
    late = []
    for line in lines:
        axes.plot(line.steps, line.mean, color=all_arms()[line.arm].colour, linestyle=line.style, linewidth=1.6)
        later = line.steps >= line.steps.min() + 0.5 * np.ptp(line.steps)
        late += line.mean[later & np.isfinite(line.mean)].tolist()
    margin = max(0.08 * (max(late) - min(late)), 0.5)
    axes.set_ylim(min(late) - margin, max(late) + margin)
    name_lines(axes, [line.name for line in lines])
    _steps_along(axes)
    axes.set_ylabel("test accuracy (%)")


def _steps_along(axes: Axes) -> None:
    thousands = EngFormatter(sep="")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: thousands(x) if axes.get_xlim()[1] > 10_000 else f"{x:,.0f}")
    )


def _feedback_arms(record: Record, comparison: Comparison) -> list[str]:
    known = {row.arm for row in tables.wrong_labels(record, comparison)}
    return [arm for arm in COMPARED if arm in known][:4]


@panels("wrong_labels", *DATA, of=_feedback_arms, height=lambda _: 2.3, xlabel="training step")
def wrong_pseudo_labels(axes: Axes, record: Record, comparison: Comparison, arms: list[str]) -> None:
    """Wrong pseudo labels with feedback minus those without, paired by seed, with the band of the difference."""
    without = record.curve(comparison.run(comparison.reference), "pseudo_label_wrong")
    for arm, style in zip(arms, ("-", "--", "-.", ":"), strict=False):
        theirs = record.curve(comparison.run(arm), "pseudo_label_wrong")
        seeds = theirs.index.intersection(without.index)
        difference = theirs.loc[seeds].to_numpy() - without.loc[seeds].to_numpy()
        band(axes, without.columns, difference, all_arms()[arm].colour, style)
    axes.axhline(0, color=GREY, linewidth=1)
    name_lines(axes, [brief(arm) for arm in arms])
    _steps_along(axes)
    axes.set_ylabel("wrong labels\n− h = 0 (points)")


def _one_scale(panels: Sequence[Axes]) -> None:
    for label in {axes.get_xlabel() for axes in panels}:
        alike = [axes for axes in panels if axes.get_xlabel() == label]
        ends = [end for axes in alike for end in axes.get_xlim()]
        for axes in alike:
            axes.set_xlim(min(ends), max(ends))


@panels("feedback", *IMAGES, of=tables.feedback_sizes, height=lambda n: 0.3 * n, end=_one_scale)
def size_of_feedback(axes: Axes, _: Record, __: Comparison, sizes: list[FeedbackSize]) -> None:
    """How large the feedback's gradient is, by arm, on a logarithmic axis."""
    for place, size in enumerate(sizes):
        if size.median < NOTHING:
            axes.annotate(
                "zero but for rounding", (0.01, place), xycoords=axes.get_yaxis_transform(), fontsize=9, va="center"
            )
        else:
            interval(axes, place, size.low, size.median, size.high, all_arms()[size.arm].colour)
    axes.set_xscale("log")
    name_rows(axes, [size.title for size in sizes])
    what = "norm of the feedback's gradient"
    axes.set_xlabel(f"{what} (% of the teacher's other gradients)" if sizes[0].relative else what)


# ---------------------------------------------------------------------------------------------- two moons


def _separators(record: Record, comparison: Comparison) -> list[Row]:
    """All arms; only the main ones where no arm finds a good separator on a tenth of the data sets."""
    rows = [row for row in tables.arms(record, comparison) if row.success]
    found = any(row.success.hits >= row.number.n / 10 for row in rows if row.success)
    return [row for row in rows if found or row.arm in MAIN]


@panels("success", "two_moons", of=_separators, height=lambda n: 0.27 * n,
        xlabel="data sets with at least 95 % right (%)")  # fmt: skip
def success(axes: Axes, _: Record, __: Comparison, rows: list[Row]) -> None:
    """How often each arm finds a good separator, with the exact interval of the rate."""
    for place, row in enumerate(rows):
        if row.success:
            rate, n = row.success, row.number.n
            interval(axes, place, rate.low, 100 * rate.hits / n, rate.high, all_arms()[row.arm].colour, 1.0)
            beside(axes, place, f"{rate.hits} of {n}")
    name_rows(axes, [with_network(row) for row in rows])
    axes.set_xlim(-2, 102)


_REGIONS = LinearSegmentedColormap.from_list("regions", ["#F3C96B", "#FFFFFF", "#8CC3E6"])
_CLASSES = (("#9C6A00", "o"), ("#004F80", "^"))


@figure("regions", "two_moons", each=True)
def decision_regions(record: Record, shown: list[Comparison]) -> Figure | None:
    """What the networks that count answer at every point of the plane, on the first three data sets."""
    comparison = shown[0]
    places = {arm: record.counted(comparison.run(arm)) for arm in comparison.regions if record.has(comparison.run(arm))}
    drawn = {arm: at for arm, at in places.items() if f"boundary.{at.network}" in record.runs[at.run].arrays}
    if not drawn:
        return None
    columns = max(len(record.runs[at.run].arrays[f"boundary.{at.network}"]) for at in drawn.values())
    height = 0.2 + len(drawn) * (0.62 * WIDTH / columns / 1.12 + 0.12)
    drawing, grid = new_figure(height, len(drawn), columns, squeeze=False, sharex=True, sharey=True)
    for row, (arm, place) in zip(grid, drawn.items(), strict=True):
        run, accuracy = record.runs[place.run], record.percent(place)
        for i, axes in enumerate(row):
            seed = int(run.seeds.index[i])
            _plane(axes, run, place, i)
            axes.set_title(f"data set {seed}: {accuracy[seed]:.1f} %" if seed in accuracy else "refused", fontsize=9)
        row[0].set_ylabel(f"{wrapped(comparison.title(arm), 20)}\n({NETWORKS[place.network]})", fontsize=9)
    return drawing


def _plane(axes: Axes, run: Run, place: Place, i: int) -> None:
    found = {key.removeprefix("boundary."): array for key, array in run.arrays.items() if key.startswith("boundary.")}
    share = found[place.network][i].astype(float) / 255
    axes.grid(visible=False)
    axes.pcolormesh(found["x"], found["y"], share, cmap=_REGIONS, vmin=0, vmax=1, shading="gouraud", rasterized=True)
    if share.min() < 0.5 < share.max():
        axes.contour(found["x"], found["y"], share, levels=[0.5], colors="black", linewidths=1.3)
    for kind, (colour, marker) in enumerate(_CLASSES):
        unlabelled = found["points"][i][found["classes"][i] == kind]
        axes.plot(*unlabelled.T, ".", color=colour, markersize=2, markeredgewidth=0, rasterized=True)
        labelled = found["labelled"][i][found["labels"][i] == kind]
        axes.plot(*labelled.T, marker, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=1)
    axes.set_xlim(float(np.min(found["x"])), float(np.max(found["x"])))
    axes.set_ylim(float(np.min(found["y"])), float(np.max(found["y"])))
    axes.set_xticks([-1, 0, 1, 2])
    axes.set_yticks([-1, 0, 1])
    axes.tick_params(labelsize=8)


_SWEPT = {
    "data.noise": "noise (standard deviation)",
    "budget.unlabelled_batch": "unlabelled batch (examples)",
    "method.feedback_weight": "weight of h (feedback alone)",
}


@figure("sweep", "two_moons")
def sweep(record: Record, shown: list[Comparison]) -> Figure | None:
    """Mean accuracy against each setting that was varied; methods side by side so that equal results stay visible."""
    swept = tables.sweep(record, shown[0].page)
    keys = [key for key in _SWEPT if any(one.key == key for one in swept)]
    if not keys:
        return None
    drawing, grid = new_figure(3.1, 1, len(keys), squeeze=False, sharey=True)
    for axes, key in zip(grid[0], keys, strict=True):
        mine = [one for one in swept if one.key == key]
        values, arms = sorted({one.value for one in mine}), list(dict.fromkeys(one.arm for one in mine))
        for place, arm in enumerate(arms):
            look, marker = all_arms()[arm], "osD^"[place % 4]
            numbers = {one.value: record.number(one.place) for one in mine if one.arm == arm}
            x = np.array([values.index(value) for value in numbers]) + 0.1 * (place - (len(arms) - 1) / 2)
            middle = np.array([number.mean for number in numbers.values()])
            half = np.array([number.half for number in numbers.values()])
            title = {"mpl": "MPL", "exact": "exact"}.get(arm, look.title.split(",")[0])
            axes.plot(x, middle, marker=marker, color=look.colour, linestyle=look.line, markersize=5)
            axes.vlines(x, middle - half, middle + half, color=look.colour, linewidth=1.6)
            axes.plot([], [], marker=marker, color=look.colour, linestyle=look.line, label=title)  # a larger mark
        axes.axhline(50, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(_SWEPT[key])
        axes.legend(fontsize=8.5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 0.12))
    grid[0][0].set_ylabel("test accuracy (%)")
    return drawing


# ---------------------------------------------------------------------------------------------- doses


def _with_dose(record: Record, comparison: Comparison) -> list[Dose]:
    return [row for row in tables.doses(record, comparison) if np.isfinite(row.share) and row.number.gain]


@panels("dose", "feedback", of=_with_dose, height=lambda _: 2.9,
        xlabel="norm of the feedback's gradient (% of the teacher's other gradients, median)")  # fmt: skip
def dose_and_response(axes: Axes, _: Record, __: Comparison, rows: list[Dose]) -> None:
    """Accuracy minus h = 0 against the size of the feedback's gradient, for each form of h."""
    for row in rows:
        if row.number.gain:
            colour, gain = all_arms()[row.arm].colour, row.number.gain
            marker = "v" if row.arm.endswith("reversed") else "s" if "exact" in row.arm else "o"
            axes.plot([row.share] * 2, [gain.low, gain.high], color=colour, linewidth=1.8)
            axes.plot([row.share], [gain.mean], marker, color=colour, label=row.title, markersize=6)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False, labelcolor="linecolor")
    axes.set_ylabel("test accuracy\n− h = 0 (points)")


QUALITIES = (
    ("signal / noise", {"signal_to_noise": "as it is", "signal_to_noise_baseline": "best baseline"}),
    ("cosine with the oracle's", {"oracle_cosine": "expected", "oracle_cosine_drawn": "one draw"}),
)


@figure("quality", "feedback")
def quality_of_feedback(record: Record, shown: list[Comparison]) -> Figure | None:
    """Signal-to-noise ratio and angle to an oracle's feedback along training, of MPL as published."""
    measured = [one for one in shown if not record.curve(one.run("mpl"), "signal_to_noise").empty]
    if not measured:
        return None
    drawing, grid = new_figure(0.4 + 2.3 * len(measured), len(measured), 2, squeeze=False)
    for row, comparison in zip(grid, measured, strict=True):
        for axes, (label, names) in zip(row, QUALITIES, strict=True):
            curves = [tables.measurable(record.curve(comparison.run("mpl"), key)) for key in names]
            for curve, style in zip(curves, ("-", "--"), strict=True):
                band(axes, curve.columns, curve.to_numpy(), BLACK, style)
            axes.axhline(0, color=GREY, linewidth=1)
            name_lines(axes, [*names.values()])
            axes.set_ylabel(label)
        row[0].set_ylabel(f"{wrapped(comparison.heading, 24)}\n{row[0].get_ylabel()}")
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    return drawing


def _followed(record: Record, comparison: Comparison) -> list[str]:
    ran = {row.arm for row in tables.planted(record, comparison)}
    return [arm for arm in FOLLOWED if arm in ran]


@panels("planted", "feedback", of=_followed, height=lambda _: 3.1, xlabel="training step")
def planted_labels(axes: Axes, record: Record, comparison: Comparison, arms: list[str]) -> None:
    """Of the pseudo labels that were wrong when planting ended, the share that is right, along training."""
    for arm in arms:
        run, look = comparison.run(arm), all_arms()[arm]
        curve = record.curve(run, "put_right").loc[:, lookup(record.runs[run].config, "plant.steps") :]
        mean = np.nanmean(curve.to_numpy(), axis=0)
        axes.plot(curve.columns, mean, color=look.colour, linestyle=look.line, linewidth=1.7)
    axes.set_ylim(-2, 102)
    name_lines(axes, [comparison.title(arm) for arm in arms])
    axes.set_ylabel("planted wrong labels\nput right (%)")

"""The figures, each of which answers one question a reader has, in the order in which pages show them.

A figure is a function with `@figure(name, *pages)` or, for a panel of each comparison, `@panels`; its question and
caption stand in templates/captions.j2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from repro.config import lookup
from repro.plan import Comparison, all_arms
from repro.report import tables
from repro.report.drawing import (
    BEHIND,
    BLACK,
    BLUE,
    COLUMNS,
    GREY,
    MARKS,
    VERMILLION,
    all_drawn,
    along,
    band,
    figure,
    interval,
    name_lines,
    name_rows,
    new_figure,
    panels,
    wrapped,
)
from repro.report.record import NETWORKS, PAGES, STUDIES, Place, Record, points, signed
from repro.report.tables import NOTHING, Dose, FeedbackSize, Row
from repro.results import Run
from repro.verify.statistics import PairedDifference

NEAR = 3.0
"""Points to both sides of zero in the overview; what lies beyond is an arrow with its number."""
FEW = 12
"""Up to so many seeds are drawn one by one."""
MAIN = ("supervised", "pseudo_label", "uda", "mpl_no_feedback", "no_feedback", "mpl", "exact")
"""Arms of figures in which all arms would hide each other."""
MAIN_MARKS = "oP^ssDv"
"""Of these arms' lines."""
BRIEF = {"uda": "UDA", "mpl_no_feedback": "h = 0", "no_feedback": "h = 0", "mpl": "MPL"}
"""Arms where room is short."""
COMPARED = ("mpl", "mpl_held", "mpl_cosine", "mpl_reversed", "exact", "per_example")
"""Forms of feedback whose pseudo labels are held against those without; at most four are drawn."""
BESIDE_LABELS = ("mpl", "mpl_held", "exact_held", "mixup_no_feedback")
WITHOUT_LABELS = ("feedback_alone", "exact_alone", "exact_alone_reversed")
"""Arms whose planted labels are followed; the others would hide each other, and stand in the table."""
DATA = tuple(page for page in PAGES if page not in STUDIES)
"""Pages of one data set each."""
IMAGES = DATA[1:]


all_figures = all_drawn
"""Every figure of this file that the recorded runs give, in its order."""


def brief(arm: str) -> str:
    """An arm's title where room is short."""
    return BRIEF.get(arm, arm.removeprefix("mpl_").replace("_", " "))


def with_network(row: Row) -> str:
    """An arm and the network that counts."""
    return f"{row.title} ({NETWORKS[row.place.network]})"


@figure("feedback_everywhere")
def feedback_everywhere(record: Record, shown: list[Comparison]) -> Figure | None:
    """MPL minus h = 0 in every setting: accuracy, and wrong pseudo labels at the end."""
    found: list[tuple[str, PairedDifference, PairedDifference | None]] = []
    for comparison in shown:
        without = record.counted(comparison.run(comparison.reference))
        mpl = record.counted(comparison.run("mpl"))
        gain = record.paired(mpl, without)
        if gain and comparison.reference in {"mpl_no_feedback", "no_feedback"}:
            rows = tables.wrong_labels(record, comparison)
            wrong = next((row.number.gain for row in rows if row.arm == "mpl"), None)
            found.append((f"{comparison.heading}\n{NETWORKS[mpl.network]}, {gain.n} seeds", gain, wrong))
    if not found:
        return None
    drawing, grid = new_figure(0.7 + 0.8 * len(found), 1, 2, sharey=True)
    for axes, measure, i in zip(grid, ("test accuracy", "wrong pseudo labels"), (1, 2), strict=True):
        for place, row in enumerate(found):
            difference = row[i]
            if isinstance(difference, PairedDifference):
                _gain(axes, place, difference, BLACK, NEAR)
                axes.annotate(points(difference), (0.5, place - 0.23), xycoords=axes.get_yaxis_transform(), ha="center",
                              va="center", bbox=BEHIND)  # fmt: skip
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
        axes.set_xlim(-NEAR, NEAR)
        axes.set_xlabel(f"{measure}\n− h = 0 (points)")
        axes.set_yticks([])
        axes.spines.left.set_visible(False)
    grid[0].set_ylim(len(found) - 0.75, -0.85)
    for place, (name, _, _) in enumerate(found):  # of both panels: it lies over the second
        grid[1].annotate(name, (0, place - 0.35), xycoords=grid[0].get_yaxis_transform(), va="bottom", bbox=BEHIND,
                         in_layout=False)  # fmt: skip
    return drawing


def _gain(axes: Axes, place: float, gain: PairedDifference, colour: str, limit: float) -> None:
    """A difference with its interval in a row; an arrow at the edge where they lie outside."""
    if abs(gain.mean) > limit:
        side = np.sign(gain.mean)
        axes.plot([0.97 * side * limit], [place], ">" if side > 0 else "<", color=colour, markersize=7, clip_on=False)
        return
    low, high = (gain.low, gain.high) if np.isfinite(gain.low) else (gain.mean, gain.mean)
    interval(axes, place, max(low, -limit), gain.mean, min(high, limit), colour)
    for bound, marker in ((low, "<"), (high, ">")):
        if abs(bound) > limit:
            axes.plot([0.98 * np.sign(bound) * limit], [place], marker, color=colour, markersize=5)


@panels("attribution", *DATA, of=tables.attribution, height=lambda n: 0.44 * n, xlabel="test accuracy (%)")
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
            axes.barh(place, level - start, left=start, height=0.34, color=colour, alpha=0.7, hatch=hatch,
                      edgecolor="white", linewidth=0)  # fmt: skip
            axes.plot([start, start], [place - 0.83, place + 0.17], color=GREY, linewidth=0.8, zorder=0)
        else:
            axes.plot([level], [place], "o", color=BLACK, markersize=7)
            axes.axvline(level, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
        axes.plot([low, high], [place, place], color=BLACK, linewidth=1.6, solid_capstyle="butt")
        ends += [low, high]
    values = [points(step.number.gain) or f"{step.number.mean:.2f} %, {step.number.n} seeds" for step in steps]
    name_rows(axes, [with_network(step) for step in steps], values)
    margin = 0.05 * (max(ends) - min(ends)) + 0.2
    axes.set_xlim(min(ends) - margin, max(ends) + margin)


def _compared(record: Record, comparison: Comparison) -> list[Row]:
    return [row for row in tables.arms(record, comparison) if row.number.gain]


@panels("differences", *IMAGES, of=_compared, height=lambda n: 0.42 * n, xlabel="test accuracy (points)")
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
            axes.plot(inside, [place + 0.2] * len(inside), ".", color=GREY, markersize=5, markeredgewidth=0)
    axes.axvline(0, color=GREY, linewidth=1, zorder=0)
    axes.set_xlim(-limit, limit)
    name_rows(axes, [with_network(row) for row in rows], [points(gain) for gain in gains.values()])
    axes.set_title(wrapped(f"{comparison.heading}: minus {comparison.title(comparison.reference)}", COLUMNS))


@dataclass(frozen=True)
class Line:
    """A network's mean accuracy over seeds along training."""

    arm: str
    name: str
    counts: bool
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
                mean = curve.to_numpy().mean(axis=0)
                lines.append(Line(arm, name, place == counted, curve.columns.to_numpy(), mean))
    return lines


@panels("curves", *DATA, of=_accuracy_lines, height=lambda _: 2.1, xlabel="training step")
def accuracy_along_training(axes: Axes, _: Record, __: Comparison, lines: list[Line]) -> None:
    """Test accuracy along training, teacher dashed and student solid; the last half of every line fills the panel."""
    late = []
    for line in lines:
        mark = MAIN_MARKS[MAIN.index(line.arm)] + ("" if line.counts else " ")
        along(axes, line.steps, line.mean, all_arms()[line.arm].colour, "-" if line.counts else "--", mark)
        later = line.steps >= line.steps.min() + 0.5 * np.ptp(line.steps)
        late += line.mean[later & np.isfinite(line.mean)].tolist()
    margin = max(0.08 * (max(late) - min(late)), 0.5)
    axes.set_ylim(min(late) - margin, max(late) + margin)
    name_lines(axes, [line.name for line in lines])
    _steps_along(axes)
    axes.set_ylabel("test accuracy (%)")


def _steps_along(axes: Axes) -> None:
    thousands = EngFormatter(sep="")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: thousands(x) if axes.get_xlim()[1] > 10_000 else f"{x:,.0f}")
    )


def _feedback_arms(record: Record, comparison: Comparison) -> list[str]:
    known = {row.arm for row in tables.wrong_labels(record, comparison) if row.number.gain}
    return [arm for arm in COMPARED if arm in known][:4]


@panels("wrong_labels", *DATA, of=_feedback_arms, height=lambda _: 1.9, xlabel="training step")
def wrong_pseudo_labels(axes: Axes, record: Record, comparison: Comparison, arms: list[str]) -> None:
    """Wrong pseudo labels with feedback minus those without, paired by seed, with the band of the difference."""
    without = record.curve(comparison.run(comparison.reference), "pseudo_label_wrong")
    for arm, style, mark in zip(arms, ("-", "--", "-.", ":"), MARKS, strict=False):
        theirs = record.curve(comparison.run(arm), "pseudo_label_wrong")
        seeds, steps = theirs.index.intersection(without.index), theirs.columns.intersection(without.columns)
        difference = theirs.loc[seeds, steps].to_numpy() - without.loc[seeds, steps].to_numpy()
        band(axes, steps, difference, all_arms()[arm].colour, style, mark)
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


def _feedback_sizes(record: Record, comparison: Comparison) -> list[FeedbackSize]:
    return [size for arm in comparison.arms if (size := tables.feedback_size(record, comparison, arm))]


@panels("feedback", *IMAGES, of=_feedback_sizes, height=lambda n: 0.42 * n + 0.5, end=_one_scale)
def size_of_feedback(axes: Axes, _: Record, __: Comparison, sizes: list[FeedbackSize]) -> None:
    """How large the feedback's gradient is, by arm, on a logarithmic axis."""
    for place, size in enumerate(sizes):
        if size.median < NOTHING:
            axes.annotate("zero but for rounding", (0.02, place), xycoords=axes.get_yaxis_transform(), va="center")
        else:
            interval(axes, place, size.low, size.median, size.high, all_arms()[size.arm].colour)
    axes.set_xscale("log")
    name_rows(axes, [size.title for size in sizes])
    what = "norm of the feedback's gradient"
    axes.set_xlabel(f"{what}\n(% of the teacher's other gradients)" if sizes[0].relative else what)


# ---------------------------------------------------------------------------------------------- two moons


def _separators(record: Record, comparison: Comparison) -> list[Row]:
    """All arms; none where no arm finds a good separator on a tenth of the data sets."""
    rows = [row for row in tables.arms(record, comparison) if row.success]
    return rows if any(row.success.hits >= row.number.n / 10 for row in rows if row.success) else []


@panels("success", "two_moons", of=_separators, height=lambda n: 0.4 * n,
        xlabel="data sets with at least 95 % right (%)")  # fmt: skip
def success(axes: Axes, _: Record, __: Comparison, rows: list[Row]) -> None:
    """How often each arm finds a good separator, with the exact interval of the rate."""
    for place, row in enumerate(rows):
        if row.success:
            rate, n = row.success, row.number.n
            interval(axes, place, rate.low, 100 * rate.hits / n, rate.high, all_arms()[row.arm].colour, 1.0)
    values = [f"{row.success.hits} of {row.number.n}" for row in rows if row.success]
    name_rows(axes, [with_network(row) for row in rows], values)
    axes.set_xlim(-2, 102)


_REGIONS = LinearSegmentedColormap.from_list("regions", ["#F3C96B", "#FFFFFF", "#8CC3E6"])
_CLASSES = (("#9C6A00", "o"), ("#004F80", "^"))


@figure("regions", "two_moons", each=True)
def decision_regions(record: Record, shown: list[Comparison]) -> Figure | None:
    """What two networks that count answer at every point of the plane, on the first three data sets."""
    comparison = shown[0]
    places = {arm: record.counted(comparison.run(arm)) for arm in comparison.regions if record.has(comparison.run(arm))}
    kept = {arm: at for arm, at in places.items() if f"boundary.{at.network}" in record.runs[at.run].arrays}
    drawn = dict([*kept.items()][-2:])  # those before have the border of the ones shown, or none
    if not drawn:
        return None
    sets = min(len(record.runs[at.run].arrays[f"boundary.{at.network}"]) for at in drawn.values())
    drawing, grid = new_figure(0.6 + 1.65 * sets, sets, len(drawn), squeeze=False, sharex=True, sharey=True)
    for column, (arm, place) in zip(grid.T, drawn.items(), strict=True):
        run, accuracy = record.runs[place.run], record.percent(place)
        for i, axes in enumerate(column):
            seed = int(run.seeds.index[i])
            _plane(axes, run, place, i)
            title = f"data set {seed}: {accuracy[seed]:.1f} %" if seed in accuracy else "refused"
            axes.set_title(title, weight="normal")
        title = wrapped(f"{comparison.title(arm)} ({NETWORKS[place.network]})", 24)
        column[0].set_title(f"{title}\n{column[0].get_title(loc='left')}")
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
    axes.set_xticks([])
    axes.set_yticks([])


_SWEPT = {
    "data.noise": "noise (standard deviation)",
    "budget.unlabelled_batch": "unlabelled batch (examples)",
    "method.feedback_weight": "weight of h (feedback alone)",
}


@figure("sweep", "two_moons")
def sweep(record: Record, shown: list[Comparison]) -> Figure | None:
    """Mean accuracy against each setting that was varied; methods side by side so that equal results stay visible."""
    swept = tables.sweep(record, shown[0].page)
    keys = [key for key in _SWEPT if any(one == key for one, _, _ in swept)]
    if not keys:
        return None
    drawing, grid = new_figure(2.1 * len(keys), len(keys), squeeze=False)
    for axes, key in zip(grid[:, 0], keys, strict=True):
        mine = {(arm, value): place for (one, arm, value), place in swept.items() if one == key}
        values, arms = sorted({value for _, value in mine}), list(dict.fromkeys(arm for arm, _ in mine))
        names = []
        for place, arm in enumerate(arms):
            look, mark = all_arms()[arm], MAIN_MARKS[MAIN.index(arm)]
            numbers = {value: record.number(place) for (one, value), place in mine.items() if one == arm}
            x = np.array([values.index(value) for value in numbers]) + 0.1 * (place - (len(arms) - 1) / 2)
            middle = np.array([number.mean for number in numbers.values()])
            half = np.array([number.half for number in numbers.values()])
            names.append({"mpl": "MPL", "exact": "exact"}.get(arm, look.title.split(",")[0]))
            axes.plot(x, middle, marker=mark, color=look.colour, linestyle=look.line, markersize=5.5)
            axes.vlines(x, middle - half, middle + half, color=look.colour, linewidth=1.6)
        name_lines(axes, names)
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(_SWEPT[key])
        axes.set_ylabel("test accuracy (%)")
    return drawing


# ---------------------------------------------------------------------------------------------- doses


FORMS = {
    "old − new, fixed\nweight": ("mpl", "mpl_weight_10", "mpl_weight_100", "mpl_weight_300"),
    "old − new, held": ("mpl_held", "mpl_held_30"),
    "exact, held": ("exact_held", "exact_held_30"),
}
"""Forms of feedback in several doses, by what they are called."""


def _with_dose(record: Record, comparison: Comparison) -> list[Dose]:
    drawn = [arm for arms in FORMS.values() for arm in arms]
    return [row for row in tables.doses(record, comparison) if row.arm in drawn and row.number.gain]


def _one_frame(panels: Sequence[Axes]) -> None:
    """The same axes in all panels; then each form has its name."""
    low, high = (end([line for axes in panels for line in axes.dataLim.intervaly]) for end in (min, max))
    left, right = (end([line for axes in panels for line in axes.dataLim.intervalx]) for end in (min, max))
    for axes in panels:
        axes.set_xlim(0.7 * left, 1.4 * right)
        axes.set_ylim(1.4 * min(low, -1), 1.4 * max(high, 1))
        name_lines(axes, [str(line.get_label()) for line in axes.lines[:-1]])  # the last is zero


@panels("dose", "feedback", of=_with_dose, height=lambda _: 2.9, end=_one_frame,
        xlabel="norm of the feedback's gradient\n(% of the teacher's other gradients)")  # fmt: skip
def dose_and_response(axes: Axes, _: Record, __: Comparison, rows: list[Dose]) -> None:
    """Accuracy minus h = 0 over the size of feedback's gradient; a line joins the doses of a form."""
    for (form, arms), mark in zip(FORMS.items(), MARKS, strict=False):
        gains = [(row.share, row.number.gain) for row in rows if row.arm in arms and row.number.gain]
        if gains:
            colour, x = all_arms()[arms[0]].colour, [share for share, _ in gains]
            axes.plot(x, [gain.mean for _, gain in gains], mark, color=colour, linestyle="-", linewidth=1.2, label=form,
                      markeredgecolor="white", markersize=7, markerfacecolor=colour)  # fmt: skip
            axes.vlines(
                x, [gain.low for _, gain in gains], [gain.high for _, gain in gains], color=colour, linewidth=1.4
            )
            for share, gain in gains:
                single = gain.differences if gain.n <= FEW else []
                axes.scatter([1.09 * share] * len(single), single, s=6, color=colour, alpha=0.6, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=1, zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    ticks = [-50, -20, -5, -2, -1, 0, 1, 2, 5]
    axes.set_yticks(ticks, [signed(tick, 0) for tick in ticks])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_ylabel("test accuracy\n− h = 0 (points)")


QUALITIES = (
    ("signal / noise", {"signal_to_noise": "h as it is", "signal_to_noise_baseline": "h less its\nmean"}),
    ("cosine with\nthe oracle's", {"oracle_cosine": "expected", "oracle_cosine_drawn": "of one draw"}),
)


@figure("quality", "feedback")
def quality_of_feedback(record: Record, shown: list[Comparison]) -> Figure | None:
    """Signal-to-noise ratio and angle to an oracle's feedback along training, of MPL as published."""
    measured = [one for one in shown if not record.curve(one.run("mpl"), "signal_to_noise").empty]
    if not measured:
        return None
    panels = [(comparison, quality) for comparison in measured for quality in QUALITIES]
    drawing, grid = new_figure(0.4 + 2.0 * len(panels), len(panels), squeeze=False)
    for axes, (comparison, (label, names)) in zip(grid[:, 0], panels, strict=True):
        curves = [tables.measurable(record.curve(comparison.run("mpl"), key)) for key in names]
        for curve, colour, style, mark in zip(curves, (BLACK, BLUE), ("-", "--"), ("o", "s "), strict=True):
            band(axes, curve.columns, curve.to_numpy(), colour, style, mark)
        axes.axhline(0, color=GREY, linewidth=1)
        name_lines(axes, [*names.values()])
        _steps_along(axes)
        axes.set_ylabel(label)
        if label == QUALITIES[0][0]:
            axes.set_title(wrapped(comparison.heading, COLUMNS))
    grid[-1, 0].set_xlabel("training step")
    return drawing


def _followed(arms: Sequence[str]) -> Callable[[Record, Comparison], list[str]]:
    def found(record: Record, comparison: Comparison) -> list[str]:
        gained = {row.arm for row in tables.planted(record, comparison) if row.number.gain}
        return [arm for arm in arms if arm in gained]

    return found


def _since_planting(
    axes: Axes, record: Record, comparison: Comparison, arms: list[str], curve: str, label: str
) -> None:
    """A curve of each arm minus that of its own reference, paired by seed, from the end of planting on."""
    for arm, mark in zip(arms, MARKS, strict=False):
        run, look = comparison.run(arm), all_arms()[arm]
        mine = record.curve(run, curve).loc[:, lookup(record.runs[run].config, "plant.steps") :]
        difference = mine - record.curve(tables.own_reference(record, comparison, arm), curve)
        band(axes, mine.columns, difference.loc[mine.index, mine.columns].to_numpy(), look.colour, look.line, mark)
    axes.axhline(0, color=GREY, linewidth=1)
    name_lines(axes, [wrapped(comparison.title(arm), 24) for arm in arms])
    _steps_along(axes)
    axes.set_ylabel(label)


for _name, _arms, _curve, _label in (
    ("planted", BESIDE_LABELS, "put_right", "put right\n− h = 0 (points)"),
    ("planted_alone", WITHOUT_LABELS, "pseudo_label_wrong", "wrong labels\n− consistency alone (points)"),
):
    panels(_name, "bias", of=_followed(_arms), height=lambda _: 2.2, xlabel="training step")(
        partial(_since_planting, curve=_curve, label=_label)
    )

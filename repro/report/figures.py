"""Figures, each of which answers one question a reader has. `FIGURES` has them all; pages show those of their data set.

A figure is a function with `@figure(name, *pages)`; its question and caption stand in templates/captions.j2.
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from repro.plan import Comparison, all_arms
from repro.report.tables import (
    NETWORKS,
    NOTHING,
    PAGES,
    FeedbackSize,
    Record,
    Step,
    arm_rows,
    attribution,
    curves,
    feedback_sizes,
    selections,
    signed,
    signed_interval,
    wrong_labels,
)
from repro.verify.statistics import PairedDifference, mean_interval

Drawing = Callable[[Record, Sequence[Comparison]], Iterator[tuple[str, Figure]]]

BLACK, GREY, BLUE, VERMILLION = "#000000", "#777777", "#0072B2", "#D55E00"
WIDTH = 8.0  # inches: 1,200 pixels
DPI = 150
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "svg.hashsalt": "repro",  # the same drawing, the same bytes
}
_NEAR = 3.0
"""Points to both sides of zero in the overview; what lies beyond is an arrow with its number."""
FEW = 12
"""Up to so many seeds are drawn one by one."""
MAIN = ("supervised", "pseudo_label", "uda", "mpl_no_feedback", "no_feedback", "mpl", "exact")
"""Arms of figures in which all arms would hide each other."""
COMPARED = ("mpl", "mpl_held", "mpl_cosine", "mpl_reversed", "exact", "per_example")
"""Forms of feedback whose pseudo labels are held against those without; at most four are drawn."""


DATA = tuple(page for page in PAGES if page != "feedback")
"""Pages of one data set each."""


@dataclass(frozen=True)
class Maker:
    """A registered figure."""

    name: str
    pages: tuple[str, ...]  # empty: one figure over all pages
    draw: Drawing


FIGURES: list[Maker] = []


def figure(name: str, *pages: str) -> Callable[[Drawing], Drawing]:
    """Registers a figure under its name, for these pages; without pages it is drawn once, over all of them."""

    def register(draw: Drawing) -> Drawing:
        FIGURES.append(Maker(name, pages, draw))
        return draw

    return register


@dataclass(frozen=True)
class Drawn:
    """A figure with its place: `key` is the name of its file."""

    key: str
    name: str  # of its caption
    page: str  # empty: the report itself
    title: str  # of its setting, where a page has several of them; else empty
    figure: Figure


def all_figures(record: Record) -> list[Drawn]:
    """Every registered figure that the recorded runs give, in the order of registration."""
    for name in ("figures_moons", "figures_doses"):  # each registers its own
        importlib.import_module(f"repro.report.{name}")
    found = []
    with mpl.rc_context(STYLE):
        for maker in FIGURES:
            for page in maker.pages or ("",):
                pages = (page,) if page else tuple(PAGES)
                shown = [one for each in pages for one in record.of_page(each) if not one.again]
                for suffix, drawing in maker.draw(record, shown) if shown else ():
                    key = "_".join(part for part in (page, maker.name, suffix.removeprefix("moons_")) if part)
                    title = next((one.heading for one in shown if one.setting == suffix), "")
                    found.append(Drawn(key, maker.name, page, title, drawing))
    return found


@figure("feedback_everywhere")
def feedback_everywhere(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """MPL minus h = 0 in every setting: accuracy, and wrong pseudo labels at the end."""
    rows = []
    for comparison in shown:
        pair = next((row.difference for row in arm_rows(record, comparison) if row.arm == "mpl"), None)
        wrong = next((row.difference for row in wrong_labels(record, comparison) if row.arm == "mpl"), None)
        if pair and comparison.reference in {"mpl_no_feedback", "no_feedback"}:
            rows.append((comparison, pair, wrong))
    if not rows:
        return
    drawing, (left, right) = new_figure(1.0 + 0.62 * len(rows), 1, 2, sharey=True)
    for axes, title, pairs in (
        (left, "test accuracy (points)", [pair for _, pair, _ in rows]),
        (right, "wrong pseudo labels (points)", [wrong for _, _, wrong in rows]),
    ):
        for place, pair in enumerate(pairs):
            if pair:
                _interval_row(axes, place, pair, BLACK, _NEAR, above=True)
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
        axes.set_xlim(-_NEAR, _NEAR)
        axes.set_xlabel(title)
        axes.grid(visible=False, axis="y")
    names = [f"{wrapped(one.heading, 38)}\n{NETWORKS[record.counted(one.run('mpl')).network]}, {pair.n} seeds"
             for one, pair, _ in rows]  # fmt: skip
    left.set_yticks(range(len(rows)), names, fontsize=9)
    left.set_ylim(len(rows) - 0.5, -0.7)
    yield "", drawing


@figure("selection")
def selection(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """What choosing the checkpoint by test accuracy would add, by setting and arm."""
    groups = [(one, [row for row in selections(record, one) if row.arm in MAIN]) for one in shown]
    groups = [(one, rows) for one, rows in groups if rows]
    if not groups:
        return
    total = sum(len(rows) + 1 for _, rows in groups)
    drawing, axes = new_figure(0.8 + 0.24 * total)
    place, ticks = 0, []
    for comparison, rows in groups:
        axes.text(-0.01, place, wrapped(comparison.heading, 60), transform=axes.get_yaxis_transform(), ha="right",
                  va="center", fontsize=9, weight="bold")  # fmt: skip
        for row in rows:
            place += 1
            ticks.append((place, f"{row.title} ({NETWORKS[row.place.network]})"))
            _interval_row(axes, place, row.excess, all_arms()[row.arm].colour, 1e9)
        place += 1
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=9)
    axes.set_ylim(total - 0.4, -0.7)
    axes.set_xlabel("best on the test set minus final (points)")
    axes.grid(visible=False, axis="y")
    yield "", drawing


@figure("attribution", *DATA)
def waterfall(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """A bar from each part's accuracy to the next one's, with the interval of the difference at its end."""
    panels = [(one, steps) for one in shown if (steps := attribution(record, one))]
    if not panels:
        return
    drawing, grid = stacked([len(steps) for _, steps in panels], 0.5)
    for axes, (comparison, steps) in zip(grid, panels, strict=True):
        for place, step in enumerate(steps):
            _bar(axes, place, step, steps[place - 1].level if place else step.level)
        names = [f"{step.title}\n({NETWORKS[step.place.network]})" for step in steps]
        axes.set_yticks(range(len(steps)), names, fontsize=9)
        axes.set_ylim(len(steps) - 0.4, -0.6)
        ends = [bound for step in steps for bound in _reach(step)]
        margin = 0.08 * (max(ends) - min(ends)) + 0.2
        axes.set_xlim(min(ends) - margin, max(ends) + 4.5 * margin)
        axes.set_title(wrapped(comparison.heading, 80))
        axes.grid(visible=False, axis="y")
    grid[-1].set_xlabel("test accuracy (%)")
    yield "", drawing


def _reach(step: Step) -> tuple[float, float]:
    if not step.gain or not np.isfinite(step.gain.low):
        return step.level, step.level
    return step.level + step.gain.low - step.gain.mean, step.level + step.gain.high - step.gain.mean


def _bar(axes: Axes, place: int, step: Step, start: float) -> None:
    if step.gain is None:
        axes.plot([step.level], [place], "o", color=BLACK, markersize=7)
        text = f"{step.level:.2f} %"
    else:
        colour, hatch = (BLUE, "") if step.level >= start else (VERMILLION, "////")
        axes.barh(place, step.level - start, left=start, height=0.5, color=colour, alpha=0.7, hatch=hatch,
                  edgecolor="white", linewidth=0)  # fmt: skip
        axes.plot([start, start], [place - 1.25, place + 0.25], color=GREY, linewidth=0.8)
        text = said(step.gain)
    low, high = _reach(step)
    axes.plot([low, high], [place, place], color=BLACK, linewidth=1.6, solid_capstyle="butt")
    right = max(high, step.level, start)
    axes.annotate(text, (right, place), xytext=(6, 0), textcoords="offset points", fontsize=9, va="center")


@figure("differences", "digits", "cifar10_4k", "svhn_1k", "imagenet_10pct")
def forest(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Every arm minus the reference, with its interval; few seeds as dots; arms far away as arrows."""
    panels = [(one, [row for row in arm_rows(record, one) if row.difference]) for one in shown]
    panels = [(one, rows) for one, rows in panels if rows]
    if not panels:
        return
    drawing, grid = stacked([len(rows) for _, rows in panels], 0.31)
    for axes, (comparison, rows) in zip(grid, panels, strict=True):
        near = [row.difference for row in rows if all_arms()[row.arm].method == "mpl" and row.difference]
        limit = _limit(near or [row.difference for row in rows if row.difference])
        for place, row in enumerate(rows):
            if row.difference:
                _interval_row(axes, place, row.difference, all_arms()[row.arm].colour, limit, beside=True)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_xlim(-limit, limit)
        axes.set_yticks(range(len(rows)), [f"{row.title} ({NETWORKS[row.place.network]})" for row in rows], fontsize=9)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(wrapped(f"{comparison.heading}: minus {comparison.title(comparison.reference)}", 80))
        axes.grid(visible=False, axis="y")
    grid[-1].set_xlabel("test accuracy (points)")
    yield "", drawing


def _interval_row(
    axes: Axes, place: float, pair: PairedDifference, colour: str, limit: float, *, above: bool = False,
    beside: bool = False,
) -> None:  # fmt: skip
    """Mean and interval in a row; an arrow at the edge where they lie outside; numbers above it or at the right."""
    low, high = (pair.low, pair.high) if np.isfinite(pair.low) else (pair.mean, pair.mean)
    if abs(pair.mean) > limit:
        side = np.sign(pair.mean)
        axes.plot([0.97 * side * limit], [place], ">" if side > 0 else "<", color=colour, markersize=7)
    else:
        axes.plot(
            [max(low, -limit), min(high, limit)], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt"
        )
        axes.plot([pair.mean], [place], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
        for bound, marker in ((low, "<"), (high, ">")):
            if abs(bound) > limit:
                axes.plot([0.98 * np.sign(bound) * limit], [place], marker, color=colour, markersize=5)
    if beside and pair.n <= FEW:
        inside = [value for value in pair.differences if abs(value) <= limit]
        axes.plot(inside, [place + 0.22] * len(inside), ".", color=GREY, markersize=5, markeredgewidth=0)
    if beside:
        axes.annotate(said(pair), (1.01, place), xycoords=axes.get_yaxis_transform(), fontsize=9, va="center",
                      annotation_clip=False)  # fmt: skip
    if above:
        axes.annotate(said(pair), (0.5, place), xytext=(0, 8), textcoords="offset points", ha="center",
                      xycoords=axes.get_yaxis_transform(), fontsize=9,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip


def _limit(pairs: Sequence[PairedDifference]) -> float:
    ends = [abs(bound) for pair in pairs for bound in (pair.low, pair.high, pair.mean) if np.isfinite(bound)]
    return 1.15 * max([*ends, 0.4])


@figure("curves", *DATA)
def along_training(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Test accuracy along training, teacher dashed and student solid."""
    panels = [(one, lines) for one in shown if (lines := _accuracy_lines(record, one))]
    if not panels:
        return
    drawing, grid = stacked([1] * len(panels), 2.5)
    for axes, (comparison, lines) in zip(grid, panels, strict=True):
        for line in lines:
            axes.plot(line.steps, line.middle, color=line.colour, linestyle=line.style, linewidth=1.6)
        _end_in_view(axes)
        name_lines(axes, [line.name for line in lines])
        _steps_along(axes)
        axes.set_title(wrapped(comparison.heading, 80))
        axes.set_ylabel("test accuracy (%)")
    grid[-1].set_xlabel("training step")
    yield "", drawing


@dataclass(frozen=True)
class Line:
    """A mean over seeds along training."""

    name: str
    colour: str
    style: str
    steps: np.ndarray
    middle: np.ndarray


def _accuracy_lines(record: Record, comparison: Comparison) -> list[Line]:
    lines = []
    for arm in (arm for arm in MAIN if arm in comparison.arms and arm != "pseudo_label"):  # whose student begins late
        run = comparison.run(arm)
        counted = record.counted(run).network
        roles = dict.fromkeys([counted.replace("student", "teacher"), counted])
        for network in roles:
            found = curves(record, run, f"accuracy.{network}")
            if found:
                mean = np.array(list(found.values())).mean(axis=0)
                name = f"{_brief(arm)}, {network.split('_')[0]}" if len(roles) > 1 else _brief(arm)
                style = "--" if len(roles) > 1 and network != counted else "-"
                lines.append(Line(name, all_arms()[arm].colour, style, record.runs[run].arrays["curve.step"], mean))
    return lines


def _brief(arm: str) -> str:
    """An arm's title where room is short."""
    known = {
        "pseudo_label": "pseudo labels",
        "uda": "UDA",
        "mpl_no_feedback": "h = 0",
        "no_feedback": "h = 0",
        "mpl": "MPL",
    }
    return known.get(arm, arm.removeprefix("mpl_").replace("_", " "))


@figure("wrong_labels", *DATA)
def wrong_pseudo_labels(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Wrong pseudo labels with feedback minus those without, paired by seed, with the band of the difference."""
    panels = [(one, arms) for one in shown if (arms := _compared(record, one))]
    if not panels:
        return
    drawing, grid = stacked([1] * len(panels), 2.3)
    for axes, (comparison, arms) in zip(grid, panels, strict=True):
        reference = comparison.run(comparison.reference)
        base, steps = curves(record, reference, "pseudo_label_wrong"), record.runs[reference].arrays["curve.step"]
        for arm, style in zip(arms, ("-", "--", "-.", ":"), strict=False):
            theirs = curves(record, comparison.run(arm), "pseudo_label_wrong")
            each = np.array([theirs[seed] - base[seed] for seed in sorted(theirs.keys() & base.keys())])
            middle, low, high = np.array([mean_interval(column.tolist()) for column in each.T]).T
            colour = all_arms()[arm].colour
            axes.plot(steps, middle, color=colour, linestyle=style, linewidth=1.6)
            axes.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(0, color=GREY, linewidth=1)
        name_lines(axes, [_brief(arm) for arm in arms], lines=axes.lines[: len(arms)])
        _steps_along(axes)
        axes.set_title(wrapped(comparison.heading, 80))
        axes.set_ylabel("wrong labels\n− h = 0 (points)")
    grid[-1].set_xlabel("training step")
    yield "", drawing


def _compared(record: Record, comparison: Comparison) -> list[str]:
    known = {row.arm for row in wrong_labels(record, comparison)}
    return [arm for arm in COMPARED if arm in known][:4]


@figure("feedback", "digits", "cifar10_4k", "svhn_1k", "imagenet_10pct")
def size_of_feedback(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """How large the feedback's gradient is, by arm, on a logarithmic axis."""
    panels = []
    for comparison in shown:
        sizes = feedback_sizes(record, comparison)
        panels += [
            (comparison, kind) for relative in (True, False) if (kind := [s for s in sizes if s.relative is relative])
        ]
    if not panels:
        return
    drawing, grid = stacked([len(sizes) for _, sizes in panels], 0.3)
    for axes, (comparison, sizes) in zip(grid, panels, strict=True):
        for place, size in enumerate(sizes):
            _size_row(axes, place, size)
        axes.set_xscale("log")
        axes.set_yticks(range(len(sizes)), [size.title for size in sizes], fontsize=9)
        axes.set_ylim(len(sizes) - 0.4, -0.6)
        axes.set_title(wrapped(comparison.heading, 80))
        axes.grid(visible=False, axis="y")
        what = "norm of the feedback's gradient"
        axes.set_xlabel(f"{what} (% of the teacher's other gradients)" if sizes[0].relative else what)
    for relative in (True, False):
        alike = [axes for axes, (_, sizes) in zip(grid, panels, strict=True) if sizes[0].relative is relative]
        ends = [end for axes in alike for end in axes.get_xlim()]
        for axes in alike:
            axes.set_xlim(min(ends), max(ends))
    yield "", drawing


def _size_row(axes: Axes, place: int, size: FeedbackSize) -> None:
    if size.median < NOTHING:
        axes.annotate(
            "zero but for rounding", (0.01, place), xycoords=axes.get_yaxis_transform(), fontsize=9, va="center"
        )
        return
    colour = all_arms()[size.arm].colour
    axes.plot([size.low, size.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([size.median], [place], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)


def said(pair: PairedDifference) -> str:
    """A difference with its interval, where it has one."""
    return f"{signed(pair.mean)} {signed_interval(pair.low, pair.high)}".strip()


def wrapped(text: str, width: int) -> str:
    """Text on lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


def new_figure(height: float, *shape: int, **kwargs: Any) -> tuple[Figure, Any]:
    """An empty figure of the usual width, `height` in inches, with one or more axes."""
    drawing = Figure(figsize=(WIDTH, height), layout="constrained")
    return drawing, drawing.subplots(*shape, **kwargs)


def stacked(rows: Sequence[int], height: float) -> tuple[Figure, list[Axes]]:
    """Panels under each other, as high as their rows."""
    ratios = [count * height + 0.3 for count in rows]
    total = sum(ratios) + 0.5 * len(rows)
    drawing, grid = new_figure(total, len(rows), 1, squeeze=False, height_ratios=ratios)
    return drawing, list(grid[:, 0])


def _steps_along(axes: Axes) -> None:
    thousands = EngFormatter(sep="")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: thousands(x) if axes.get_xlim()[1] > 10_000 else f"{x:,.0f}")
    )


def _end_in_view(axes: Axes) -> None:
    """A y scale on which the last half of every line fill the panel."""
    late = []
    for line in axes.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        late += list(y[(x >= x.min() + 0.5 * (x.max() - x.min())) & np.isfinite(y)])
    margin = max(0.08 * (max(late) - min(late)), 0.5)
    axes.set_ylim(min(late) - margin, max(late) + margin)


def name_lines(axes: Axes, names: Sequence[str], lines: Sequence[Any] | None = None) -> None:
    """Names the lines in their colours at the right edge, moved apart where they would overlap; scales are final."""
    low, high = axes.get_ylim()
    gap = 1.2 * 9 / 72 / (axes.get_window_extent().height / axes.figure.dpi)  # of the panel's height
    ends = []
    for line, name in zip(lines if lines is not None else axes.lines, names, strict=True):
        y = np.asarray(line.get_ydata(), float)
        ends.append(((y[np.isfinite(y)][-1] - low) / (high - low), name, str(line.get_color())))
    ends.sort()
    places: list[float] = []
    for wanted, _, _ in ends:
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    top = max(1.0, gap * (len(places) - 1))
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    for place, (_, name, colour) in zip(places, ends, strict=True):
        axes.annotate(name, (1, place), xytext=(4, 0), xycoords="axes fraction", textcoords="offset points",
                      fontsize=9, color=colour, va="center", annotation_clip=False)  # fmt: skip

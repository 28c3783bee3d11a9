"""Which part carries the result: from supervised learning to MPL, one part at a time, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from repro.report.arms import Arm
from repro.report.differences import different_data
from repro.report.groups import Group
from repro.report.numbers import NONE, percent, signed, signed_interval, signed_with_interval, table
from repro.report.pictures import Picture
from repro.report.style import BLACK, BLUE, GREY, VERMILLION, new_figure, quiet, wrapped
from repro.verify.statistics import in_percent, paired_difference


@dataclass(frozen=True)
class Step:
    """A network of a run, and what it has over the network of the step before, in points, paired by seed."""

    title: str
    source: str  # run and network
    accuracy: dict[int, float]  # seed -> %
    mean: float  # difference; NaN for the first step
    low: float
    high: float
    n: int  # seeds in both

    @property
    def level(self) -> float:
        """Mean accuracy, %."""
        return sum(self.accuracy.values()) / len(self.accuracy)

    @property
    def difference(self) -> str:
        """As it is written."""
        return signed_with_interval(self.mean, self.low, self.high)


_PARTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Supervised learning", (("supervised", "teacher"),)),
    ("+ UDA", (("uda", "teacher"),)),
    ("+ a student distilled from the UDA teacher, h = 0", (("mpl_no_feedback", "student"),)),
    ("+ feedback h", (("mpl", "student"),)),
    ("+ averaged weights", (("mpl", "student_average"), ("mpl_average", "student_average"))),
    ("+ finetuning on the labelled images", (("mpl_average", "student_finetuned"), ("mpl", "student_finetuned"))),
)
"""Each part with the networks that show it: the first that is recorded, of an arm's name and a network's."""

_NEEDED = {places[0][0] for _, places in _PARTS[:4]}
"""Arms without which a part would be credited with another's gain."""


def attribution(arms: Sequence[Arm]) -> list[Step]:
    """The parts that have run, in order; empty unless the first four are among them."""
    reference = next((arm for arm in arms if arm.suffix == "mpl_no_feedback"), None)
    by_suffix = {arm.suffix: arm for arm in arms if arm.accuracy and reference and not different_data(arm, reference)}
    if not by_suffix.keys() >= _NEEDED:
        return []
    steps: list[Step] = []
    common = set.intersection(*(set(by_suffix[suffix].accuracy) for suffix in _NEEDED))
    for title, places in _PARTS:
        found = _first(by_suffix, places)
        if found is None:
            continue
        source, accuracy = found
        accuracy = {seed: accuracy[seed] for seed in sorted(accuracy.keys() & common)}
        if not steps:
            steps.append(Step(title, source, accuracy, math.nan, math.nan, math.nan, len(accuracy)))
            continue
        pair = paired_difference(accuracy, steps[-1].accuracy)
        steps.append(Step(title, source, accuracy, pair.mean, pair.low, pair.high, pair.n))
    return steps


def attribution_rows(heading: str, steps: Sequence[Step]) -> list[list[str]]:
    """A setting's parts as rows of a table over several settings."""
    rows = []
    for i, step in enumerate(steps):
        adds = step.difference if i else NONE
        rows.append([heading if i == 0 else "", step.title, percent(step.level / 100, 2), adds, str(step.n)])
    return rows


def _first(arms: Mapping[str, Arm], places: Sequence[tuple[str, str]]) -> tuple[str, dict[int, float]] | None:
    for suffix, network in places:
        values = arms[suffix].networks.get(network) if suffix in arms else None
        if values:
            return f"{suffix}, {network}", in_percent(values)
    return None


def attribution_table(steps: Sequence[Step]) -> str:
    """One row for each part; the last row is the whole way."""
    rows = [
        [step.title, step.source, str(step.n), percent(step.level / 100, 2), signed(step.mean),
         signed_interval(step.low, step.high)]
        for step in steps
    ]  # fmt: skip
    whole = paired_difference(steps[-1].accuracy, steps[0].accuracy)
    rows.append(["**All of it**", "", str(whole.n), NONE, signed(whole.mean), signed_interval(whole.low, whole.high)])
    header = ["part", "arm, network", "seeds", "accuracy (%)", "adds (points)", "95 % interval"]
    return table(header, rows, right=4)


def waterfall(group: Group, steps: Sequence[Step]) -> Picture:
    """A bar from each part's accuracy to the next one's, with the interval of the difference at its end."""
    figure = new_figure(0.9 + 0.5 * len(steps))
    axes = figure.subplots()
    quiet(axes, x="test accuracy (%)")
    axes.grid(visible=False, axis="y")
    for row, step in enumerate(steps):
        _bar(axes, row, step, steps[row - 1].level if row else math.nan)
    axes.set_yticks(range(len(steps)), [wrapped(step.title, 34) for step in steps], fontsize=9)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    ends = [bound for step in steps for bound in _reach(step)]
    margin = 0.06 * (max(ends) - min(ends)) + 0.2
    axes.set_xlim(min(ends) - margin, max(ends) + 5 * margin)
    said = "; ".join(f"{step.title}: {step.difference}" for step in steps[1:])
    return Picture(
        f"{group.key}_attribution",
        figure,
        f"What each part adds, in points of test accuracy, from {percent(steps[0].level / 100)} % on. {said}.",
        "Each bar starts where the one above it ends; blue adds, orange takes away. Black lines: 95 % interval of the "
        "difference, paired by seed, about the bar's end. An interval that holds the bar's start "
        "does not settle whether there is an effect.",
    )


def _reach(step: Step) -> tuple[float, float]:
    if not math.isfinite(step.low):
        return step.level, step.level
    return step.level + step.low - step.mean, step.level + step.high - step.mean


def _bar(axes: Axes, row: int, step: Step, start: float) -> None:
    if math.isnan(start):
        axes.plot([step.level], [row], "o", color=GREY, markersize=7)
        text = f"{percent(step.level / 100, 2)} %"
    else:
        colour = BLUE if step.level >= start else VERMILLION
        axes.barh(row, step.level - start, left=start, height=0.5, color=colour, alpha=0.75, linewidth=0)
        axes.plot([start, start], [row - 1.25, row + 0.25], color=GREY, linewidth=0.8)
        text = step.difference
    low, high = _reach(step)
    axes.plot([low, high], [row, row], color=BLACK, linewidth=1.4, solid_capstyle="butt")
    right = max(high, step.level, start if math.isfinite(start) else step.level)
    axes.annotate(text, (right, row), xytext=(6, 0), textcoords="offset points", fontsize=8, va="center")

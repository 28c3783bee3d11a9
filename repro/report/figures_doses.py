"""Figures of studies 2 and 3: dose and response, the quality of h, planted wrong labels over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from repro.config import lookup
from repro.plan import Comparison, all_arms
from repro.report.doses import Dose, dose_rows, measurable, planted_rows
from repro.report.figures import BLACK, GREY, figure, name_lines, new_figure, stacked, wrapped
from repro.report.tables import Record, curves
from repro.verify.statistics import mean_interval

SHOWN = ("consistency_alone", "feedback_alone", "exact_alone", "exact_alone_reversed", "mpl_no_feedback", "mpl_held",
         "mpl_held_reversed", "mpl_weight_100", "mixup_no_feedback")  # fmt: skip
"""Arms whose planted labels are followed; the others would hide each other, and stand in the table."""


@figure("dose", "feedback")
def dose_and_response(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Accuracy minus h = 0 against the size of the feedback's gradient, for each form of h."""
    panels = [(one, rows) for one in shown if (rows := [r for r in dose_rows(record, one) if _has_dose(r)])]
    if not panels:
        return
    drawing, grid = stacked([1] * len(panels), 2.9)
    for axes, (comparison, rows) in zip(grid, panels, strict=True):
        for row in rows:
            assert row.student is not None  # noqa: S101 - `_has_dose`
            style = all_arms()[row.arm]
            marker = "v" if row.arm.endswith("reversed") else "s" if "exact" in row.arm else "o"
            axes.plot([row.share] * 2, [row.student.low, row.student.high], color=style.colour, linewidth=1.8)
            axes.plot([row.share], [row.student.mean], marker, color=style.colour, label=row.title, markersize=6)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set_xscale("log")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False, labelcolor="linecolor")
        axes.set_title(wrapped(comparison.heading, 80))
        axes.set_ylabel("test accuracy\n− h = 0 (points)")
    grid[-1].set_xlabel("norm of the feedback's gradient (% of the teacher's other gradients, median)")
    yield "", drawing


def _has_dose(row: Dose) -> bool:
    return bool(row.student and np.isfinite(row.share) and np.isfinite(row.student.low))


@figure("quality", "feedback")
def quality_of_feedback(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Signal-to-noise ratio and angle to an oracle's feedback along training, of MPL as published."""
    panels = [one for one in shown if curves(record, one.runs.get("mpl", ""), "signal_to_noise")]
    if not panels:
        return
    drawing, grid = new_figure(0.4 + 2.3 * len(panels), len(panels), 2, squeeze=False)
    for row, comparison in zip(grid, panels, strict=True):
        run = comparison.run("mpl")
        steps = record.runs[run].arrays["curve.step"]
        for axes, names in zip(
            row,
            ({"signal_to_noise": "as it is", "signal_to_noise_baseline": "best baseline"},
             {"oracle_cosine": "expected", "oracle_cosine_drawn": "one draw"}),
            strict=True,
        ):  # fmt: skip
            for (key, _), style in zip(names.items(), ("-", "--"), strict=True):
                values = measurable(np.array([*curves(record, run, key).values()]) / 100)
                middle, low, high = np.array([mean_interval(c[np.isfinite(c)].tolist()) for c in values.T]).T
                axes.plot(steps, middle, style, color=BLACK, linewidth=1.6)
                axes.fill_between(steps, low, high, color=BLACK, alpha=0.13, linewidth=0)
            axes.axhline(0, color=GREY, linewidth=1)
            name_lines(axes, list(names.values()), lines=axes.lines[: len(names)])
        row[0].set_ylabel(f"{wrapped(comparison.heading, 24)}\nsignal / noise")
        row[1].set_ylabel("cosine with the oracle's")
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    yield "", drawing


@figure("planted", "feedback")
def planted_labels(record: Record, shown: Sequence[Comparison]) -> Iterator[tuple[str, Figure]]:
    """Of the pseudo labels that were wrong when planting ended, the share that is right, along training."""
    panels = [(one, {row.arm for row in rows}) for one in shown if (rows := planted_rows(record, one))]
    if not panels:
        return
    drawing, grid = stacked([1] * len(panels), 3.1)
    for axes, (comparison, ran) in zip(grid, panels, strict=True):
        arms = [arm for arm in SHOWN if arm in ran]
        for arm in arms:
            run = comparison.run(arm)
            steps = record.runs[run].arrays["curve.step"]
            after = steps >= lookup(record.runs[run].config, "plant.steps")
            values = np.array([*curves(record, run, "put_right").values()])[:, after]
            style = all_arms()[arm]
            axes.plot(steps[after], np.nanmean(values, axis=0), color=style.colour, linestyle=style.line, linewidth=1.7)
        axes.set_ylim(-2, 102)
        name_lines(axes, [comparison.title(arm) for arm in arms])
        axes.set_title(wrapped(comparison.heading, 80))
        axes.set_ylabel("planted wrong labels\nput right (%)")
    grid[-1].set_xlabel("training step")
    yield "", drawing

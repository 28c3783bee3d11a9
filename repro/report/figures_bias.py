"""Confirmation bias: how many pseudo labels are wrong along training, and how many of them stay wrong."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.arms import Arm
from repro.report.figures_accuracy import draw_band
from repro.report.groups import Group
from repro.report.numbers import percent
from repro.report.pictures import Picture
from repro.report.series import curve, mean_band
from repro.report.style import legend, new_figure, quiet


def confirmation_bias(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Share of wrong pseudo labels, and the share of the wrong ones that keep the same wrong label."""
    shown = [(arm, series) for arm in arms if (series := curve(arm.runs, "pseudo_label_wrong")) is not None]
    if not shown:
        return None
    figure = new_figure(5.6)
    above, below = figure.subplots(2, 1, sharex=True)
    for arm, series in shown:
        draw_band(above, mean_band(series), arm)
        stays = curve(arm.runs, "wrong_stays")
        if stays is not None:
            draw_band(below, mean_band(stays), arm)
    quiet(above, y="pseudo labels (%)", title="Wrong pseudo labels")
    quiet(
        below,
        x="training step",
        y="wrong pseudo labels (%)",
        title="Of those wrong at the point before: same wrong label now",
    )
    above.set_ylim(bottom=0)
    below.set_ylim(-3, 103)
    legend(figure, above)
    ends = "; ".join(f"{arm.title}: {percent(float(mean_band(series).middle[-1]))} %" for arm, series in shown)
    return Picture(
        f"{group.key}_pseudo_labels",
        figure,
        f"Share of wrong pseudo labels along training for {len(shown)} arms, and of the wrong ones the share that "
        f"stays wrong. Wrong at the end: {ends}.",
        "The labels that the teacher's most likely class would give all unlabelled examples (for a method with one "
        "network: that network's), against the classes that training does not see. Bands: 95 % intervals over seeds.",
    )

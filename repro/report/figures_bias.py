"""Confirmation bias: how many pseudo labels are wrong along training, and how many of them stay wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from repro.report.arms import Arm, compared_examples
from repro.report.groups import Group
from repro.report.lines import Quantity, draw_band, line_figure
from repro.report.numbers import percent
from repro.report.pictures import Picture
from repro.report.series import curve, mean_band


def confirmation_bias(group: Group, arms: Sequence[Arm]) -> Picture | None:
    """Share of wrong pseudo labels, and the share of the wrong ones that keep the same wrong label."""
    shown = [(arm, series) for arm in arms if (series := curve(arm.runs, "pseudo_label_wrong")) is not None]
    if not shown:
        return None

    def of(key: str) -> Callable[[Axes, Arm, bool], None]:
        def draw(axes: Axes, arm: Arm, shade: bool) -> None:
            series = curve(arm.runs, key)
            if series is not None:
                draw_band(axes, mean_band(series), arm, shade)

        return draw

    quantities = [
        Quantity(
            title="Wrong pseudo labels",
            unit="pseudo labels (%)",
            draw=of("pseudo_label_wrong"),
            low=0,
            says="wrong pseudo labels (%)",
        ),
        Quantity(
            title="Of those wrong at the point before: same wrong label now",
            unit="wrong pseudo labels (%)",
            draw=of("wrong_stays"),
            low=-3,
            high=103,
            says="same wrong label as before (%)",
        ),
    ]
    figure, layout = line_figure([arm for arm, _ in shown], quantities)
    ends = "; ".join(f"{arm.title}: {percent(float(mean_band(series).middle[-1]))} %" for arm, series in shown)
    return Picture(
        f"{group.key}_pseudo_labels",
        figure,
        f"Share of wrong pseudo labels along training for {len(shown)} arms, and of the wrong ones the share that "
        f"stays wrong. Wrong at the end: {ends}.",
        "The labels that the teacher's most likely class would give "
        f"{compared_examples([arm for arm, _ in shown])} (for a method with one network: that network's), against the "
        "classes that training does not see. Bands: 95 % intervals over seeds." + layout,
    )

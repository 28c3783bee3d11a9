"""Sentences about the evidence, each computed from numbers; nothing here is written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from repro.report.arms import Arm
from repro.report.differences import Difference
from repro.report.groups import Group
from repro.report.numbers import p_phrase, percent, percent_interval, signed, signed_interval
from repro.report.series import curve, mean_band
from repro.report.tables import selection_excess
from repro.verify.statistics import rate_interval

_FIRST = ("mpl", "exact", "supervised", "pseudo_label", "mpl_no_feedback", "no_feedback")  # arms spoken of, in order


def sentences(group: Group, arms: Sequence[Arm], differences: Sequence[Difference]) -> list[str]:
    """What a group's runs say on separators, on the feedback, on wrong pseudo labels and on selection."""
    if group.key in ("moons_sweep", "other"):
        return _extremes(group, arms)
    by_suffix = {arm.suffix: arm for arm in arms if arm.accuracy}
    chosen = [by_suffix[suffix] for suffix in _FIRST if suffix in by_suffix]
    found = [
        _separators(group, chosen),
        *_feedback(group, arms, differences),
        _floor(arms),
        _wrong(group, chosen),
        _selection(arms),
    ]
    return [sentence for sentence in found if sentence]


def _separators(group: Group, arms: Sequence[Arm]) -> str:
    if not group.good or not arms:
        return ""
    parts = []
    for arm in arms:
        values = list(arm.accuracy.values())
        good = sum(value >= group.good[0] for value in values)
        parts.append(f"{arm.title} on {good} of {len(values)} {percent_interval(*rate_interval(good, len(values)))} %")
    return f"A good separator (at least {100 * group.good[0]:g} % correct) was found by {'; '.join(parts)}."


def _feedback(group: Group, arms: Sequence[Arm], differences: Sequence[Difference]) -> list[str]:
    """The differences of the feedback arms to the same training without feedback."""
    titles = {arm.name: arm.title for arm in arms}
    wanted = {f"{group.prefix}{suffix}" for suffix in ("mpl", "exact", "mpl_reversed", "mpl_shuffled")}
    parts = [
        f"{titles[d.name]} {signed(d.mean)} points {signed_interval(d.low, d.high)}, {p_phrase(d.corrected_p)}"
        f", {d.n} seeds"
        for d in differences
        if d.name in wanted and math.isfinite(d.low)
    ]
    reference = titles.get(f"{group.prefix}{group.reference}", "")
    return [f"Gain over the same training without feedback ({reference}): {'; '.join(parts)}."] if parts else []


def _floor(arms: Sequence[Arm]) -> str:
    """How much of h is there without any learning: zero where both losses are measured alike."""
    parts = []
    for arm in (arm for arm in arms if arm.runs):
        rows = pd.concat([run.metrics for run in arm.runs])
        if "noise_floor" not in rows:
            continue
        late = rows[rows["step"] > rows["step"].max() / 2]
        floor, size = float(late["noise_floor"].abs().mean()), float(late["feedback"].abs().mean())
        if floor > 0:
            parts.append(f"{arm.title}: {floor:.1e} against {size:.1e}")
    if not parts:
        return ""
    return (
        "What h would read had the student not moved, against what it reads (mean size over the second half of "
        f"training): {'; '.join(parts)}."
    )


def _wrong(group: Group, arms: Sequence[Arm]) -> str:
    parts = []
    for arm in arms:
        if arm.suffix not in ("mpl", "exact", group.reference):
            continue
        wrong, stays = curve(arm.runs, "pseudo_label_wrong"), curve(arm.runs, "wrong_stays")
        if wrong is not None:
            text = f"with {arm.title} {percent(float(mean_band(wrong).middle[-1]))} %"
            last = float(mean_band(stays).middle[-1]) if stays is not None else math.nan
            parts.append(
                f"{text} (of the wrong ones, {percent(last)} % kept their label)" if math.isfinite(last) else text
            )
    return f"Pseudo labels wrong at the end of training: {'; '.join(parts)}." if len(parts) > 1 else ""


def _selection(arms: Sequence[Arm]) -> str:
    excesses = [selection_excess(series)[0] for arm in arms if (series := curve(arm.runs, f"accuracy/{arm.counted}"))]
    known = [excess for excess in excesses if math.isfinite(excess)]
    if not known:
        return ""
    return (
        f"Choosing the checkpoint by test accuracy would add {signed(min(known))} to {signed(max(known))} points, "
        "depending on the arm, without any change of method."
    )


def _extremes(group: Group, arms: Sequence[Arm]) -> list[str]:
    """For a sweep: how high and how low the success of MPL gets."""
    if not group.good:
        return []
    rates = [
        (sum(value >= group.good[0] for value in arm.accuracy.values()) / len(arm.accuracy), arm.title)
        for arm in arms
        if arm.suffix == "mpl" and arm.accuracy
    ]
    if not rates:
        return []
    (low, worst), (high, best) = min(rates), max(rates)
    if low == high:
        return [f"At every value tried, MPL found a good separator on {percent(low, 0)} % of the data sets."]
    sentence = (
        f"Over all values tried, MPL found a good separator on between {percent(low, 0)} % ({worst}) "
        f"and {percent(high, 0)} % ({best}) of the data sets."
    )
    return [sentence]

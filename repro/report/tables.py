"""Tables of arms, of their paired differences, and of checkpoint choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from repro.report.arms import Arm
from repro.report.differences import Difference
from repro.report.groups import Group
from repro.report.numbers import NONE, p_value, percent, percent_interval, signed, signed_interval, table
from repro.report.series import Series, curve, late
from repro.verify.statistics import mean_interval, rate_interval


def arms_table(group: Group, arms: Sequence[Arm]) -> str:
    """One row for each arm: network, seeds, mean accuracy, that of the five likeliest classes where it is recorded.

    Where a group has good separators, also how often one was found.
    """
    among_five = ["top-5 accuracy (%)"] if any(arm.top5 for arm in arms) else []
    header = [
        "arm",
        "network",
        "seeds",
        "accuracy (%)",
        *among_five,
        *[f"≥ {100 * good:g} % correct (% of data sets)" for good in group.good],
    ]
    rows = []
    for arm in arms:
        values = list(arm.accuracy.values())
        successes = [_success(values, good) for good in group.good]
        five = [mean_text(list(arm.top5.values())) if arm.top5 else NONE] if among_five else []
        rows.append([arm.title, arm.counted or NONE, str(len(values)), mean_text(values), *five, *successes])
    return table(header, rows, right=2 + len(among_five) + len(group.good))


def mean_text(values: Sequence[float]) -> str:
    """Mean ± half the 95 % interval, in %."""
    mean, low, high = mean_interval(values)
    half = percent((high - low) / 2, 2)
    return f"{percent(mean, 2)} ± {half}" if half != NONE else percent(mean, 2)


def _success(values: Sequence[float], good: float) -> str:
    if not values:
        return NONE
    hits = sum(value >= good for value in values)
    return f"{percent(hits / len(values), 0)} {percent_interval(*rate_interval(hits, len(values)))}"


def differences_table(differences: Sequence[Difference], titles: Mapping[str, str]) -> str:
    """One row for each arm: its difference to the reference, in points, and the corrected p-value."""
    header = ["arm", "compared to", "seeds in both", "difference (points)", "95 % interval", "p (Holm)"]
    rows = [
        [
            titles[difference.name],
            titles[difference.reference],
            str(difference.n),
            signed(difference.mean),
            signed_interval(difference.low, difference.high),
            p_value(difference.corrected_p),
        ]
        for difference in differences
    ]
    return table(header, rows, right=4)


def checkpoints_table(arms: Sequence[Arm]) -> str:
    """Mean accuracy by choice of checkpoint and network; the empty string when no curve was recorded."""
    header = ["arm", "final", "final, last weights", "final, averaged", "median of last 20", "best on test",
              "best − final", "95 % interval"]  # fmt: skip
    rows = []
    for arm in arms:
        series = curve(arm.runs, f"accuracy/{arm.counted}")
        if series is None or not arm.accuracy:
            continue
        last = late(arm.runs)
        role = arm.counted.removesuffix("_average")
        averaged = arm.networks.get(f"{role}_average", {})
        excess, low, high = selection_excess(series)
        rows.append(
            [
                arm.title,
                _mean(arm.accuracy.values()),
                _mean(arm.networks.get(role, {}).values()) if averaged else NONE,
                _mean(averaged.values()),
                NONE if last is None else _mean(np.nanmedian(last.values, axis=1)),
                _mean(np.nanmax(series.values, axis=1)),
                signed(excess),
                signed_interval(low, high),
            ]
        )
    return without_empty_columns(header, rows, right=len(header) - 1) if rows else ""


def selection_excess(series: Series) -> tuple[float, float, float]:
    """Points by which each seed's best snapshot on the test set exceeds its final one: mean over seeds, interval."""
    known = series.values[np.isfinite(series.values).any(axis=1)]
    return mean_interval((100 * (np.nanmax(known, axis=1) - known[:, -1])).tolist())


def _mean(values: Iterable[float]) -> str:
    numbers = np.array(list(values), np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return percent(float(numbers.mean()), 2) if len(numbers) else NONE


def departures_table(arms: Sequence[Arm]) -> str:
    """Every departure from the named recipe, identical ones of several arms in one row; empty when there is none."""
    holders: dict[tuple[str, str, str, bool], list[str]] = {}
    for arm in arms:
        found = [d for run in arm.runs for d in run.departures]
        for d in dict.fromkeys((str(d["key"]), str(d["prescribed"]), str(d["here"]), bool(d["open"])) for d in found):
            holders.setdefault(d, []).append(arm.title)
    rows = [
        [f"`{key}`", prescribed, here, "left open" if is_open else "departs", _who(names, len(arms))]
        for (key, prescribed, here, is_open), names in sorted(holders.items(), key=lambda item: (item[0][3], item[0]))
    ]
    return table(["setting", "recipe", "here", "kind", "arms"], rows) if rows else ""


def _who(names: Sequence[str], of: int) -> str:
    return "all" if len(names) == of and of > 1 else ", ".join(dict.fromkeys(names))


def without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: int) -> str:
    """A table without the columns in which every row has a dash; the last `right` columns are aligned to the right."""
    kept = [column for column in range(len(header)) if any(row[column] != NONE for row in rows)]
    left = sum(column < len(header) - right for column in kept)
    return table([header[c] for c in kept], [[row[c] for c in kept] for row in rows], right=len(kept) - left)

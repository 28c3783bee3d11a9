"""Does feedback cure confirmation bias? Wrong pseudo labels with it, against the same training without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repro.report.arms import Arm
from repro.report.differences import different_data
from repro.report.groups import Group
from repro.report.numbers import NONE, percent, signed, signed_interval, signed_with_interval, table
from repro.report.series import curve
from repro.verify.statistics import mean_interval, paired_difference

FEEDBACK = ("mpl", "exact", "per_example", "mpl_cosine", "mpl_dot_product", "mpl_finite_difference", "mpl_baseline",
            "mpl_no_baseline", "mpl_argmax", "mpl_reversed", "mpl_shuffled")  # fmt: skip
"""Arms whose feedback reaches the teacher, and their controls."""


@dataclass(frozen=True)
class Bias:
    """One arm's wrong pseudo labels, in %, and the paired difference to the arm without feedback, in points."""

    arm: Arm
    wrong: float  # at the end of training
    stays: float  # of those wrong at a snapshot, with the same wrong label at the next: mean over the second half
    wrong_difference: tuple[float, float, float]  # mean, low, high
    stays_difference: tuple[float, float, float]
    n: int


def biases(group: Group, arms: Sequence[Arm]) -> list[Bias]:
    """The reference first, then every arm with feedback; empty without reference, or curves of both."""
    reference = next((arm for arm in arms if arm.suffix == group.reference and group.reference), None)
    if reference is None:
        return []
    base = _by_seed(reference, "pseudo_label_wrong", last=1), _by_seed(reference, "wrong_stays", last=0)
    if not base[0]:
        return []
    found = []
    chosen = [arm for arm in arms if arm.suffix in FEEDBACK and not different_data(arm, reference)]
    for arm in (reference, *chosen):
        wrong, stays = _by_seed(arm, "pseudo_label_wrong", last=1), _by_seed(arm, "wrong_stays", last=0)
        if not wrong:
            continue
        differences = [paired_difference(ours, theirs) for ours, theirs in zip((wrong, stays), base, strict=True)]
        triples = [(pair.mean, pair.low, pair.high) for pair in differences]
        nothing = (math.nan,) * 3
        own = (nothing, nothing) if arm is reference else (triples[0], triples[1])
        found.append(Bias(arm, _mean(wrong), _mean(stays), own[0], own[1], differences[0].n))
    return found if len(found) > 1 else []


def not_known(arms: Sequence[Arm]) -> str:
    """A sentence on the arms of which evaluation could not say which pseudo labels are wrong; empty where it could."""
    along = [(arm, run.curve) for arm in arms for run in arm.runs if "step" in run.curve]
    titles = dict.fromkeys(arm.title for arm, curves in along if "pseudo_label_wrong" not in curves)
    if not titles:
        return ""
    whose = "" if len(titles) == len({arm.title for arm, _ in along}) else f" ({', '.join(titles)})"
    return f"How many pseudo labels are wrong is not known{whose}: some unlabelled images have no class on record."


def _by_seed(arm: Arm, key: str, last: int) -> dict[int, float]:
    """Seed -> %, mean over the `last` snapshots (0: the second half of training); seeds without any are left out."""
    found = {}
    for run in arm.runs:
        series = curve([run], key)
        if series is None or len(series.values) != len(run.seeds):
            continue
        for seed, values in zip(run.seeds, series.values, strict=True):
            late = values[-last:] if last else values[len(values) // 2 :]
            if np.isfinite(late).any():
                found[seed] = float(100 * np.nanmean(late))
    return found


def _mean(values: dict[int, float]) -> float:
    return mean_interval(list(values.values()))[0] if values else math.nan


def bias_table(found: Sequence[Bias]) -> str:
    """One row for each arm."""
    rows = [
        [one.arm.title, str(one.n), percent(one.wrong / 100, 2), *_difference(one.wrong_difference),
         percent(one.stays / 100, 1), *_difference(one.stays_difference)]
        for one in found
    ]  # fmt: skip
    header = [
        "arm", "seeds", "wrong at the end (%)", "− h = 0 (points)", "95 % interval",
        "wrong ones that stay (%)", "− h = 0 (points)", "95 % interval",
    ]  # fmt: skip
    return table(header, rows, right=len(header) - 1)


def _difference(triple: tuple[float, float, float]) -> tuple[str, str]:
    mean, low, high = triple
    return (signed(mean), signed_interval(low, high)) if math.isfinite(mean) else (NONE, NONE)


def bias_row(heading: str, found: Sequence[Bias]) -> list[str]:
    """A setting as a row of a table over several settings: without feedback, with the method's own, the difference."""
    chosen = _method(found)
    if chosen is None:
        return []
    wrong, stays = chosen.wrong_difference, chosen.stays_difference
    return [
        heading, chosen.arm.title, percent(found[0].wrong / 100, 2), percent(chosen.wrong / 100, 2),
        signed_with_interval(*wrong), signed_with_interval(*stays),
        str(chosen.n),
    ]  # fmt: skip


BIAS_HEADER = [
    "setting", "arm with feedback", "wrong at the end, h = 0 (%)", "with feedback (%)", "difference (points)",
    "wrong ones that keep their label: difference (points)", "seeds",
]  # fmt: skip


def _method(found: Sequence[Bias]) -> Bias | None:
    """The arm that stands for the method, if its difference has an interval."""
    chosen = next((one for one in found if one.arm.suffix in {"mpl", "exact"}), None)
    return chosen if chosen and math.isfinite(chosen.wrong_difference[1]) else None


def bias_sentence(found: Sequence[Bias]) -> str:
    """What feedback does to wrong pseudo labels, for the arm that stands for the method."""
    chosen = _method(found)
    if chosen is None:
        return ""
    mean, low, high = chosen.wrong_difference
    says = "there are fewer" if high < 0 else "there are more" if low > 0 else "there are not shown to be fewer or more"
    return (
        f"With feedback ({chosen.arm.title}) {says} wrong pseudo labels at the end than without: "
        f"{signed(mean)} points {signed_interval(low, high)} of all pseudo labels, {chosen.n} seeds; of the wrong ones "
        f"{percent(chosen.stays / 100)} % keep their label from one snapshot to the next, "
        f"{signed(chosen.stays_difference[0])} points {signed_interval(*chosen.stays_difference[1:])}."
    )

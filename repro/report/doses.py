"""Tables of studies 2 and 3: what a dose of feedback does, how good h is, and what becomes of planted wrong labels.

Every arm is compared with h = 0 of the same pseudo labels, hard or soft, paired by seed; an arm whose teacher no longer
sees labels with consistency alone. Shares in %, differences in points, intervals 95 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from repro.config import lookup
from repro.plan import Comparison
from repro.report.tables import Network, Record, curves, feedback_size, wrong_by_seed
from repro.verify.statistics import PairedDifference, holm, paired_difference


def own_reference(record: Record, comparison: Comparison, arm: str) -> str:
    """The arm that differs in feedback alone; empty where it is the arm itself or has not run."""
    config = record.runs[comparison.run(arm)].config
    if not lookup(config, "method.teacher_supervised"):
        found = "consistency_alone"
    elif lookup(config, "method.pseudo_label") == "soft":
        found = "soft_no_feedback"
    else:
        found = "mpl_no_feedback"
    known = found != arm and found in comparison.arms and record.has(comparison.run(found))
    return found if known else ""


@dataclass(frozen=True)
class Dose:
    """An arm of a comparison of doses."""

    arm: str
    title: str
    place: Network
    n: int
    share: float  # median norm of the feedback's gradient, % of that of the teacher's other terms; NaN without feedback
    signal_to_noise: float  # of one batch's feedback gradient; median over seeds and snapshots after the first
    oracle_cosine: float  # of the expected feedback gradient with an oracle's; the same median
    student: PairedDifference | None  # accuracy of the network that counts, minus the own reference's
    teacher: PairedDifference | None
    holm: float  # p of the student's, corrected for the arms of the comparison


def dose_rows(record: Record, comparison: Comparison) -> list[Dose]:
    """Arms that have run; empty where h was not measured along training."""
    rows = []
    for arm, run in comparison.runs.items():
        if not record.has(run) or "curve.signal_to_noise" not in record.runs[run].arrays:
            continue
        place, size = record.counted(run), feedback_size(record, comparison, arm)
        reference = own_reference(record, comparison, arm)
        theirs = record.counted(comparison.run(reference)) if reference else None
        teachers = [Network(one.run, one.network.replace("student", "teacher")) for one in (place, theirs) if one]
        rows.append(
            Dose(
                arm=arm,
                title=comparison.title(arm),
                place=place,
                n=len(record.percent(place)),
                share=size.median if size and size.relative else math.nan,
                signal_to_noise=_after_start(record, run, "signal_to_noise"),
                oracle_cosine=_after_start(record, run, "oracle_cosine"),
                student=record.paired(place, theirs) if theirs else None,
                teacher=record.paired(*teachers) if theirs else None,
                holm=math.nan,
            )
        )
    corrected = holm([row.student.p_value if row.student else math.nan for row in rows])
    return [replace(row, holm=p) for row, p in zip(rows, corrected, strict=True)]


def _after_start(record: Record, run: str, curve: str) -> float:
    """A number's median over seeds and all snapshots but the first, when nothing is learned yet."""
    values = [measurable(found[1:] / 100) for found in curves(record, run, curve).values()]
    return float(np.nanmedian(values)) if values and np.isfinite(values).any() else math.nan


def measurable(values: np.ndarray) -> np.ndarray:
    """The same numbers, NaN for a ratio above 1,000: a confident teacher's few draws were all the same label."""
    return np.where(values > 1e3, np.nan, values)


@dataclass(frozen=True)
class PlantedRow:
    """An arm of a comparison in which wrong labels were planted."""

    arm: str
    title: str
    place: Network
    n: int
    planted: float  # wrong pseudo labels when planting ended, %
    put_right: float  # of those, right at the end, %
    difference: PairedDifference | None  # to the own reference's
    made_wrong: float  # of the right ones, wrong at the end, %
    made_wrong_difference: PairedDifference | None
    calibration_error: float  # of the teacher on test examples at the end, %
    accuracy: float  # of the network that counts, %
    holm: float  # p of `difference`, corrected for the arms of the comparison


def planted_rows(record: Record, comparison: Comparison) -> list[PlantedRow]:
    """Arms that have run; empty where nothing was planted."""
    rows = []
    for arm, run in comparison.runs.items():
        right = wrong_by_seed(record, run, "put_right")
        if not right:
            continue
        wrong = wrong_by_seed(record, run, "made_wrong")
        place, reference = record.counted(run), own_reference(record, comparison, arm)
        theirs = {key: wrong_by_seed(record, comparison.run(reference), key) if reference else {}
                  for key in ("put_right", "made_wrong")}  # fmt: skip
        teacher = place.network.replace("student", "teacher")
        rows.append(
            PlantedRow(
                arm=arm,
                title=comparison.title(arm),
                place=place,
                n=len(right),
                planted=_mean(wrong_then(record, run)),
                put_right=_mean(right),
                difference=paired_difference(right, theirs["put_right"]) if reference else None,
                made_wrong=_mean(wrong),
                made_wrong_difference=paired_difference(wrong, theirs["made_wrong"]) if reference else None,
                calibration_error=_mean(wrong_by_seed(record, run, f"calibration_error.{teacher}")),
                accuracy=_mean(record.percent(place)),
                holm=math.nan,
            )
        )
    corrected = holm([row.difference.p_value if row.difference else math.nan for row in rows])
    return [replace(row, holm=p) for row, p in zip(rows, corrected, strict=True)]


def wrong_then(record: Record, run: str) -> dict[int, float]:
    """Seed -> wrong pseudo labels when planting ended, %."""
    steps = record.runs[run].arrays["curve.step"]
    then = int(np.flatnonzero(steps == lookup(record.runs[run].config, "plant.steps"))[0])
    return {seed: float(values[then]) for seed, values in curves(record, run, "pseudo_label_wrong").items()}


def _mean(values: dict[int, float]) -> float:
    return float(np.mean([*values.values()])) if values else math.nan

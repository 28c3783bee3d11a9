"""Differences between arms, paired by seed, with p-values corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.swept import reference_name
from repro.verify.statistics import holm, in_percent, paired_difference


@dataclass(frozen=True)
class Difference:
    """How much better an arm is than the reference, in points; NaN where it cannot be said."""

    name: str  # of the arm
    reference: str
    n: int  # seeds in both
    mean: float
    low: float
    high: float
    p: float  # paired t-test
    corrected_p: float  # Holm, within the group


def differences(group: Group, arms: Sequence[Arm]) -> list[Difference]:
    """Every arm but the reference against it, over the seeds they share; empty without a reference."""
    by_name = {arm.name: arm for arm in arms}
    found = []
    for arm in arms:
        reference = by_name.get(reference_name(group, arm.name))
        if reference is not None and reference is not arm and arm.accuracy:
            found.append(_difference(arm, reference))
    return _corrected(found)


def _difference(arm: Arm, reference: Arm) -> Difference:
    theirs = {} if different_data(arm, reference) else in_percent(reference.accuracy)
    paired = paired_difference(in_percent(arm.accuracy), theirs)
    return Difference(
        arm.name, reference.name, paired.n, paired.mean, paired.low, paired.high, paired.p_value, math.nan
    )


def different_data(arm: Arm, reference: Arm) -> bool:
    """Whether any seed of the two was trained on different data or another split, so that they are no pair."""
    shared = arm.training_hash.keys() & reference.training_hash.keys()
    return any(arm.training_hash[seeds] != reference.training_hash[seeds] for seeds in shared)


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    adjusted = holm([difference.p for difference in found])
    return [replace(difference, corrected_p=p) for difference, p in zip(found, adjusted, strict=True)]

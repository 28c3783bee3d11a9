"""All networks of each arm: teacher and student, with and without averaging and finetuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.report.arms import Arm
from repro.report.numbers import NONE, percent, signed, signed_interval
from repro.report.tables import without_empty_columns
from repro.verify.statistics import in_percent, mean_interval, paired_difference


def role_of(arm: Arm) -> str:
    """The network that counts, not averaged: teacher or student."""
    return arm.counted.removesuffix("_average")


def networks_table(arms: Sequence[Arm]) -> str:
    """Mean accuracy of the final weights of each network; empty where no arm has more than one."""
    if not any(len(arm.networks) > 1 and arm.accuracy for arm in arms):
        return ""
    rows = []
    for arm in (arm for arm in arms if arm.accuracy):
        role = role_of(arm)
        wanted = ("teacher", "student", f"{role}_average", f"{role}_finetuned")
        rows.append([arm.title, str(len(arm.accuracy)), *[_mean(arm.networks.get(name, {})) for name in wanted]])
    header = ["arm", "seeds", "teacher", "student", "averaged", "finetuned"]
    return without_empty_columns(header, rows, right=len(header) - 1)


def network_differences_table(arms: Sequence[Arm]) -> str:
    """What averaging and finetuning add to an arm, paired by seed; empty where no arm has either."""
    rows = []
    for arm in arms:
        role = role_of(arm)
        finetuned = _difference(arm, f"{role}_finetuned", arm.counted)
        averaged = _difference(arm, f"{role}_average", role)
        if finetuned or averaged:
            nothing = [NONE, NONE]
            rows.append([arm.title, str(len(arm.accuracy)), *(averaged or nothing), *(finetuned or nothing)])
    header = ["arm", "seeds", "averaged − not", "95 % interval", "finetuned − not", "95 % interval"]
    return without_empty_columns(header, rows, right=len(header) - 1) if rows else ""


def _difference(arm: Arm, first: str, second: str) -> list[str]:
    """Mean and interval in points; nothing where the arm lacks one of the networks."""
    ours, theirs = in_percent(arm.networks.get(first, {})), in_percent(arm.networks.get(second, {}))
    if not ours or not theirs:
        return []
    paired = paired_difference(ours, theirs)
    return [signed(paired.mean), signed_interval(paired.low, paired.high)]


def _mean(shares: Mapping[int, float]) -> str:
    return percent(mean_interval(list(shares.values()))[0], 2)

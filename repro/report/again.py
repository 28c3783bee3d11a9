"""Recorded seeds trained again: how far two machines agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repro.evaluate.run import EvaluatedRun, settings_of
from repro.report.arms import Arm
from repro.report.groups import Group
from repro.report.numbers import NONE, percent, table


def again_table(group: Group, arms: Sequence[Arm], runs: Mapping[str, Sequence[EvaluatedRun]]) -> str:
    """One row for each arm: accuracy here and as recorded on the same seeds, and the share of equal predictions."""
    rows = []
    for arm in arms:
        recorded = {seed: run for run in runs.get(f"{group.again}{arm.suffix}", ()) for seed in run.seeds}
        both = [(run, recorded[run.seeds[0]]) for run in arm.runs if len(run.seeds) == 1 and run.seeds[0] in recorded]
        pairs = [(ours, theirs) for ours, theirs in both if _same_settings(ours, theirs)]
        if not pairs:
            rows.append([arm.title, "0", *[NONE] * 5])
            continue
        equal = [_equal(ours, theirs) for ours, theirs in pairs]
        rows.append(
            [
                arm.title,
                str(len(pairs)),
                _accuracy([ours for ours, _ in pairs]),
                _accuracy([theirs for _, theirs in pairs]),
                percent(float(np.mean(equal)), 2),
                _devices([ours for ours, _ in pairs]),
                _devices([theirs for _, theirs in pairs]),
            ]
        )
    header = ["arm", "seeds", "here (%)", "recorded (%)", "equal predictions (%)", "here on", "recorded on"]
    return table(header, rows)


def _same_settings(ours: EvaluatedRun, theirs: EvaluatedRun) -> bool:
    """Whether they compute the same, and both have predictions of the network that counts."""
    return settings_of(ours) == settings_of(theirs) and all(run.counted in run.predictions for run in (ours, theirs))


def _equal(ours: EvaluatedRun, theirs: EvaluatedRun) -> float:
    """Share of test examples that the counted networks call alike."""
    return float((ours.predictions[ours.counted] == theirs.predictions[theirs.counted]).mean())


def _accuracy(runs: Sequence[EvaluatedRun]) -> str:
    return percent(float(np.mean([run.accuracy[run.counted] for run in runs])), 2)


def _devices(runs: Sequence[EvaluatedRun]) -> str:
    return ", ".join(sorted({str(run.environment.get("device_name", "unknown")) for run in runs}))

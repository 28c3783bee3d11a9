"""Bands for the early alarm, from the logs of recorded seeds: mean and spread of each metric in the first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from repro.config.read import read_config
from repro.evaluate.run import EvaluatedRun
from repro.train.alarm import Bands, Expected, settings_digest

FALSE_ALARMS = 0.01
"""Chance that an honest run is flagged at all, over every metric and row that is compared (Bonferroni)."""

FEWEST = 5  # seeds; with fewer, Student's t is so wide that only a crash would be seen
FIRST = 0.1  # share of training that counts as early
ROWS = 10  # of the log that are compared at most, evenly spaced

_NOT_COMPARED = ("step", "feedback_positive")  # the latter is 0 or 1 for a single seed


def bands_of(runs: Mapping[str, Sequence[EvaluatedRun]]) -> dict[str, Bands]:
    """Bands of every run with enough seeds that were trained one by one under the same settings."""
    found = {name: bands_from(folders) for name, folders in runs.items()}
    return {name: bands for name, bands in found.items() if bands is not None}


def bands_from(folders: Sequence[EvaluatedRun]) -> Bands | None:
    """Bands from the folders of one run; None when they are too few, or stacked, or differ in their settings."""
    if len(folders) < FEWEST or any(len(run.seeds) > 1 for run in folders):
        return None
    digests = {settings_digest(read_config(run.config)) for run in folders}
    if len(digests) > 1:
        return None
    early = _early_steps(folders)
    rows = {step: _expected(folders, step) for step in early}
    checks = sum(expected.deviation > 0 for row in rows.values() for expected in row.values())
    quantile = float(stats.t.isf(FALSE_ALARMS / (2 * max(checks, 1)), len(folders) - 1))
    return Bands(digests.pop(), len(folders), quantile, rows)


def _early_steps(folders: Sequence[EvaluatedRun]) -> list[int]:
    """Steps of the log in the first part of training that every folder has."""
    common = sorted(set.intersection(*({int(step) for step in run.metrics["step"]} for run in folders)))
    last = max(FIRST * float(folders[0].config["budget"]["steps"]), common[0] if common else 0)
    early = [step for step in common if step <= last]
    if not early:
        return []
    return [early[place] for place in np.unique(np.linspace(0, len(early) - 1, ROWS).round().astype(int))]


def _expected(folders: Sequence[EvaluatedRun], step: int) -> dict[str, Expected]:
    """Every metric that all folders have at a step, where seeds scatter around a middle.

    Shares that are 0 for some seeds are left out: they have no such middle. A metric that is 0 for all seeds and in
    every row is 0 by construction, such as the noise floor, and is held to it.
    """
    found = {}
    for metric in folders[0].metrics.columns:
        if metric in _NOT_COMPARED or any(metric not in run.metrics for run in folders):
            continue
        values = np.array([float(run.metrics.loc[run.metrics["step"] == step, metric].iloc[0]) for run in folders])
        if not np.isfinite(values).all():
            continue
        if (values == 0).any():
            if all((run.metrics[metric] == 0).all() for run in folders):
                found[str(metric)] = Expected(0.0, 0.0, log=False)
            continue
        log = bool((values > 0).all())
        compared = np.log(values) if log else values
        deviation = float(compared.std(ddof=1))
        found[str(metric)] = Expected(float(compared.mean()), deviation, log)
    return found

"""Bands for the early alarm, from the logs of recorded seeds: mean and spread of each metric in the first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from repro.config.read import read_config
from repro.evaluate.run import EvaluatedRun
from repro.train.alarm import Bands, Expected, settings_digest

FALSE_ALARMS = 0.001
"""Chance that an honest run is flagged at all, over every metric and row that is compared (Bonferroni), if metrics are
normal. Chosen on the recorded digits: at 0.01, 31 of 420 seeds leave the band of the others, at 0.001 none. Their tails
are heavier than normal, so the rate of fresh seeds is measured: results/alarm.json."""

FEWEST = 10  # seeds; with fewer, Student's t is so wide that only a crash would be seen
FIRST = 0.1  # share of training that counts as early
ROWS = 10  # of the log that are compared at most, evenly spaced

_SIGNED = ("feedback",)  # lies on both sides of 0; all other metrics are positive and compared by their logarithm
# 0 or 1 for a single seed; measured at a single step, which may be one where h is almost 0
_NOT_COMPARED = ("step", "feedback_positive", "feedback_gradient_norm")


def bands_of(runs: Mapping[str, Sequence[EvaluatedRun]]) -> dict[str, Bands]:
    """Bands of every run with enough seeds that were trained one by one under the same settings."""
    found = {name: bands_from(folders) for name, folders in runs.items()}
    return {name: bands for name, bands in found.items() if bands is not None}


def bands_from(folders: Sequence[EvaluatedRun]) -> Bands | None:
    """Bands from the folders of one run; None when they are too few, or stacked, or differ in settings or log."""
    if len(folders) < FEWEST or any(len(run.seeds) > 1 for run in folders):
        return None
    try:
        digests = {settings_digest(read_config(run.config)) for run in folders}
    except (ValueError, KeyError):  # a record of another version, which `rebuild` refuses by name
        return None
    if len(digests) > 1 or len({tuple(run.metrics["step"]) for run in folders}) > 1:
        return None
    return _bands(folders, digests.pop(), _logs(folders))


def left_out(folders: Sequence[EvaluatedRun]) -> tuple[int, int] | None:
    """How many seeds a run has and how many leave the band of the others; None where these have none."""
    if len(folders) <= FEWEST or bands_from(folders) is None:
        return None
    logs, flagged = _logs(folders), 0
    for i, run in enumerate(folders):
        others = _bands([*folders[:i], *folders[i + 1 :]], "", np.delete(logs, i, axis=0))
        rows = [{str(key): float(value) for key, value in row.items()} for row in run.metrics.to_dict("records")]
        flagged += bool(others.outside(rows))
    return len(folders), flagged


def _compared(folders: Sequence[EvaluatedRun]) -> list[str]:
    """The metrics that all folders have and that are compared."""
    metrics = [column for column in folders[0].metrics if all(column in run.metrics for run in folders)]
    return [str(column) for column in metrics if column not in _NOT_COMPARED]


def _logs(folders: Sequence[EvaluatedRun]) -> np.ndarray:
    """All rows of all logs, [seeds, rows, metrics]."""
    compared = _compared(folders)
    return np.stack([run.metrics[compared].to_numpy(float) for run in folders])


def _bands(folders: Sequence[EvaluatedRun], digest: str, logs: np.ndarray) -> Bands:
    early, compared = _early_steps(folders), _compared(folders)
    places = [folders[0].metrics["step"].tolist().index(step) for step in early]
    rows = {step: _expected(compared, logs, place) for step, place in zip(early, places, strict=True)}
    checks = sum(expected.deviation > 0 for row in rows.values() for expected in row.values())
    quantile = float(stats.t.isf(FALSE_ALARMS / (2 * max(checks, 1)), len(folders) - 1))
    return Bands(digest, len(folders), quantile, rows)


def _early_steps(folders: Sequence[EvaluatedRun]) -> list[int]:
    """Steps of the log in the first part of training, its first row at least."""
    steps = [int(step) for step in folders[0].metrics["step"]]
    last = max(FIRST * float(folders[0].config["budget"]["steps"]), steps[0])
    early = [step for step in steps if step <= last]
    return [early[place] for place in np.unique(np.linspace(0, len(early) - 1, ROWS).round().astype(int))]


def _expected(metrics: Sequence[str], logs: np.ndarray, place: int) -> dict[str, Expected]:
    """Metrics [M] of a row of all logs [seeds, rows, M] in which seeds scatter around a middle.

    A share that is 0 for some seeds is left out: its logarithm has no middle. A metric that is 0 for all seeds and in
    every row is 0 by construction, such as the noise floor, and is held to it.
    """
    found = {}
    for column, metric in enumerate(metrics):
        values = logs[:, place, column]
        if (logs[:, :, column] == 0).all():
            found[metric] = Expected(0.0, 0.0, log=False)
        elif np.isfinite(values).all() and (metric in _SIGNED or (values > 0).all()):
            log = metric not in _SIGNED
            middle = np.log(values) if log else values
            found[metric] = Expected(float(middle.mean()), float(middle.std(ddof=1)), log)
    return found

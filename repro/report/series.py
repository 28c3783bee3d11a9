"""Curves along training, with their means and intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from repro.evaluate.run import EvaluatedRun
from repro.verify.statistics import mean_interval, rate_interval


@dataclass(frozen=True)
class Series:
    """One quantity of one arm along training."""

    steps: np.ndarray  # [T]
    values: np.ndarray  # [R, T], a row for each seed; NaN where it is not known


@dataclass(frozen=True)
class Band:
    """A line and the interval around it, all [T]; NaN bounds where one seed gives no interval."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(runs: Sequence[EvaluatedRun], key: str) -> Series | None:
    """The curve `key` of all folders at the steps they share; None where there is none."""
    parts = [(run.curve["step"], run.curve[key]) for run in runs if key in run.curve and "step" in run.curve]
    return _joined([(np.asarray(steps), np.atleast_2d(np.asarray(values, float))) for steps, values in parts])


def late(runs: Sequence[EvaluatedRun]) -> Series | None:
    """Accuracy of the counted network at the last checkpoints of training; None where none was recorded."""
    parts = [(run.curve["late_step"], run.curve["late_accuracy"]) for run in runs if "late_step" in run.curve]
    return _joined([(np.asarray(steps), np.atleast_2d(np.asarray(values, float))) for steps, values in parts])


def metric(runs: Sequence[EvaluatedRun], column: str) -> Series | None:
    """A column of the metrics, one row for each folder (it holds means over the folder's seeds)."""
    frames = [run.metrics[["step", column]].dropna() for run in runs if column in run.metrics.columns]
    return _joined([(frame["step"].to_numpy(), frame[[column]].to_numpy(float).T) for frame in frames])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> Series | None:
    if not parts:
        return None
    steps = reduce(np.intersect1d, [steps for steps, _ in parts])
    if not len(steps):
        return None
    return Series(steps, np.vstack([values[:, np.searchsorted(own, steps)] for own, values in parts]))


def mean_band(series: Series) -> Band:
    """Mean and 95 % t interval over seeds at each step, over the seeds that have a value there."""
    columns = [column[np.isfinite(column)] for column in series.values.T]
    triples = [mean_interval(column.tolist()) for column in columns]
    middle, low, high = np.array(triples, float).reshape(-1, 3).T
    return Band(series.steps, middle, low, high)


def rate_band(series: Series, threshold: float) -> Band:
    """Share of seeds at or above `threshold` and its exact 95 % interval at each step."""
    rows = []
    for column in series.values.T:
        known = column[np.isfinite(column)]
        good = int((known >= threshold).sum())
        rows.append((good / len(known), *rate_interval(good, len(known))) if len(known) else (np.nan,) * 3)
    middle, low, high = np.array(rows, float).reshape(-1, 3).T
    return Band(series.steps, middle, low, high)

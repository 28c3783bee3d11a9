"""Intervals and tests, thin over SciPy. Unit-free: shares in, shares out; points in, points out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

NO_SPREAD = 1e-9
"""Below this, a standard deviation is rounding: accuracies are multiples of 1/N, and no test set has 1e9 examples."""

_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class PairedDifference:
    """first - second over n common seeds; NaN where there is no spread to judge by."""

    mean: float
    low: float
    high: float
    p_value: float  # two-sided paired t-test of no difference
    n: int
    differences: tuple[float, ...]  # one difference for each common seed


@dataclass(frozen=True)
class PairedRates:
    """Success rates of two methods on the same n data sets, and first - second."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float  # exact McNemar test of equal rates
    n: int
    only_first: int  # data sets on which only the first succeeded
    only_second: int


def spread(values: Sequence[float]) -> float:
    """Standard deviation (n - 1); NaN for fewer than two values, 0 where only rounding differs."""
    if len(values) < 2:
        return math.nan
    deviation = float(np.std(values, ddof=1))
    return 0.0 if deviation < NO_SPREAD else deviation


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) by Student's t; low and high are NaN for one value or without any spread."""
    mean = float(np.mean(values)) if len(values) else math.nan
    deviation = spread(values)
    if not deviation > 0:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return mean, mean - half, mean + half


def rate_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate (Clopper and Pearson 1934); (0, 1) when nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], level: float = 0.95) -> PairedDifference:
    """Paired t interval and test over the seeds that both have; other seeds are left out."""
    seeds = sorted(first.keys() & second.keys())
    values = tuple(first[seed] - second[seed] for seed in seeds)
    mean, low, high = mean_interval(values, level)
    p_value = math.nan
    if math.isfinite(low):
        p_value = float(stats.ttest_rel([first[s] for s in seeds], [second[s] for s in seeds]).pvalue)
    return PairedDifference(mean, low, high, p_value, len(seeds), values)


def mcnemar(first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray) -> float:
    """The p-value of the exact McNemar test: of the pairs that disagree, do half favour the first? 1 if none does."""
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return _sign_test(int((a & ~b).sum()), int((b & ~a).sum()))


def paired_rates(first: Mapping[int, bool], second: Mapping[int, bool], level: float = 0.95) -> PairedRates:
    """Two success rates on the seeds (data sets) that both have.

    Raises:
        ValueError: when they have no seed in common.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError("no seed in common; run both methods with the same seeds")
    n = len(seeds)
    only_first = sum(first[s] and not second[s] for s in seeds)
    only_second = sum(second[s] and not first[s] for s in seeds)
    low, high = rate_difference_interval(only_first, only_second, n, level)
    rates = sum(first[s] for s in seeds) / n, sum(second[s] for s in seeds) / n
    p_value = _sign_test(only_first, only_second)
    return PairedRates(*rates, (only_first - only_second) / n, low, high, p_value, n, only_first, only_second)


def rate_difference_interval(only_first: int, only_second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two paired rates, never narrower than it claims, for any n.

    The difference is d (2 w - 1), with d the share of data sets on which exactly one method succeeds and w the share
    of these that the first wins. Each gets an exact interval of level 1 - alpha/2, so both hold together with at
    least 1 - alpha (Bonferroni), and the extremes of d (2 w - 1) over them bound the difference. Scaling w's interval
    by the *observed* d alone would give [0, 0] when none disagrees, however few data sets were tried.
    """
    each = 1 - (1 - level) / 2
    discordant = only_first + only_second
    shares, wins = rate_interval(discordant, n, each), rate_interval(only_first, discordant, each)
    corners = [share * (2 * win - 1) for share in shares for win in wins]
    return min(corners), max(corners)


def seeds_needed(values: Sequence[float], target: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """How many seeds in all tell the mean of `values` from `target` with the given power, two-sided.

    Assumes that the true mean and spread are the observed ones: n >= ((t_alpha/2 + t_power) spread / distance)^2, with
    n - 1 degrees of freedom. None when no number up to 100,000 does, or the spread is unknown.
    """
    deviation = spread(values)
    distance = abs(float(np.mean(values)) - target) if len(values) else 0.0
    if not deviation >= 0 or distance < NO_SPREAD:
        return None
    for n in _growing(3, _MOST_SEEDS):
        quantiles = stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(power, n - 1)
        if n >= (quantiles * deviation / distance) ** 2:
            return n
    return None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given; NaN stays NaN and is not counted."""
    adjusted = [math.nan] * len(p_values)
    tests = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - rank)))
        adjusted[i] = largest
    return adjusted


def _growing(start: int, stop: int) -> list[int]:
    """Every number up to 100, then steps of one in a hundred: exact where it matters, short where it does not."""
    numbers = [start]
    while numbers[-1] < stop:
        numbers.append(numbers[-1] + max(1, numbers[-1] // 100))
    return numbers


def _sign_test(wins: int, losses: int) -> float:
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0

"""Intervals and tests, thin over SciPy. Unit-free: shares in, shares out; points in, points out."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from repro.verify.claims import Absolute

Number = Any
"""A float, or an array of floats."""

NO_SPREAD = 1e-9
"""Below this, a standard deviation is rounding: accuracies are multiples of 1/N, and no test set has 1e9 examples."""

FEWEST_SEEDS = 3
"""A spread estimated from two values says next to nothing: t is 12.7 with one degree of freedom."""

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


def in_percent(shares: Mapping[int, float]) -> dict[int, float]:
    """Seed -> share as seed -> %, whose differences are points."""
    return {seed: 100 * share for seed, share in shares.items()}


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) by Student's t; low and high are NaN for one value or without any spread."""
    mean = float(np.mean(values)) if len(values) else math.nan
    deviation = spread(values)
    if not deviation > 0:
        return mean, math.nan, math.nan
    low, high = stats.t.interval(level, len(values) - 1, mean, deviation / math.sqrt(len(values)))
    return mean, float(low), float(high)


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


def paired_rates(first: Mapping[int, bool], second: Mapping[int, bool], level: float = 0.95) -> PairedRates:
    """Two success rates on the seeds (data sets) that both have, of which there must be one."""
    seeds = sorted(first.keys() & second.keys())
    n = len(seeds)
    only_first = sum(first[s] and not second[s] for s in seeds)
    only_second = sum(second[s] and not first[s] for s in seeds)
    low, high = rate_difference_interval(only_first, only_second, n, level)
    rates = sum(first[s] for s in seeds) / n, sum(second[s] for s in seeds) / n
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
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


def seeds_needed(mean: float, deviation: float, bound: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """How many seeds in all tell a paired difference from `bound` with the given power: a two-sided t-test.

    Takes it that the true mean and standard deviation over seeds are those given. None when no number up to 100,000
    does, or the deviation is unknown. At least 3, whatever the effect.
    """
    distance = abs(mean - bound)
    if not deviation >= 0 or not distance >= NO_SPREAD:
        return None
    if deviation == 0:
        return FEWEST_SEEDS

    def reached(n: int) -> bool:
        # On the right side: a difference of the wrong sign settles nothing. Beyond 30 standard errors the power is 1,
        # and the noncentral t distribution overflows.
        errors = min(distance / deviation * math.sqrt(n), 30)
        return bool(stats.nct.sf(stats.t.isf(alpha / 2, n - 1), n - 1, errors) >= power)

    found = bisect.bisect_left(range(_MOST_SEEDS + 1), True, lo=FEWEST_SEEDS, key=reached)
    return found if found <= _MOST_SEEDS else None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given; NaN stays NaN and is not counted."""
    adjusted = np.array(p_values, float)
    order = np.argsort(adjusted, kind="stable")[: np.count_nonzero(~np.isnan(adjusted))]  # NaN come last
    adjusted[order] = np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return [float(p) for p in adjusted]


@dataclass(frozen=True)
class Gap:
    """Our mean minus the paper's, with its standard error, in points; arrays for many sets of runs at once.

    "No significant difference" would reward few and noisy runs, so equivalence must be shown: two one-sided t-tests
    against +-margin (TOST, Schuirmann 1987).
    """

    mean: Number
    error: Number
    freedom: Number  # degrees of freedom of the error
    assumes: str  # in words, empty when nothing

    def p_above(self, bound: float) -> Number:
        """One-sided p: small when the true gap lies above `bound`."""
        return stats.t.sf((self.mean - bound) / self.error, self.freedom)

    def p_below(self, bound: float) -> Number:
        """One-sided p: small when the true gap lies below `bound`."""
        return stats.t.cdf((self.mean - bound) / self.error, self.freedom)

    def p_within(self, margin: float) -> Number:
        """Of the two one-sided tests: small when the true gap lies within `margin` to both sides."""
        return np.maximum(self.p_above(-margin), self.p_below(margin))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided, of level 1 - alpha."""
        half = float(stats.t.ppf(1 - alpha / 2, self.freedom)) * self.error
        return float(self.mean) - half, float(self.mean) + half


def gap_of(our_mean: Number, ours_spread: Number, m: int, rule: Absolute) -> Gap | None:
    """How far m runs, by mean and standard deviation in %, are from the paper; None if neither tells how runs scatter.

    With the paper's spread S over n runs and ours s over m: Welch. Without S: the paper's runs are taken to scatter as
    ours. With fewer than three of ours: ours are taken to scatter as the paper's (prediction interval for m new runs).
    """
    n, paper_spread, mean = rule.runs, rule.spread, our_mean - rule.value
    if m >= FEWEST_SEEDS and not np.all(ours_spread > 0):
        return None
    if m >= FEWEST_SEEDS and paper_spread is not None:
        a, b = ours_spread**2 / m, paper_spread**2 / n
        return Gap(mean, np.sqrt(a + b), (a + b) ** 2 / (a**2 / (m - 1) + b**2 / (n - 1)), "")
    if m >= FEWEST_SEEDS:
        return Gap(mean, ours_spread * math.sqrt(1 / m + 1 / n), m - 1, "the paper's runs scatter as ours")
    if paper_spread is not None:
        return Gap(mean, paper_spread * math.sqrt(1 / m + 1 / n), n - 1, "our runs scatter as the paper's")
    return None

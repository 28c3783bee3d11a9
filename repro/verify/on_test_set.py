"""What a finite test set leaves open: the same networks on other test examples.

Seeds scatter because training differs; here the networks are fixed and the examples are a sample. Where several runs
share their test examples, a comparison example by example is far sharper than two separate intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from repro.verify.statistics import holm, mcnemar, rate_interval

_RESAMPLES = 2000


@dataclass(frozen=True)
class OnTestSet:
    """First minus second, seed by seed and example by example, in points."""

    mean: float
    low: float  # paired bootstrap over the test examples, both methods averaged over seeds
    high: float
    only_first: float  # examples that only the first gets right, mean over seeds
    only_second: float
    better: int  # seeds in which McNemar's exact test, corrected for their number (Holm), favours the first
    worse: int  # and the second
    seeds: int
    examples: int


def accuracy_interval(accuracy: float, examples: int, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of a network's accuracy from its share of right answers on so many examples."""
    return rate_interval(round(accuracy * examples), examples, level)


def compare(first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray], level: float = 0.95) -> OnTestSet | None:
    """Two methods on the same test examples; None without a common seed.

    Args:
        first: seed -> bool [N], which examples are right.
        second: the same for the other method, on the same examples.
        level: of the interval.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    a, b = (np.stack([hits[seed] for seed in seeds]) for hits in (first, second))
    difference = 100.0 * (a.mean(axis=0) - b.mean(axis=0))  # [N]
    low = high = math.nan
    if np.ptp(difference) > 0:
        found = stats.bootstrap(
            (difference,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            method="percentile",
            rng=0,
            batch=100,
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    p_values = holm([mcnemar(x, y) for x, y in zip(a, b, strict=True)])
    return OnTestSet(
        mean=float(difference.mean()),
        low=low,
        high=high,
        only_first=float((a & ~b).sum(axis=1).mean()),
        only_second=float((b & ~a).sum(axis=1).mean()),
        better=sum(p < 1 - level and x.sum() > y.sum() for p, x, y in zip(p_values, a, b, strict=True)),
        worse=sum(p < 1 - level and x.sum() < y.sum() for p, x, y in zip(p_values, a, b, strict=True)),
        seeds=len(seeds),
        examples=a.shape[1],
    )

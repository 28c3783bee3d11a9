"""Is a number of the paper reproduced? Equivalence within a margin, from summary statistics.

The paper gives a mean, a standard deviation and a number of runs; we have our runs. "No significant difference" would
reward few and noisy runs, so equivalence must be shown: two one-sided t-tests against +-margin (TOST, Schuirmann
1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from repro.verify.claims import Absolute, Claim, Status, Verdict, seeds, undecided
from repro.verify.evidence import Scores
from repro.verify.statistics import FEWEST_SEEDS, spread

Number = Any
"""A float, or an array of floats for many hypothetical sets of runs at once (`power.py`)."""


@dataclass(frozen=True)
class Gap:
    """Our mean minus the paper's, with its standard error, in points."""

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


def gap(ours: list[float], rule: Absolute) -> Gap | None:
    """How far our runs, in %, are from the paper; None when neither side tells how runs scatter."""
    return gap_of(sum(ours) / len(ours), spread(ours), len(ours), rule)


def gap_of(our_mean: Number, ours_spread: Number, m: int, rule: Absolute) -> Gap | None:
    """The same from the mean and standard deviation of m runs.

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


def judge_absolute(claim: Claim, rule: Absolute, scores: Scores) -> Verdict:
    """The verdict on a number: a few runs may refute it, but only `FEWEST_SEEDS` or more confirm or exceed it."""
    ours = [100 * accuracy for accuracy in scores.measured(rule.measure)[rule.network or scores.counted].values()]
    m, mean = len(ours), sum(ours) / len(ours)
    paper = f"{rule.value:.2f}{'' if rule.spread is None else f' ± {rule.spread:.2f}'} %"
    numbers = f"{mean:.2f} % over {seeds(m)}, the paper {paper}"
    if scores.reduced:
        reason = f"a reduced budget does not judge an absolute number ({numbers})"
        return undecided(claim, reason, "a run of the recipe without departures", estimate=mean - rule.value, n=m)
    found = gap(ours, rule)
    if found is None:
        reason = f"{numbers}; nothing shows how much runs scatter"
        missing = f"at least {FEWEST_SEEDS} seeds, with different results"
        return undecided(claim, reason, missing, estimate=mean - rule.value, n=m)
    status, why = _status(found, rule.margin, m, claim.alpha)
    low, high = found.interval(2 * claim.alpha)  # that of the one-sided tests
    assumes = f", taking it that {found.assumes}" if found.assumes else ""
    level = f"{100 * (1 - 2 * claim.alpha):g} %"
    reason = f"{numbers}: {found.mean:+z.2f} points [{low:+z.2f}, {high:+z.2f}] ({level}){assumes}; {why}"
    p_value = float(2 * min(found.p_above(0), found.p_below(0)))
    missing = _more(found, rule, m, spread(ours), claim.alpha) if status is Status.INCONCLUSIVE else ""
    return Verdict(claim.id, status, reason, float(found.mean), low, high, m, p_value, missing)


def _status(found: Gap, margin: float, m: int, alpha: float) -> tuple[Status, str]:
    p_low, p_high = found.p_below(-margin), found.p_above(margin)
    p_same = found.p_within(margin)
    if p_low < alpha:
        return Status.NOT_REPRODUCED, f"below by more than the margin of {margin:g} (p = {p_low:.2g})"
    if m < FEWEST_SEEDS:
        return Status.INCONCLUSIVE, f"so few seeds can refute a number, not confirm it; {FEWEST_SEEDS} are needed"
    if p_high < alpha:
        return Status.EXCEEDED, f"above by more than the margin of {margin:g} (p = {p_high:.2g})"
    if p_same < alpha:
        return Status.REPRODUCED, f"the same within {margin:g} points (p = {p_same:.2g})"
    return Status.INCONCLUSIVE, f"neither within {margin:g} points nor outside (p = {p_same:.2g} for within)"


def _more(found: Gap, rule: Absolute, m: int, ours_spread: float, alpha: float) -> str:
    """Seeds until the gap is told from the nearer margin with 80 % power, normal approximation."""
    deviation = ours_spread if ours_spread > 0 else (rule.spread or 0.0)
    paper = deviation if rule.spread is None else rule.spread
    quantiles = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(0.8))
    distance = abs(abs(found.mean) - rule.margin)
    left_for_ours = (distance / quantiles) ** 2 - paper**2 / rule.runs
    if left_for_ours <= 0:
        return "no number of our seeds would settle it: the paper's own runs leave its mean too uncertain"
    total = max(FEWEST_SEEDS, math.ceil(deviation**2 / left_for_ours))
    return f"about {seeds(max(total - m, 1))} more (should mean and spread stay as observed; 80 % power)"

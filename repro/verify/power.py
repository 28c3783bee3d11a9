"""How many seeds a verdict needs, said before anything has run. Power 80 %, by the very rules that judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from repro.verify.claims import Absolute, Claim, Ordering, seeds
from repro.verify.evidence import Scores
from repro.verify.statistics import FEWEST_SEEDS, Gap, gap_of, paired_difference, seeds_needed, spread

POWER = 0.8
MOST_SEEDS = 100
_GRID = 60  # quantiles of our mean and of our spread; 60 x 60 hypothetical sets of runs


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds settle a claim with 80 % power; None where no number up to 100 (an ordering: 100,000) does."""

    confirm: int | None  # if the paper is right
    refute: int | None  # if there is nothing in it: no difference, or a number just as far below as twice the margin
    spread: float  # over seeds, on which that rests; points
    assumes: str  # the same in words

    def in_words(self) -> str:
        """`4 seeds if the claim holds, 6 seeds if it does not (our runs scatter as the paper's, 0.07 points; ...)`."""
        confirm, refute = ("no affordable number of seeds" if n is None else seeds(n)
                           for n in (self.confirm, self.refute))  # fmt: skip
        return f"{confirm} if the claim holds, {refute} if it does not ({self.assumes})"


def needed(claim: Claim, scores: Mapping[str, Scores]) -> SeedsNeeded | None:
    """Seeds that a verdict on `claim` needs; None where nothing tells how runs scatter.

    A number takes the paper's spread over its runs. An ordering takes the spread of the recorded paired differences,
    or where there are none the one that the claim declares.
    """
    rule = claim.rule
    if isinstance(rule, Absolute):
        return _for_number(rule, claim.alpha)
    if isinstance(rule, Ordering):
        return _for_ordering(rule, claim.alpha, scores)
    return None


def _for_number(rule: Absolute, alpha: float) -> SeedsNeeded | None:
    if rule.spread is None:
        return None
    confirm = _first(lambda m: chance_to_confirm(rule, 0.0, m, alpha) >= POWER)
    refute = _first(lambda m: chance_to_refute(rule, -2 * rule.margin, m, alpha) >= POWER)
    assumes = f"our runs scatter as the paper's, {rule.spread:g} points; not holding: {2 * rule.margin:g} points lower"
    return SeedsNeeded(confirm, refute, rule.spread, assumes)


def chance_to_confirm(rule: Absolute, gap: float, m: int, alpha: float) -> float:
    """Probability that m seeds are judged REPRODUCED if our runs differ by `gap` points from the paper's true mean."""
    if m < FEWEST_SEEDS:
        return 0.0
    found = _hypothetical(rule, gap, m)
    return float(np.mean(found.p_within(rule.margin) < alpha)) if found else 0.0


def chance_to_refute(rule: Absolute, gap: float, m: int, alpha: float) -> float:
    """Probability that m seeds are judged NOT_REPRODUCED if our runs differ by `gap` points."""
    found = _hypothetical(rule, gap, m)
    return float(np.mean(found.p_below(-rule.margin) < alpha)) if found else 0.0


def _hypothetical(rule: Absolute, gap: float, m: int) -> Gap | None:
    """The gaps that m runs would show, at evenly spaced quantiles of their mean and of their spread."""
    deviation = float(rule.spread or math.nan)
    quantiles = (np.arange(_GRID) + 0.5) / _GRID
    error = deviation * math.sqrt(1 / m + 1 / rule.runs)  # the paper's mean is a draw as well
    means = rule.value + gap + error * stats.norm.ppf(quantiles)
    spreads = deviation * np.sqrt(stats.chi2.ppf(quantiles, m - 1) / (m - 1)) if m > 1 else np.full(_GRID, math.nan)
    return gap_of(means[:, None], spreads[None, :], m, rule)


def _for_ordering(rule: Ordering, alpha: float, scores: Mapping[str, Scores]) -> SeedsNeeded | None:
    deviation, origin = _observed(rule, scores)
    if not deviation > 0:
        if rule.spread is None:
            return None
        deviation, origin = rule.spread, "declared with the claim"
    holds = rule.claimed if rule.claimed is not None else 2 * max(rule.meaningful, rule.at_least)
    confirm = seeds_needed(holds, deviation, rule.at_least, alpha, POWER)
    refute = seeds_needed(0.0, deviation, rule.meaningful, alpha, POWER)
    assumes = (f"paired differences scatter by {deviation:.2f} points, {origin}; holding: {holds:+g} points, "
               "not holding: none")  # fmt: skip
    return SeedsNeeded(confirm, refute, deviation, assumes)


def _observed(rule: Ordering, scores: Mapping[str, Scores]) -> tuple[float, str]:
    """The largest spread of the recorded paired differences, and NaN where there are none."""
    found = [math.nan]
    better = scores.get(rule.better or "")
    for other in (scores[name] for name in rule.worse if name in scores):
        if better:
            pair = paired_difference(better.percent(rule.measure, rule.network), other.percent(rule.measure))
            found.append(spread(pair.differences))
    return float(np.fmax.reduce(found)), "as recorded"


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest number from which on the next ten are enough too: the power is not quite monotone at the start."""
    return next((m for m in range(1, MOST_SEEDS + 1) if all(enough(n) for n in range(m, m + 10))), None)

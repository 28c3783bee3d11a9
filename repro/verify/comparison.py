"""Is one method better than others? Orderings of accuracy and of success rates, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repro.verify.claims import Claim, Ordering, SuccessRate
from repro.verify.rebuild import Scores
from repro.verify.statistics import (
    FEWEST_SEEDS,
    PairedRates,
    in_percent,
    paired_difference,
    paired_rates,
    rate_difference_interval,
    rate_interval,
    seeds_needed,
    spread,
)
from repro.verify.verdict import Status, Verdict

_WORST_FIRST = (Status.NOT_REPRODUCED, Status.INCONCLUSIVE, Status.REPRODUCED, Status.EXCEEDED)


def status_of(low: float, high: float, rule: Ordering | SuccessRate) -> Status:
    """The rule of all comparisons, from the interval [low, high] of better - worse, in points.

    NOT_REPRODUCED comes first: an interval inside (at_least, meaningful) shows a difference that is real and too small
    to count. With seeds enough any difference is "significant"; what counts was fixed before.
    """
    if high < rule.meaningful:
        return Status.NOT_REPRODUCED
    claimed = rule.claimed if isinstance(rule, Ordering) else None
    if claimed is not None and low > claimed + rule.meaningful:
        return Status.EXCEEDED
    return Status.REPRODUCED if low > rule.at_least else Status.INCONCLUSIVE


def judge_comparison(claim: Claim, rule: Ordering | SuccessRate, better: Scores, others: Sequence[Scores]) -> Verdict:
    """All others must be beaten, so the weakest comparison decides.

    Each is tested at the full alpha: a pass needs all of them, which several chances to fail cannot make easier
    (intersection-union test, Berger 1982).
    """
    verdicts = [
        _ordering(claim, rule, better, other) if isinstance(rule, Ordering) else _success(claim, rule, better, other)
        for other in others
    ]
    return min(verdicts, key=lambda verdict: (_WORST_FIRST.index(verdict.status), verdict.estimate or 0.0))


def _ordering(claim: Claim, rule: Ordering, better: Scores, other: Scores) -> Verdict:
    first = better.measured(rule.measure)[rule.network or better.counted]
    second = other.measured(rule.measure)[other.counted]
    pair = paired_difference(in_percent(first), in_percent(second), 1 - claim.alpha)
    who = f"{better.name}{f' ({rule.network})' if rule.network else ''} against {other.name}"
    if pair.n < FEWEST_SEEDS:
        return Verdict(
            claim.id, Status.INCONCLUSIVE, f"{who}: {_seeds(pair.n)} in common, too few to know the spread",
            estimate=pair.mean if pair.n else None, n=pair.n, missing=f"at least {FEWEST_SEEDS} common seeds",
        )  # fmt: skip
    if not spread(pair.differences) > 0:
        return Verdict(
            claim.id, Status.INCONCLUSIVE, f"{who}: {pair.mean:+z.2f} points in every one of {_seeds(pair.n)}; "
            "without any spread there is no test", estimate=pair.mean, n=pair.n,
            missing="seeds that give different results: check that the seed reaches training",
        )  # fmt: skip
    status = status_of(pair.low, pair.high, rule)
    reason = (f"{who}: {pair.mean:+z.2f} points [{pair.low:+z.2f}, {pair.high:+z.2f}], p = {pair.p_value:.2g}, "
              f"{_seeds(pair.n)}{_unpaired(first, second)}{_bound(status, rule, pair.low)}")  # fmt: skip
    missing = ""
    if status is Status.INCONCLUSIVE:
        target = max(rule.at_least, rule.meaningful, key=lambda bound: abs(pair.mean - bound))
        missing = _more(
            seeds_needed(pair.mean, spread(pair.differences), target, claim.alpha),
            pair.n,
            "mean and spread",
            "; 80 % power",
        )
    return Verdict(claim.id, status, reason, pair.mean, pair.low, pair.high, pair.n, pair.p_value, missing)


def _success(claim: Claim, rule: SuccessRate, better: Scores, other: Scores) -> Verdict:
    first = {seed: accuracy >= rule.success_at for seed, accuracy in better.accuracy[better.counted].items()}
    second = {seed: accuracy >= rule.success_at for seed, accuracy in other.accuracy[other.counted].items()}
    who = f"{better.name} against {other.name}"
    if not first.keys() & second.keys():
        return Verdict(claim.id, Status.INCONCLUSIVE, f"{who}: no seed in common", missing="common seeds")
    pair = paired_rates(first, second, 1 - claim.alpha)
    low, high = 100 * pair.low, 100 * pair.high
    status = status_of(low, high, rule)
    reason = (
        f"{who}: {_rate(pair.first, pair.n, claim.alpha)} against {_rate(pair.second, pair.n, claim.alpha)} "
        f"of data sets reach {100 * rule.success_at:g} %, "
        f"{100 * pair.difference:+z.1f} points [{low:+z.1f}, {high:+z.1f}], "
        f"p = {pair.p_value:.2g}, {_seeds(pair.n)}{_unpaired(first, second)}{_bound(status, rule, low)}"
    )
    missing = ""
    if status is Status.INCONCLUSIVE:
        missing = _more(_data_sets_needed(pair, rule, claim.alpha), pair.n, "the shares")
    return Verdict(claim.id, status, reason, 100 * pair.difference, low, high, pair.n, pair.p_value, missing)


def _data_sets_needed(pair: PairedRates, rule: SuccessRate, alpha: float) -> int | None:
    """The smallest number of data sets that settles it if the shares stay as observed; None up to 10,000."""
    for n in np.unique(np.geomspace(pair.n, 10_000, 200).astype(int)):
        wins, losses = round(pair.only_first * n / pair.n), round(pair.only_second * n / pair.n)
        low, high = rate_difference_interval(wins, losses, int(n), 1 - alpha)
        if status_of(100 * low, 100 * high, rule) is not Status.INCONCLUSIVE:
            return int(n)
    return None


def _bound(status: Status, rule: Ordering | SuccessRate, low: float) -> str:
    """What the interval was held against."""
    if status is Status.NOT_REPRODUCED:
        small = "; better, but by less than counts" if low > rule.at_least else ""
        return f"; below the {rule.meaningful:g} points that would count{small}"
    if status is Status.EXCEEDED:
        return f"; more than the claimed {getattr(rule, 'claimed', 0):g} points"
    return f"; {'above' if status is Status.REPRODUCED else 'not clearly above'} {rule.at_least:g} points"


def _more(total: int | None, n: int, assumed: str, power: str = "") -> str:
    if total is None:
        return "no affordable number of seeds would settle it: the result lies too near a bound"
    return f"about {_seeds(max(total - n, 1))} more (should {assumed} stay as observed{power})"


def _rate(rate: float, n: int, alpha: float) -> str:
    low, high = rate_interval(round(rate * n), n, 1 - alpha)
    return f"{100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"


def _unpaired(first: Mapping[int, object], second: Mapping[int, object]) -> str:
    alone = len(first.keys() ^ second.keys())
    return f" ({_seeds(alone)} without a partner left out)" if alone else ""

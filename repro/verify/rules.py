"""From a claim and the scores of all runs to a verdict: what holds for all claims, and the rule of comparisons.

A claim passes only on evidence. A run that is absent gives NOT_RUN. A run of which any seed was refused, or that is not
the run the claim speaks of, gives INCONCLUSIVE, whatever the remaining numbers are. There is no way around this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from repro.config import EXECUTION, as_mapping, lookup, read_config
from repro.results import LABELS, RUNS, Run, read_runs
from repro.verify.claims import (
    CLAIMS,
    VERDICTS,
    Absolute,
    Claim,
    Measure,
    Ordering,
    Status,
    SuccessRate,
    Verdict,
    read_claims,
    read_verdicts,
    seeds,
    undecided,
    write_verdicts,
)
from repro.verify.evidence import Scores, differing_keys, scores_of
from repro.verify.flags import before_registration
from repro.verify.power import needed
from repro.verify.statistics import (
    FEWEST_SEEDS,
    Gap,
    gap_of,
    paired_difference,
    paired_rates,
    rate_interval,
    spread,
)

_DECIDES_NOTHING = ("title", "data_hash", "planned_seeds", "recipe", *EXECUTION)
"""Settings that describe a run or its execution, and leave its result alone."""
MORE = "more seeds"  # how many, `seeds_needed` says


def judge(claim: Claim, scores: Mapping[str, Scores]) -> Verdict:
    """The verdict on `claim`, from the scores of all runs by name; where there is none, how many seeds one needs."""
    verdict = _judge(claim, scores)
    if verdict.status in {Status.NOT_RUN, Status.INCONCLUSIVE} and (power := needed(claim, scores)):
        return replace(verdict, seeds_needed=power.in_words())
    return verdict


def _judge(claim: Claim, scores: Mapping[str, Scores]) -> Verdict:
    absent = [run for run in claim.runs if run not in scores]
    if absent or not claim.runs:
        reason = f"no results for {', '.join(absent)}" if absent else "this version has no experiment for it"
        return Verdict(
            claim.id, Status.NOT_RUN, reason, missing=claim.cost or "run a plan that has it: make reproduce PLAN=<plan>"
        )
    used = [scores[run] for run in claim.runs]
    departures = [f"{run.name}: {said}" for run in used for said in _said_of(run, claim)]
    problems = [*_refused(claim, used)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        reason, missing = f"evidence refused: {problems[0]}{more}", "evidence without these problems"
        return undecided(claim, reason, missing, departures=departures, problems=problems)
    if isinstance(claim.rule, Absolute):
        verdict = judge_absolute(claim, claim.rule, used[0])
    else:
        verdict = judge_comparison(claim, claim.rule, used[0], used[1:])
    return replace(verdict, departures=departures)


def _said_of(run: Scores, claim: Claim) -> list[str]:
    """What a reader should know of a run beside the verdict."""
    early = before_registration(run.finished, claim.registered)
    return [*run.departures, *run.flags, *([early] if early else [])]


def _refused(claim: Claim, used: list[Scores]) -> Iterator[str]:
    """Why these scores are no evidence for this claim."""
    rule, first = claim.rule, used[0]
    method = lookup(first.config, "method.name")
    if method != claim.method:
        yield f"{first.name}: is a run of {method}, but the claim is about {claim.method}"
    for run in used:
        yield from run.problems
        named = rule.network if run is first and not isinstance(rule, SuccessRate) else None
        measure = Measure.accuracy if isinstance(rule, SuccessRate) else rule.measure
        if not run.percent(measure, named):
            what = "top-5 accuracy" if measure is Measure.top5 else "accuracy"
            yield f"{run.name}: has no {what} of the network {named or run.counted!r}"
        recipe = lookup(run.config, "recipe.name")
        if claim.recipe and recipe != claim.recipe:
            yield f"{run.name}: follows recipe {recipe!r}, but the claim is about {claim.recipe!r}"
    if not isinstance(rule, Absolute) and not any(run.problems for run in used):
        for other in used[1:]:
            yield from _not_comparable(first, other, rule.differ_in)


def _not_comparable(better: Scores, worse: Scores, may_differ: tuple[str, ...]) -> Iterator[str]:
    """Pairing by seed is sound only on the same data; a control is one only if nothing else changed."""
    # A record that is older than a setting was made under its default.
    first, second = (as_mapping(read_config(run.config)) for run in (better, worse))
    keys = [key for key in differing_keys(first, second) if not _within(key, _DECIDES_NOTHING)]
    pair = f"{better.name} and {worse.name}"
    if not keys:
        yield f"{pair}: have the same settings, so nothing is compared"
    data = [key for key in keys if _within(key, ("data",))]
    if data:
        yield f"{pair}: have different data ({', '.join(data)}), so their seeds are no pairs"
    for group in better.training_hash.keys() & worse.training_hash.keys():
        if better.training_hash[group] != worse.training_hash[group]:
            yield f"{pair}: were trained on different data with seed {group[0]} (hash differs); run both again"
    besides = [key for key in keys if may_differ and not _within(key, may_differ)]
    if besides:
        yield f"{pair}: may differ in {', '.join(may_differ)} only, but differ in {', '.join(besides)}"


def _within(key: str, parts: tuple[str, ...]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def judge_absolute(claim: Claim, rule: Absolute, scores: Scores) -> Verdict:
    """The verdict on a number: a few runs may refute it, but only `FEWEST_SEEDS` or more confirm or exceed it."""
    ours = [*scores.percent(rule.measure, rule.network).values()]
    m, mean = len(ours), sum(ours) / len(ours)
    paper = f"{rule.value:.2f}{'' if rule.spread is None else f' ± {rule.spread:.2f}'} %"
    numbers = f"{mean:.2f} % over {seeds(m)}, the paper {paper}"
    if scores.reduced:
        reason = f"a reduced budget does not judge an absolute number ({numbers})"
        return undecided(claim, reason, "a run of the recipe without departures", estimate=mean - rule.value, n=m)
    found = gap_of(mean, spread(ours), m, rule)
    if found is None:
        reason = f"{numbers}; nothing shows how much runs scatter"
        missing = f"at least {FEWEST_SEEDS} seeds, with different results"
        return undecided(claim, reason, missing, estimate=mean - rule.value, n=m)
    status, why = _status_of_number(found, rule.margin, m, claim.alpha)
    low, high = found.interval(2 * claim.alpha)  # that of the one-sided tests
    assumes = f", taking it that {found.assumes}" if found.assumes else ""
    level = f"{100 * (1 - 2 * claim.alpha):g} %"
    reason = f"{numbers}: {found.mean:+z.2f} points [{low:+z.2f}, {high:+z.2f}] ({level}){assumes}; {why}"
    p_value = float(2 * min(found.p_above(0), found.p_below(0)))
    missing = MORE if status is Status.INCONCLUSIVE else ""
    return Verdict(claim.id, status, reason, float(found.mean), low, high, m, p_value, missing)


def _status_of_number(found: Gap, margin: float, m: int, alpha: float) -> tuple[Status, str]:
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
    first, second = better.percent(rule.measure, rule.network), other.percent(rule.measure)
    pair = paired_difference(first, second, 1 - claim.alpha)
    who = f"{better.name}{f' ({rule.network})' if rule.network else ''} against {other.name}"
    if pair.n < FEWEST_SEEDS:
        reason = f"{who}: {seeds(pair.n)} in common, too few to know the spread"
        estimate = pair.mean if pair.n else None
        return undecided(claim, reason, f"at least {FEWEST_SEEDS} common seeds", estimate=estimate, n=pair.n)
    if not spread(pair.differences) > 0:
        reason = f"{who}: {pair.mean:+z.2f} points in every one of {seeds(pair.n)}; without any spread there is no test"
        missing = "seeds that give different results: check that the seed reaches training"
        return undecided(claim, reason, missing, estimate=pair.mean, n=pair.n)
    status = status_of(pair.low, pair.high, rule)
    reason = (f"{who}: {pair.mean:+z.2f} points [{pair.low:+z.2f}, {pair.high:+z.2f}], p = {pair.p_value:.2g}, "
              f"{seeds(pair.n)}{_unpaired(first, second)}{_bound(status, rule, pair.low)}")  # fmt: skip
    missing = MORE if status is Status.INCONCLUSIVE else ""
    return Verdict(claim.id, status, reason, pair.mean, pair.low, pair.high, pair.n, pair.p_value, missing)


def _success(claim: Claim, rule: SuccessRate, better: Scores, other: Scores) -> Verdict:
    first = {seed: accuracy >= rule.success_at for seed, accuracy in better.accuracy[better.counted].items()}
    second = {seed: accuracy >= rule.success_at for seed, accuracy in other.accuracy[other.counted].items()}
    who = f"{better.name} against {other.name}"
    if not first.keys() & second.keys():
        return undecided(claim, f"{who}: no seed in common", "common seeds")
    pair = paired_rates(first, second, 1 - claim.alpha)
    low, high = 100 * pair.low, 100 * pair.high
    status = status_of(low, high, rule)
    reason = (
        f"{who}: {_rate(pair.first, pair.n, claim.alpha)} against {_rate(pair.second, pair.n, claim.alpha)} "
        f"of data sets reach {100 * rule.success_at:g} %, "
        f"{100 * pair.difference:+z.1f} points [{low:+z.1f}, {high:+z.1f}], "
        f"p = {pair.p_value:.2g}, {seeds(pair.n)}{_unpaired(first, second)}{_bound(status, rule, low)}"
    )
    missing = MORE if status is Status.INCONCLUSIVE else ""
    return Verdict(claim.id, status, reason, 100 * pair.difference, low, high, pair.n, pair.p_value, missing)


def _bound(status: Status, rule: Ordering | SuccessRate, low: float) -> str:
    """What the interval was held against."""
    if status is Status.NOT_REPRODUCED:
        small = "; better, but by less than counts" if low > rule.at_least else ""
        return f"; below the {rule.meaningful:g} points that would count{small}"
    if status is Status.EXCEEDED:
        return f"; more than the claimed {getattr(rule, 'claimed', 0):g} points"
    return f"; {'above' if status is Status.REPRODUCED else 'not clearly above'} {rule.at_least:g} points"


def _rate(rate: float, n: int, alpha: float) -> str:
    low, high = rate_interval(round(rate * n), n, 1 - alpha)
    return f"{100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _unpaired(first: Mapping[int, object], second: Mapping[int, object]) -> str:
    alone = len(first.keys() ^ second.keys())
    return f" ({seeds(alone)} without a partner left out)" if alone else ""


def judged(
    runs: Mapping[str, Run], stored: Path = LABELS, claims: Path = CLAIMS
) -> tuple[list[Verdict], dict[str, Scores]]:
    """All verdicts on these runs, and the accuracies they rest on."""
    scores = scores_of(runs, stored)
    return [judge(claim, scores) for claim in read_claims(claims)], scores


def verify() -> int:
    """Judges every claim on the recorded runs and writes results/verdicts.json.

    Gives 1 where a record or a kept network is not what was written.
    """
    torch.set_num_threads(1)  # the tensors are small: more threads wait for each other
    runs = read_runs()
    verdicts, scores = judged(runs)
    changed = _said(scores, RUNS.parent, runs)
    write_verdicts(verdicts)
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")
    return int(changed)


def verify_elsewhere(place: Path) -> int:
    """Recomputes what is recorded in another results folder, or project, and judges all claims on it; writes nothing.

    Gives 1 where a record or a kept network is not what was written, or other verdicts are written there; else 0.
    """
    torch.set_num_threads(1)
    root = next((one for one in (place, place / "results") if (one / RUNS.name).is_dir()), None)
    runs = read_runs(root / RUNS.name) if root else {}
    if not (root and runs):
        raise ValueError(f"{place}: has no run in a folder runs; name a results folder, or the project it is of")
    claims = next((one for one in (CLAIMS, _PROJECT / CLAIMS) if one.is_file()), None)
    verdicts, scores = judged(runs, root / LABELS.name, claims) if claims else ([], scores_of(runs, root / LABELS.name))
    for run in scores.values():
        if ours := run.percent().values():
            print(f"{run.name}: {run.counted} {sum(ours) / len(ours):.2f} % over {seeds(len(ours))}")
    changed = _said(scores, root, runs)
    if not claims:
        print(f"no claim was judged: {CLAIMS} is not here; run this in a checkout of the project")
        return int(changed)
    counts = Counter(verdict.status for verdict in verdicts)
    print(f"judged by {claims}: " + ", ".join(f"{counts[one]} {one}" for one in Status if counts[one]))
    written = root / VERDICTS.name
    if not written.exists():
        print(f"{written} is not there to compare with")
        return int(changed)
    recorded = {verdict.claim: verdict for verdict in read_verdicts(written)}
    other = [verdict.claim for verdict in verdicts if recorded.get(verdict.claim) != verdict]
    other += sorted(recorded.keys() - {verdict.claim for verdict in verdicts})  # of claims that are gone
    print(f"{len(other)} other than {written} says{': ' + ', '.join(other[:5]) if other else ''}")
    return int(bool(other) or changed)


_PROJECT = Path(__file__).parents[2]


def _said(scores: Mapping[str, Scores], root: Path, runs: Mapping[str, Run]) -> bool:
    """Prints what was refused, flagged or could not be checked; whether a record or a kept network was changed."""
    from repro.evaluate.weights import WEIGHTS, held_against_records

    for problem in sorted({problem for score in scores.values() for problem in score.problems}):
        print(f"refused: {problem}")
    for score in scores.values():
        for flag in score.flags:
            print(f"flagged: {score.name}: {flag}")
    for part in sorted({score.unchecked for score in scores.values()} - {""}):
        names = [score.name for score in scores.values() if score.unchecked == part]
        print(f"not checked: {part}, of {', '.join(names[:5])}{f' and {len(names) - 5} more' if names[5:] else ''}")
    wrong, unchecked = held_against_records(root / WEIGHTS.name, runs)
    print("".join(f"refused: {one}\n" for one in wrong) + "".join(f"not checked: {one}\n" for one in unchecked), end="")
    return any(score.changed for score in scores.values()) or bool(wrong)

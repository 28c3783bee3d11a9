"""Claim x scores -> verdict. The rules are in `absolute.py` and `comparison.py`; here is what holds for all of them.

A claim passes only on evidence. A run that is absent gives NOT_RUN. A run of which any seed was refused, or that is not
the run the claim speaks of, gives INCONCLUSIVE, whatever the remaining numbers are. There is no way around this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from repro.config.departures import lookup
from repro.config.read import ConfigError, as_mapping, read_config
from repro.verify.absolute import judge_absolute
from repro.verify.claims import Absolute, Claim, Measure, SuccessRate
from repro.verify.comparison import judge_comparison
from repro.verify.fit import differing_keys
from repro.verify.power import needed
from repro.verify.rebuild import Scores
from repro.verify.verdict import Status, Verdict

_DECIDES_NOTHING = (
    "title",
    "data_hash",
    "planned_seeds",
    "recipe",
    "budget.workers",
    "budget.max_minutes",
    "budget.checkpoint_minutes",
    "engine.recompute",
    "engine.readers",
    "engine.side_by_side",
    "data.root",
)
"""Settings that describe a run or its execution, and leave its result alone."""


def judge(claim: Claim, scores: Mapping[str, Scores]) -> Verdict:
    """The verdict on `claim`, from the scores of all runs by name; where there is none, how many seeds one needs."""
    verdict = _judge(claim, scores)
    if verdict.status in {Status.NOT_RUN, Status.INCONCLUSIVE} and (seeds := needed(claim, scores)):
        return replace(verdict, seeds_needed=seeds.in_words())
    return verdict


def _judge(claim: Claim, scores: Mapping[str, Scores]) -> Verdict:
    absent = [run for run in claim.runs if run not in scores]
    if absent or not claim.runs:
        reason = f"no results for {', '.join(absent)}" if absent else "this version has no experiment for it"
        return Verdict(claim.id, Status.NOT_RUN, reason, missing=claim.cost or "run it: make reproduce")
    used = [scores[run] for run in claim.runs]
    departures = [f"{run.name}: {departure}" for run in used for departure in run.departures]
    problems = [*_refused(claim, used)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Verdict(
            claim.id, Status.INCONCLUSIVE, f"evidence refused: {problems[0]}{more}",
            missing="evidence without these problems", departures=departures, problems=problems,
        )  # fmt: skip
    if isinstance(claim.rule, Absolute):
        verdict = judge_absolute(claim, claim.rule, used[0])
    else:
        verdict = judge_comparison(claim, claim.rule, used[0], used[1:])
    return replace(verdict, departures=departures)


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
        network = named or run.counted
        accuracies = run.measured(measure).get(network, {})
        if not accuracies:
            what = "top-5 accuracy" if measure is Measure.top5 else "accuracy"
            yield f"{run.name}: has no {what} of the network {network!r}"
        for seed, accuracy in accuracies.items():
            if not (math.isfinite(accuracy) and 0 <= accuracy <= 1):
                yield f"{run.name}, seed {seed}: accuracy {accuracy} is not a share; train and evaluate it again"
        recipe = lookup(run.config, "recipe.name")
        if claim.recipe and recipe != claim.recipe:
            yield f"{run.name}: follows recipe {recipe!r}, but the claim is about {claim.recipe!r}"
    if not isinstance(rule, Absolute):
        for other in used[1:]:
            yield from _not_comparable(first, other, rule.differ_in)


def _not_comparable(better: Scores, worse: Scores, may_differ: tuple[str, ...]) -> Iterator[str]:
    """Pairing by seed is sound only on the same data; a control is one only if nothing else changed."""
    keys = [
        key
        for key in differing_keys(_complete(better.config), _complete(worse.config))
        if not _within(key, _DECIDES_NOTHING)
    ]
    pair = f"{better.name} and {worse.name}"
    if not keys:
        yield f"{pair}: have the same settings, so nothing is compared"
    data = [key for key in keys if _within(key, ("data",))]
    if data:
        yield f"{pair}: have different data ({', '.join(data)}), so their seeds are no pairs"
    for seeds in better.training_hash.keys() & worse.training_hash.keys():
        if better.training_hash[seeds] != worse.training_hash[seeds]:
            yield f"{pair}: were trained on different data with seed {seeds[0]} (hash differs); run both again"
    besides = [key for key in keys if may_differ and not _within(key, may_differ)]
    if besides:
        yield f"{pair}: may differ in {', '.join(may_differ)} only, but differ in {', '.join(besides)}"


def _within(key: str, parts: tuple[str, ...]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _complete(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a record, with the defaults of those that are newer than it: under them it was made."""
    try:
        return as_mapping(read_config(config))
    except ConfigError:
        return config  # compared as it stands

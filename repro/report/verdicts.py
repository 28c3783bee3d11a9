"""Verdicts as rows, the three answers that follow from them, and the numbers that go into metrics.json."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from repro.plan import ROOT, Comparison, comparisons, read_plan, setting_and_arm
from repro.report.doses import PlantedRow, planted_rows
from repro.report.tables import (
    NETWORKS,
    PAGES,
    FeedbackSize,
    Network,
    Record,
    Step,
    WrongLabels,
    attribution,
    feedback_size,
    wrong_labels,
)
from repro.verify.claims import Absolute, Claim, Ordering, Origin, Status, SuccessRate, Verdict
from repro.verify.power import SeedsNeeded, needed
from repro.verify.statistics import PairedDifference, holm

CONFIRMATORY = "cifar10_small_"
"""How the ids of study 1's claims begin: registered before its first seed, corrected by Holm for their number."""
PREFERRED = ("cifar10_small", "digits")
"""Settings that answer which part carries the result, the best first; the first whose claims have all run."""
LEVEL = 0.05


@dataclass(frozen=True)
class ClaimRow:
    """A claim, its verdict and where the evidence for it lies."""

    claim: Claim
    verdict: Verdict
    page: str
    short: str  # what it says, without the data set
    network: str  # in words
    evidence: tuple[tuple[str, str], ...]  # arm, run
    confirmatory: bool
    holm: float  # the p-value, corrected for the claims of its family
    power: SeedsNeeded | None
    spread: str  # that the power rests on, points
    plan: str  # that has all its runs; empty: none has

    @property
    def ran(self) -> bool:
        """Whether the runs are there."""
        return self.verdict.status is not Status.NOT_RUN

    @property
    def status(self) -> str:
        """In words; a confirmatory pass that does not survive the correction says so."""
        words = self.verdict.status.value.replace("_", " ")
        passed = self.verdict.status in {Status.REPRODUCED, Status.EXCEEDED}
        return f"{words}, not after Holm" if self.confirmatory and passed and self.holm >= LEVEL else words

    @property
    def number(self) -> bool:
        """Whether it is a number of the paper; else an ordering."""
        return isinstance(self.claim.rule, Absolute)


def claim_rows(record: Record) -> list[ClaimRow]:
    """All claims, in their order, each with its p-value corrected within its family."""
    verdicts = [record.verdict(claim) for claim in record.claims]
    corrected = [math.nan] * len(verdicts)
    for family in (True, False):
        places = [i for i, claim in enumerate(record.claims) if claim.id.startswith(CONFIRMATORY) is family]
        for i, p in zip(places, holm([_p_value(verdicts[i], family) for i in places]), strict=True):
            corrected[i] = p if verdicts[i].p_value is not None else math.nan
    return [_row(record, *item) for item in zip(record.claims, verdicts, corrected, strict=True)]


def _p_value(verdict: Verdict, confirmatory: bool) -> float:
    """A registered claim that has not been tested yet counts as if nothing were in it."""
    missing = 1.0 if confirmatory else math.nan
    return missing if verdict.p_value is None or math.isnan(verdict.p_value) else verdict.p_value


def _row(record: Record, claim: Claim, verdict: Verdict, corrected: float) -> ClaimRow:
    power = _of_number(claim) if isinstance(claim.rule, Absolute) else needed(claim, record.scores)
    spread = re.search(r"([\d.]+) points", power.assumes) if power else None
    return ClaimRow(
        claim=claim,
        verdict=verdict,
        page=page_of(claim),
        short=_short(claim.says),
        network=_networks(record, claim) if verdict.status is not Status.NOT_RUN else "",
        evidence=tuple((setting_and_arm(run)[1], run) for run in claim.runs),
        confirmatory=claim.id.startswith(CONFIRMATORY),
        holm=corrected,
        power=power,
        spread=spread[1] if spread else "",
        plan=plan_of(claim.runs),
    )


@cache
def _of_number(claim: Claim) -> SeedsNeeded | None:
    """A number's rests on the paper's spread alone, and takes a while."""
    return needed(claim, {})


def page_of(claim: Claim) -> str:
    """The page of the claim's first run; of a claim without an experiment, that of its data set."""
    if claim.runs:
        return setting_and_arm(claim.runs[0])[0].page
    return next((page for page in PAGES if claim.id.startswith(page.split("_")[0])), "")


@cache
def plan_of(runs: tuple[str, ...]) -> str:
    """The plan with the fewest runs that has all of these; empty where there are none, or none has."""
    plans = [read_plan(path) for path in sorted((ROOT / "plan").glob("*.yaml"))]
    fitting = [plan for plan in plans if runs and set(runs) <= {run.name for run in plan.runs}]
    return min(fitting, key=lambda plan: len(plan.runs)).name if fitting else ""


def _short(says: str) -> str:
    """Without its first clause where that names the data set."""
    rest = re.sub(r"^(On|In) .+?, ", "", says)
    return rest[:1].upper() + rest[1:]


def _networks(record: Record, claim: Claim) -> str:
    rule = claim.rule
    named = None if isinstance(rule, SuccessRate) else rule.network
    first, *others = (record.counted(run).network for run in claim.runs)
    words = dict.fromkeys(NETWORKS.get(name, name) for name in (named or first, *others))
    return " − ".join(words)


def shown_rule(claim: Claim) -> str:
    """What passes and what refutes, in points."""
    rule = claim.rule
    if isinstance(rule, Absolute):
        return f"± {rule.margin:g}"
    return f"{rule.at_least:g} / {rule.meaningful:g}"


def chance_of_false_pass(tests: int) -> float:
    """That at least one of so many claims passes at 2.5 %, one-sided, where none holds; the tests independent. In %."""
    return 100 * (1 - (1 - LEVEL / 2) ** tests)


def counts(verdicts: Mapping[str, Verdict] | Sequence[Verdict]) -> dict[str, int]:
    """Claims by status, in words; statuses without any left out."""
    each = verdicts.values() if isinstance(verdicts, Mapping) else verdicts
    found = Counter(verdict.status for verdict in each)
    return {status.value.replace("_", " "): found[status] for status in Status if found[status]}


@dataclass(frozen=True)
class Waiting:
    """The claims of a data set that have not run, and what they would take."""

    page: str
    numbers: int
    orderings: int
    costs: dict[str, int]  # in words -> claims, the most frequent first
    plans: tuple[str, ...]
    without: int  # claims that this version has no experiment for


def waiting(rows: Sequence[ClaimRow]) -> list[Waiting]:
    """By page, in the order of the pages; pages without such claims left out."""
    found = []
    for page in PAGES:
        mine = [row for row in rows if row.page == page and not row.ran]
        costs = Counter(_cost(row.claim) for row in mine if row.claim.cost)
        plans = tuple(dict.fromkeys(row.plan for row in mine if row.plan))
        numbers, without = sum(row.number for row in mine), sum(not row.claim.runs for row in mine)
        if mine:
            found.append(Waiting(page, numbers, len(mine) - numbers, dict(costs.most_common()), plans, without))
    return found


def _cost(claim: Claim) -> str:
    """Without the command, which stands beside it."""
    return re.sub(r": ?make reproduce PLAN=\w+( on a GPU)?", "", " ".join(claim.cost.split())).rstrip(". ")


@dataclass(frozen=True)
class Answers:
    """The three answers, as numbers; templates/answers.j2 has the words."""

    numbers: int  # of the paper
    numbers_ran: int
    numbers_hold: int
    orderings: int  # that the paper states or implies
    ordering_counts: dict[str, int]  # of those that ran, by status
    counts: dict[str, int]  # all claims, by status
    setting: Comparison | None  # that answers the other two questions
    steps: list[Step]
    carried: Step | None  # the step with the largest gain whose interval lies above zero
    feedback: PairedDifference | None  # MPL minus h = 0, on the networks that count
    place: Network | None  # of MPL
    verdict: ClaimRow | None  # on the claim that compares the two
    wrong: WrongLabels | None  # of MPL against h = 0
    size: FeedbackSize | None
    alone: ClaimRow | None  # feedback as the teacher's only source of labels
    planted: dict[str, PlantedRow]  # arms of study 3 that the third answer names; empty until all of them have run


ALONE = "moons_paper_feedback_teaches"
PLANTED = "moons_planted"
PLANTED_ARMS = ("mpl_no_feedback", "mpl", "mpl_held", "consistency_alone", "feedback_alone", "exact_alone")


def answers(record: Record, rows: Sequence[ClaimRow]) -> Answers:
    """What the verdicts and the recorded runs say to the three questions."""
    numbers = [row for row in rows if row.number]
    orderings = [row for row in rows if not row.number and row.claim.by is Origin.paper]
    holds = {Status.REPRODUCED, Status.EXCEEDED}
    setting = best_setting(record.verdicts)
    runs = setting.runs if setting else {}
    mpl, without = (record.counted(runs.get(arm, "")) for arm in ("mpl", "mpl_no_feedback"))
    known = setting if setting and record.has(mpl.run) and record.has(without.run) else None
    steps = attribution(record, known) if known else []
    gains = [step for step in steps[1:] if step.gain and step.gain.low > 0]
    pair = (mpl.run, without.run)
    return Answers(
        numbers=len(numbers),
        numbers_ran=sum(row.ran for row in numbers),
        numbers_hold=sum(row.verdict.status in holds for row in numbers),
        orderings=len(orderings),
        ordering_counts=counts([row.verdict for row in orderings if row.ran]),
        counts=counts([row.verdict for row in rows]),
        setting=known,
        steps=steps,
        carried=max(gains, key=lambda step: step.gain.mean if step.gain else 0.0, default=None),
        feedback=record.paired(mpl, without) if known else None,
        place=mpl if known else None,
        verdict=next((row for row in rows if row.claim.runs == pair and isinstance(row.claim.rule, Ordering)), None),
        wrong=next((one for one in wrong_labels(record, known) if one.run == mpl.run), None) if known else None,
        size=feedback_size(record, known, "mpl") if known else None,
        alone=next((row for row in rows if row.claim.id == ALONE and row.verdict.estimate is not None), None),
        planted=_planted(record),
    )


def _planted(record: Record) -> dict[str, PlantedRow]:
    found = {row.arm: row for row in planted_rows(record, comparisons()[PLANTED]) if row.arm in PLANTED_ARMS}
    return found if len(found) == len(PLANTED_ARMS) else {}


def best_setting(verdicts: Mapping[str, Verdict]) -> Comparison | None:
    """The first of the preferred settings of which every claim has run."""
    for setting in PREFERRED:
        mine = [v for name, v in verdicts.items() if name.startswith(f"{setting}_") and not _longer(name, setting)]
        if mine and all(verdict.status is not Status.NOT_RUN for verdict in mine):
            return comparisons()[setting]
    return None


def _longer(claim: str, setting: str) -> bool:
    """Whether the claim is of a setting whose name only begins alike: digits_long beside digits."""
    return any(claim.startswith(f"{other}_") for other in comparisons() if other.startswith(f"{setting}_"))


def needed_runs(verdicts: Mapping[str, Verdict]) -> list[str]:
    """The runs that the answers are computed from, besides the verdicts."""
    setting = best_setting(verdicts)
    wanted = ("supervised", "uda", "mpl_no_feedback", "mpl")
    found = [run for arm, run in setting.runs.items() if arm in wanted] if setting else []
    return found + [comparisons()[PLANTED].run(arm) for arm in PLANTED_ARMS]


def metrics(record: Record) -> dict[str, Any]:
    """Mean accuracy in % by run and network, seeds, verdicts by status: flat and sorted, for `dvc metrics diff`."""
    found: dict[str, Any] = {}
    for (run, network, measure), rows in record.table.groupby(["run", "network", "measure"]):
        found[f"{measure} %/{run}/{network}"] = round(100 * float(np.mean(rows["share"])), 4)
        found[f"seeds/{run}"] = len(rows)
    found |= {f"verdicts/{status}": 0 for status in Status}
    found |= {f"verdicts/{s.replace(' ', '_')}": n for s, n in counts(record.verdicts).items()}
    return dict(sorted(found.items()))

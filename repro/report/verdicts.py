"""Verdicts as rows, the three answers that follow from them, and the numbers that go into metrics.json."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from repro.files import ROOT
from repro.plan import Comparison, comparisons, read_plan, setting_and_arm
from repro.report.record import PAGES, Place, Record
from repro.report.tables import (
    NETWORKS,
    FeedbackSize,
    Row,
    attribution,
    feedback_size,
    planted,
    wrong_labels,
)
from repro.verify.claims import Absolute, Claim, Measure, Ordering, Origin, Status, SuccessRate, Verdict
from repro.verify.power import SeedsNeeded, needed
from repro.verify.statistics import PairedDifference, holm

CONFIRMATORY = "cifar10_small_"
"""How the ids of study 1's claims begin: registered before its first seed, corrected by Holm for their number."""
ANSWERING = {
    "cifar10_small": ("cifar10_small_uda_over_supervised", "cifar10_small_feedback"),
    "digits_long": ("digits_long_over_uda", "digits_long_feedback"),
    "digits": ("digits_uda_over_supervised", "digits_feedback"),
}
"""Settings that answer which part carries the result, the best first, and the claims that must have run for it.

In `digits` the student is still behind its teacher when training ends; five times as long, it has caught up.
"""
LEVEL = 0.05
HOLDS = (Status.REPRODUCED, Status.EXCEEDED)


@dataclass(frozen=True)
class ClaimRow:
    """A claim, its verdict and where the evidence for it lies."""

    claim: Claim
    verdict: Verdict
    page: str
    network: str  # in words; empty while it has not run
    arms: dict[str, str]  # run -> arm
    holm: float  # the p-value, corrected for the claims of its family
    power: SeedsNeeded | None
    plan: str  # that has all its runs; empty: none has

    @property
    def ran(self) -> bool:
        """Whether the runs are there."""
        return self.verdict.status is not Status.NOT_RUN

    @property
    def number(self) -> bool:
        """Whether it is a number of the paper; else an ordering."""
        return isinstance(self.claim.rule, Absolute)

    @property
    def confirmatory(self) -> bool:
        """Whether it was registered before its first seed was trained."""
        return self.claim.id.startswith(CONFIRMATORY)

    @property
    def short(self) -> str:
        """What it says, without its first clause where that names the data set."""
        rest = re.sub(r"^(On|In) .+?, ", "", self.claim.says)
        return rest[:1].upper() + rest[1:]

    @property
    def status(self) -> str:
        """In words; a confirmatory pass that does not survive the correction says so."""
        words = self.verdict.status.value.replace("_", " ")
        weak = self.confirmatory and self.verdict.status in HOLDS and self.holm >= LEVEL
        return f"{words}, not after Holm" if weak else words


def claim_rows(record: Record) -> list[ClaimRow]:
    """All claims, in their order, each with its p-value corrected within its family."""
    verdicts = {claim.id: record.verdict(claim) for claim in record.claims}
    corrected: dict[str, float] = {}
    for confirmatory in (True, False):
        family = [one for one in verdicts if one.startswith(CONFIRMATORY) is confirmatory]
        # A registered claim that has not been tested yet counts as if nothing were in it.
        known = [verdicts[one].p_value for one in family]
        missing = 1.0 if confirmatory else math.nan
        p_values = [missing if p is None or math.isnan(p) else p for p in known]
        found = zip(family, known, holm(p_values), strict=True)
        corrected |= {claim: math.nan if p is None else adjusted for claim, p, adjusted in found}
    return [_row(record, claim, verdicts[claim.id], corrected[claim.id]) for claim in record.claims]


def _row(record: Record, claim: Claim, verdict: Verdict, corrected: float) -> ClaimRow:
    return ClaimRow(
        claim=claim,
        verdict=verdict,
        page=page_of(claim),
        network=_networks(record, claim) if verdict.status is not Status.NOT_RUN else "",
        arms={run: setting_and_arm(run)[1] for run in claim.runs},
        holm=corrected,
        power=_of_number(claim) if isinstance(claim.rule, Absolute) else needed(claim, record.scores),
        plan=plan_of(claim.runs),
    )


@cache
def _of_number(claim: Claim) -> SeedsNeeded | None:
    """That of a number rests on the paper's spread alone, and takes a while."""
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


def _networks(record: Record, claim: Claim) -> str:
    named = None if isinstance(claim.rule, SuccessRate) else claim.rule.network
    first, *others = (record.counted(run).network for run in claim.runs)
    return " − ".join(dict.fromkeys(NETWORKS.get(name, name) for name in (named or first, *others)))


def chance_of_false_pass(tests: int) -> float:
    """That at least one of so many claims passes at 2.5 %, one-sided, where none holds; the tests independent. In %."""
    return 100 * (1 - (1 - LEVEL / 2) ** tests)


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Claims by status, in words; statuses without any left out."""
    found = Counter(verdict.status for verdict in verdicts)
    return {status.value.replace("_", " "): found[status] for status in Status if found[status]}


def waiting(rows: Sequence[ClaimRow]) -> list[dict[str, Any]]:
    """The claims of each page that have not run, and what they would take; pages without such claims left out."""
    found = []
    for page in PAGES:
        mine = [row for row in rows if row.page == page and not row.ran]
        if not mine:
            continue
        one: dict[str, Any] = {"page": page, "numbers": sum(row.number for row in mine)}
        one["orderings"] = len(mine) - one["numbers"]
        one["costs"] = dict(Counter(_cost(row.claim) for row in mine if row.claim.cost).most_common())  # in words
        one["plans"] = tuple(dict.fromkeys(row.plan for row in mine if row.plan))
        one["without"] = sum(not row.claim.runs for row in mine)  # that this version has no experiment for
        found.append(one)
    return found


def _cost(claim: Claim) -> str:
    """Without the command, which stands beside it."""
    return re.sub(r": ?make reproduce PLAN=\w+( on a GPU)?", "", " ".join(claim.cost.split())).rstrip(". ")


@dataclass(frozen=True)
class Answers:
    """The three answers, as numbers; templates/answers.j2 has the words."""

    numbers: list[ClaimRow]  # of the paper
    orderings: list[ClaimRow]  # that the paper states or implies
    counts: dict[str, int]  # all claims, by status
    setting: Comparison | None  # that answers the other two questions
    steps: list[Row]
    carried: Row | None  # the step with the largest gain whose interval lies above zero
    feedback: PairedDifference | None  # MPL minus h = 0, on the networks that count
    place: Place | None  # of MPL
    verdict: ClaimRow | None  # on the claim that compares the two
    held: PairedDifference | None  # MPL with feedback held at a tenth, minus h = 0
    wrong: Row | None  # wrong pseudo labels of MPL against h = 0
    size: FeedbackSize | None
    alone: ClaimRow | None  # feedback as the teacher's only source of labels
    planted: dict[str, Row]  # arms of study 3 that the third answer names; empty until all of them have run


ALONE = "moons_paper_feedback_teaches"
PLANTED = "moons_planted"
PLANTED_ARMS = ("mpl_no_feedback", "mpl", "consistency_alone", "feedback_alone")


def answers(record: Record, rows: Sequence[ClaimRow]) -> Answers:
    """What the verdicts and the recorded runs say to the three questions."""
    setting = best_setting(record.verdicts)
    arms = ("mpl", "mpl_no_feedback", "mpl_held")
    mpl, without, held = (record.counted(setting.runs.get(arm, "") if setting else "") for arm in arms)
    known = setting if record.has(mpl.run) and record.has(without.run) else None
    steps = attribution(record, known) if known else []
    gains = {step.number.gain.mean: step for step in steps if step.number.gain and step.number.gain.low > 0}
    pair = (mpl.run, without.run)
    compares = [row for row in rows if row.claim.runs == pair and isinstance(row.claim.rule, Ordering)]
    labels = {row.arm: row for row in planted(record, comparisons()[PLANTED]) if row.arm in PLANTED_ARMS}
    return Answers(
        numbers=[row for row in rows if row.number],
        orderings=[row for row in rows if not row.number and row.claim.by is Origin.paper],
        counts=counts(row.verdict for row in rows),
        setting=known,
        steps=steps,
        carried=gains[max(gains)] if gains else None,
        feedback=record.paired(mpl, without) if known else None,
        place=mpl if known else None,
        verdict=next(iter(compares), None),
        held=record.paired(held, without) if known and record.has(held.run) else None,
        wrong=next((row for row in wrong_labels(record, known) if row.arm == "mpl"), None) if known else None,
        size=feedback_size(record, known, "mpl") if known else None,
        alone=next((row for row in rows if row.claim.id == ALONE and row.verdict.estimate is not None), None),
        planted=labels if len(labels) == len(PLANTED_ARMS) else {},
    )


def best_setting(verdicts: Mapping[str, Verdict]) -> Comparison | None:
    """The first setting in `ANSWERING` whose claims have run."""
    ran = {name for name, verdict in verdicts.items() if verdict.status is not Status.NOT_RUN}
    return next((comparisons()[setting] for setting, claims in ANSWERING.items() if ran.issuperset(claims)), None)


def needed_runs(verdicts: Mapping[str, Verdict]) -> list[str]:
    """The runs that the answers are computed from, besides the verdicts."""
    setting = best_setting(verdicts)
    wanted = ("supervised", "uda", "mpl_no_feedback", "mpl", "mpl_held")
    found = [run for arm, run in setting.runs.items() if arm in wanted] if setting else []
    return found + [comparisons()[PLANTED].run(arm) for arm in PLANTED_ARMS]


def metrics(record: Record) -> dict[str, Any]:
    """Mean accuracy in % by run and network, seeds, verdicts by status: flat and sorted, for `dvc metrics diff`."""
    found: dict[str, Any] = {}
    for run, scores in record.scores.items():
        for measure in Measure:
            for network, shares in scores.measured(measure).items():
                if shares:
                    share = np.mean([*shares.values()])
                    found |= {f"{measure} %/{run}/{network}": round(100 * float(share), 4), f"seeds/{run}": len(shares)}
    by_status = Counter(verdict.status for verdict in record.verdicts.values())
    return dict(sorted((found | {f"verdicts/{status}": by_status[status] for status in Status}).items()))

"""The three answers that follow from the verdicts and the runs, and the numbers that go into metrics.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repro.plan import Comparison, comparisons
from repro.report.record import ClaimRow, Place, Record, counts
from repro.report.tables import FeedbackSize, Row, attribution, feedback_size, planted, wrong_labels
from repro.verify.claims import Measure, Ordering, Origin, Status, Verdict
from repro.verify.statistics import PairedDifference

ANSWERING = {
    "cifar10_small": ("cifar10_small_uda_over_supervised", "cifar10_small_feedback"),
    "digits_long": ("digits_long_over_uda", "digits_long_feedback"),
    "digits": ("digits_uda_over_supervised", "digits_feedback"),
}
"""Settings that answer which part carries the result, the best first, and the claims that must have run for it.

In `digits` the student is still behind its teacher when training ends; five times as long, it has caught up.
"""


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

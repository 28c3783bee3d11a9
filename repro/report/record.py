"""What the report rests on, and the one way from there to a number.

A number has a `Place`: run, network, measure. `Record.percent` gives it seed by seed, `Record.number` its mean and how
far it is from another's. Shares are in % and differences in points from here on; differences are paired by seed;
intervals are 95 %. A verdict with all that a page says of it is a `ClaimRow`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from repro.config import lookup
from repro.files import ROOT
from repro.plan import Comparison, Plan, comparisons, read_plan, setting_and_arm
from repro.results import Run, read_run, steps_of
from repro.verify.claims import Absolute, Claim, Measure, Status, SuccessRate, Verdict, read_claims, read_verdicts
from repro.verify.evidence import Scores, scores_of
from repro.verify.power import SeedsNeeded, needed
from repro.verify.statistics import PairedDifference, holm, mean_interval, paired_difference

RESULTS = Path("results")
PAGES = {
    "two_moons": "Two moons",
    "digits": "Handwritten digits",
    "cifar10_4k": "CIFAR-10 with 4,000 labels",
    "svhn_1k": "SVHN with 1,000 labels",
    "imagenet_10pct": "ImageNet with 10 % of the labels",
    "feedback": "Does feedback matter? Studies 1 and 2",
    "bias": "Does feedback cure confirmation bias? Study 3",
}
STUDIES = ("feedback", "bias")
"""Pages that are of no one data set."""
FIRST = ("moons_stated", "moons_tuned", "moons_feedback_only", "digits", "digits_long", "digits_quick", "cifar10_small")
"""Settings in the order in which a page shows them; all others follow by name."""
NETWORKS = {
    "teacher": "teacher",
    "teacher_average": "teacher, averaged",
    "student": "student",
    "student_average": "student, averaged",
    "student_finetuned": "student, finetuned",
}
CONFIRMATORY = "cifar10_small_"
"""How the ids of study 1's claims begin: registered before its first seed, corrected by Holm for their number."""
LEVEL = 0.05
HOLDS = (Status.REPRODUCED, Status.EXCEEDED)


def _end(curve: pd.DataFrame, _: object = None) -> pd.Series[float]:
    return curve.iloc[:, -1]


CURVES: dict[str, tuple[str, Callable[[pd.DataFrame, Mapping[str, Any]], pd.Series[float]]]] = {
    "wrong": ("pseudo_label_wrong", _end),  # pseudo labels that are not the true label
    "stays": ("wrong_stays", lambda curve, _: curve.iloc[:, curve.shape[1] // 2 :].mean(axis=1)),
    "planted": ("pseudo_label_wrong", lambda curve, config: curve[lookup(config, "plant.steps")]),
    "put_right": ("put_right", _end),  # of the planted ones
    "made_wrong": ("made_wrong", _end),
    "calibration_error": ("calibration_error.{network}", _end),
    "final": ("accuracy.{network}", _end),
    "best": ("accuracy.{network}", lambda curve, _: curve.max(axis=1).where(_end(curve).notna())),
    "last_checkpoints": ("late_accuracy", lambda curve, _: curve.median(axis=1)),  # of the network that counts
}
"""Measures that are taken from a curve along training: which curve, and what of it for each seed."""


@dataclass(frozen=True)
class Place:
    """Where a number stands: a network of a run, and what is measured of it."""

    run: str
    network: str
    measure: str = "accuracy"  # top5, or a key of `CURVES`


@dataclass(frozen=True)
class Number:
    """The mean over n seeds, and how far it is from that of another place."""

    place: Place
    n: int
    mean: float  # NaN without a seed
    half: float  # of its interval; NaN where there is none
    gain: PairedDifference | None  # None: compared with nothing, or no pairs


@dataclass(frozen=True)
class Record:
    """All that is recorded, recomputed and judged."""

    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]
    claims: Sequence[Claim]
    verdicts: Mapping[str, Verdict]  # by claim

    def percent(self, place: Place) -> dict[int, float]:
        """Seed -> %; empty where there is none."""
        if place.measure not in CURVES:
            known = self.scores.get(place.run)
            return known.percent(Measure(place.measure), place.network) if known else {}
        name, summary = CURVES[place.measure]
        curve = self.curve(place.run, name.format(network=place.network))
        if curve.empty:
            return {}
        found = summary(curve, self.runs[place.run].config).dropna()
        return dict(zip(found.index.tolist(), found.tolist(), strict=True))

    def curve(self, run: str, name: str) -> pd.DataFrame:
        """Along training in %: a row for each seed that gives a number, a column for each step; empty without."""
        found = self.runs.get(run)
        if found is None or f"curve.{name}" not in found.arrays:
            return pd.DataFrame()
        values = 100 * found.arrays[f"curve.{name}"].astype(float)
        rows = pd.DataFrame(values, found.seeds.index, found.arrays[steps_of(f"curve.{name}")])
        return rows[rows.index.isin(list(self.percent(self.counted(run))))]

    def counted(self, run: str, measure: str = "accuracy") -> Place:
        """The network whose accuracy is the method's."""
        return Place(run, self.scores[run].counted if run in self.scores else "", measure)

    def has(self, run: str) -> bool:
        """Whether any seed of the run gives a number."""
        return bool(self.percent(self.counted(run)))

    def number(self, place: Place, minus: Place | None = None) -> Number:
        """The mean at a place, and its difference to another one."""
        values = self.percent(place)
        mean, low, high = mean_interval(list(values.values()))
        return Number(place, len(values), mean, (high - low) / 2, self.paired(place, minus) if minus else None)

    def paired(self, first: Place, second: Place) -> PairedDifference | None:
        """First minus second; None of the same place, without a common seed, or where they saw different data."""
        a, b = self.percent(first), self.percent(second)
        if first == second or not a.keys() & b.keys() or self.different_data(first.run, second.run):
            return None
        return paired_difference(a, b)

    def different_data(self, first: str, second: str) -> bool:
        """Whether any seed of the two was trained on different data or another split."""
        a, b = self.scores[first].training_hash, self.scores[second].training_hash
        return any(a[seeds] != b[seeds] for seeds in a.keys() & b.keys())

    def verdict(self, claim: Claim) -> Verdict:
        """Of a claim; NOT_RUN where none was written."""
        return self.verdicts.get(claim.id) or Verdict(claim.id, Status.NOT_RUN, "not judged yet")

    def of_page(self, page: str, sweeps: bool = False) -> list[Comparison]:
        """The comparisons of a page of which an arm has run; the settings of a sweep apart."""
        found = [one for one in comparisons().values() if one.page == page and bool(one.sweep) == sweeps]
        ran = [one for one in found if any(map(self.has, one.runs.values()))]
        return sorted(ran, key=lambda one: ([*FIRST, one.setting].index(one.setting), one.setting))


def read_all(root: Path = RESULTS, only: Sequence[str] | None = None) -> Record:
    """What is recorded in a folder of results, recomputed: of all runs, or of those that are needed `only`."""
    claims = read_claims(ROOT / "claims.yaml")
    verdicts = {verdict.claim: verdict for verdict in read_verdicts(root / "verdicts.json")}
    folders = [folder for folder in sorted((root / "runs").glob("[!.]*")) if folder.is_dir()]
    runs = {folder.name: read_run(folder) for folder in folders if only is None or folder.name in only}
    return Record(runs, scores_of(runs, root / "labels"), claims, verdicts)


def signed(number: float | None, digits: int = 2) -> str:
    """A number with its sign, true minus included: -0.5 -> −0.50; zero has none; a dash for none."""
    if number is None or not math.isfinite(number):
        return "–"
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def points(found: Any) -> str:
    """A difference or a verdict as `+0.57 [−0.10, +1.24]`; without bounds where there are none; empty for none."""
    mean = getattr(found, "estimate", None) if hasattr(found, "estimate") else getattr(found, "mean", None)
    if mean is None:
        return ""
    bounded = found.low is not None and math.isfinite(found.low)
    return f"{signed(mean)} [{signed(found.low)}, {signed(found.high)}]" if bounded else signed(mean)


# The verdicts


@dataclass(frozen=True)
class ClaimRow:
    """A claim, its verdict and where the evidence for it lies."""

    claim: Claim
    verdict: Verdict
    page: str
    network: str  # in words; empty while it has not run
    arms: dict[str, str]  # run -> arm
    holm: float  # the p-value, corrected for the claims of its family
    scores: Mapping[str, Scores]  # of all runs
    plan: str  # that has all its runs; empty: none has

    @cached_property
    def power(self) -> SeedsNeeded | None:
        """The seeds that a verdict needs. That of a number rests on the paper's spread alone, and takes a while."""
        return _of_number(self.claim) if self.number else needed(self.claim, self.scores)

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
    def against_no_feedback(self) -> bool:
        """Whether it says that something is better than the same without feedback."""
        return any(arm.endswith("no_feedback") for arm in [*self.arms.values()][1:])

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
        scores=record.scores,
        plan=plan_of(claim.runs),
    )


@cache
def _of_number(claim: Claim) -> SeedsNeeded | None:
    return needed(claim, {})


def page_of(claim: Claim) -> str:
    """The page of the claim's first run; of a claim without an experiment, that of its data set."""
    if claim.runs:
        return setting_and_arm(claim.runs[0])[0].page
    return next((page for page in PAGES if claim.id.startswith(page.split("_")[0])), "")


@cache
def _plans() -> list[Plan]:
    return [read_plan(path) for path in sorted((ROOT / "plan").glob("*.yaml"))]


def plan_of(runs: tuple[str, ...]) -> str:
    """The plan with the fewest runs that has all of these; empty where there are none, or none has."""
    fitting = [plan for plan in _plans() if runs and set(runs) <= {run.name for run in plan.runs}]
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

"""Numbers as tables. Every number comes from one table of scores (or a recorded curve) and names its network.

Shares are in % and differences in points from here on; differences are paired by seed; intervals are 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from repro.config import lookup
from repro.plan import Comparison, all_arms, comparisons
from repro.results import Run, settings_of
from repro.verify.claims import Claim, Status, Verdict
from repro.verify.evidence import LEFT_OPEN, Scores, score_table
from repro.verify.statistics import (
    OnTestSet,
    PairedDifference,
    accuracy_interval,
    compare,
    holm,
    mean_interval,
    paired_difference,
    rate_interval,
)

PAGES = {
    "two_moons": "Two moons",
    "digits": "Handwritten digits",
    "cifar10_4k": "CIFAR-10 with 4,000 labels",
    "svhn_1k": "SVHN with 1,000 labels",
    "imagenet_10pct": "ImageNet with 10 % of the labels",
    "feedback": "Doses of feedback and planted bias",
}
BRIEF = {
    "two_moons": "two moons",
    "digits": "digits",
    "cifar10_4k": "CIFAR-10",
    "svhn_1k": "SVHN",
    "imagenet_10pct": "ImageNet",
    "feedback": "feedback",
}
NETWORKS = {
    "teacher": "teacher",
    "teacher_average": "teacher, averaged",
    "student": "student",
    "student_average": "student, averaged",
    "student_finetuned": "student, finetuned",
}
FEW = 5
"""Up to so many seeds the chance in the choice of test images is worth a table of its own."""
NOTHING = 1e-6
"""A feedback gradient below this, beside others of about 1, is what rounding leaves of zero."""


def signed(number: float | None, digits: int = 2) -> str:
    """A number with its sign, true minus included: -0.5 -> −0.50; zero has none; a dash for none."""
    if number is None or not math.isfinite(number):
        return "–"
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def signed_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Bounds of a difference; empty where there are none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


@dataclass(frozen=True)
class Network:
    """One network of a run."""

    run: str
    network: str


@dataclass(frozen=True)
class Record:
    """All that the report rests on."""

    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]
    claims: Sequence[Claim]
    verdicts: Mapping[str, Verdict]  # by claim

    @cached_property
    def table(self) -> pd.DataFrame:
        """The one table of scores."""
        return score_table(self.scores)

    @cached_property
    def _percent(self) -> dict[tuple[str, str, str], dict[int, float]]:
        grouped = self.table.groupby(["run", "network", "measure"], sort=False)
        return {
            (str(run), str(network), str(measure)): dict(zip(rows["seed"], 100 * rows["share"], strict=True))
            for (run, network, measure), rows in grouped
        }

    def percent(self, place: Network, measure: str = "accuracy") -> dict[int, float]:
        """Seed -> accuracy in %; empty where there is none."""
        return self._percent.get((place.run, place.network, measure), {})

    def counted(self, run: str) -> Network:
        """The network whose accuracy is the method's."""
        return Network(run, self.scores[run].counted if run in self.scores else "")

    def has(self, run: str) -> bool:
        """Whether any seed of the run gives a number."""
        return bool(self.percent(self.counted(run)))

    def verdict(self, claim: Claim) -> Verdict:
        """Of a claim; NOT_RUN where none was written."""
        return self.verdicts.get(claim.id) or Verdict(claim.id, Status.NOT_RUN, "not judged yet")

    def of_page(self, page: str, sweeps: bool = False) -> list[Comparison]:
        """The comparisons of a page of which an arm has run, the settings of a sweep apart."""
        order = {setting: place for place, setting in enumerate(_ORDER)}
        found = [one for one in comparisons().values() if one.page == page and bool(one.sweep) == sweeps]
        ran = [one for one in found if any(self.has(run) for run in one.runs.values())]
        return sorted(ran, key=lambda one: (order.get(one.setting, len(order)), one.setting))

    def paired(self, first: Network, second: Network) -> PairedDifference | None:
        """First minus second over common seeds; None without one, or where they were trained on different data."""
        a, b = self.percent(first), self.percent(second)
        if not a.keys() & b.keys() or self.different_data(first.run, second.run):
            return None
        return paired_difference(a, b)

    def different_data(self, first: str, second: str) -> bool:
        """Whether any seed of the two was trained on different data or another split."""
        a, b = self.scores[first].training_hash, self.scores[second].training_hash
        return any(a[seeds] != b[seeds] for seeds in a.keys() & b.keys())


_ORDER = (
    "moons_stated",
    "moons_tuned",
    "moons_feedback_only",
    "digits",
    "digits_long",
    "digits_quick",
    "cifar10_small",
)


@dataclass(frozen=True)
class ArmRow:
    """An arm of a comparison: the network that counts, and its difference to the reference's."""

    arm: str
    title: str
    place: Network
    n: int
    mean: float
    half: float  # of the interval of the mean; NaN where there is none
    difference: PairedDifference | None  # None: the reference itself, or nothing to pair with
    holm: float  # the difference's p-value, corrected for the arms of the comparison
    successes: tuple[tuple[int, float, float], ...]  # seeds at or above each of the comparison's `good`; interval, %


def arm_rows(record: Record, comparison: Comparison) -> list[ArmRow]:
    """The arms that have run, in the comparison's order."""
    reference = record.counted(comparison.run(comparison.reference)) if comparison.reference else None
    rows = []
    for arm, run in comparison.runs.items():
        place = record.counted(run)
        values = list(record.percent(place).values())
        if not values:
            continue
        compared = reference if reference and reference != place and record.has(reference.run) else None
        pair = record.paired(place, compared) if compared else None
        mean, low, high = mean_interval(values)
        hits = tuple(_successes(values, 100 * good) for good in comparison.good)
        title = comparison.title(arm)
        rows.append(ArmRow(arm, title, place, len(values), mean, (high - low) / 2, pair, math.nan, hits))
    corrected = holm([row.difference.p_value if row.difference else math.nan for row in rows])
    return [replace(row, holm=p) for row, p in zip(rows, corrected, strict=True)]


def _successes(values: Sequence[float], good: float) -> tuple[int, float, float]:
    hits = sum(value >= good - 1e-9 for value in values)  # a share k/N, times 100, may be off in its last digit
    low, high = rate_interval(hits, len(values))
    return hits, 100 * low, 100 * high


@dataclass(frozen=True)
class Step:
    """A part of the method on top of those before it, in points over the network of the step before."""

    title: str
    place: Network
    level: float  # mean accuracy, %
    gain: PairedDifference | None  # None: the first step


def attribution(record: Record, comparison: Comparison) -> list[Step]:
    """The parts from supervised learning to MPL, on the networks that count; empty unless the first four have run.

    Without an arm `uda` its network is the teacher of the arm with h = 0: the two are equal bit for bit.
    """
    runs = comparison.runs
    without = runs.get("mpl_no_feedback", "")
    if not all(record.has(runs.get(arm, "")) for arm in ("supervised", "mpl_no_feedback", "mpl")):
        return []
    if not lookup(record.runs[without].config, "method.uda.weight"):
        return []
    student = record.counted(without)
    uda = record.counted(runs.get("uda", ""))
    if not record.percent(uda):
        uda = Network(without, student.network.replace("student", "teacher"))
    places = [
        ("Supervised learning", record.counted(runs["supervised"])),
        ("+ UDA's consistency loss", uda),
        ("+ a student, h = 0", student),
        ("+ feedback h", record.counted(runs["mpl"])),
        ("+ finetuning", Network(runs["mpl"], "student_finetuned")),
    ]
    steps: list[Step] = []
    for title, place in places:
        values = list(record.percent(place).values())
        gain = record.paired(place, steps[-1].place) if steps and values else None
        if values and (gain or not steps):
            steps.append(Step(title, place, float(np.mean(values)), gain))
    return steps


@dataclass(frozen=True)
class OwnNetworks:
    """All networks of one run, and what averaging and finetuning add to the ones that they start from."""

    title: str
    run: str
    means: dict[str, float]  # network -> %
    averaging: PairedDifference | None  # the counted role's averaged weights minus its last ones
    finetuning: PairedDifference | None  # finetuned minus the network that counts


def own_networks(record: Record, comparison: Comparison) -> list[OwnNetworks]:
    """Of every arm that has more than one network."""
    rows = []
    for arm, run in comparison.runs.items():
        means = {name: float(np.mean([*v.values()])) for name in NETWORKS if (v := record.percent(Network(run, name)))}
        if len(means) < 2:
            continue
        counted = record.counted(run)
        last = Network(run, counted.network.removesuffix("_average"))
        averaging = record.paired(counted, last) if counted != last else None
        finetuning = record.paired(Network(run, "student_finetuned"), counted)
        rows.append(OwnNetworks(comparison.title(arm), run, means, averaging, finetuning))
    return rows


@dataclass(frozen=True)
class WrongLabels:
    """Pseudo labels along training that are wrong: the teacher's likeliest class against the hidden label."""

    arm: str
    title: str
    run: str
    n: int
    end: float  # wrong at the end, %
    difference: PairedDifference | None  # to the reference; None: it is the reference
    stays: float  # of those wrong at a snapshot, with the same wrong label at the next, %; mean over the second half
    stays_difference: PairedDifference | None


def wrong_labels(record: Record, comparison: Comparison) -> list[WrongLabels]:
    """The reference first, then every arm that trains a student with feedback; empty without curves of both."""
    reference = comparison.run(comparison.reference)
    base = wrong_by_seed(record, reference)
    if not base or lookup(record.runs[reference].config, "method.name") != "mpl":
        return []
    rows = []
    others = [arm for arm in comparison.arms if arm != comparison.reference and all_arms()[arm].method == "mpl"]
    for arm in (comparison.reference, *others):
        run = comparison.run(arm)
        wrong, stays = wrong_by_seed(record, run), wrong_by_seed(record, run, "wrong_stays", second_half=True)
        own = arm == comparison.reference
        if not wrong or (not own and record.different_data(run, reference)):
            continue
        pair = None if own else paired_difference(wrong, base)
        stays_base = wrong_by_seed(record, reference, "wrong_stays", second_half=True)
        stays_pair = None if own else paired_difference(stays, stays_base)
        end, kept = (float(np.mean([*values.values()])) if values else math.nan for values in (wrong, stays))
        rows.append(WrongLabels(arm, comparison.title(arm), run, len(wrong), end, pair, kept, stays_pair))
    return rows if len(rows) > 1 else []


def wrong_by_seed(
    record: Record, run: str, curve: str = "pseudo_label_wrong", *, second_half: bool = False
) -> dict[int, float]:
    """Seed -> % at the last snapshot, or as the mean of the second half; seeds without a number are left out."""
    found = curves(record, run, curve)
    late = {seed: values[len(values) // 2 :] if second_half else values[-1:] for seed, values in found.items()}
    return {seed: float(np.nanmean(values)) for seed, values in late.items() if np.isfinite(values).any()}


def curves(record: Record, run: str, curve: str) -> dict[int, np.ndarray]:
    """Seed -> a curve along training in %, [T], of the seeds that give a number; empty where none is recorded."""
    if run not in record.runs or f"curve.{curve}" not in record.runs[run].arrays:
        return {}
    known = record.percent(record.counted(run))
    rows = zip(record.runs[run].seeds.index, record.runs[run].arrays[f"curve.{curve}"], strict=True)
    return {int(seed): 100 * np.asarray(values, float) for seed, values in rows if seed in known}


@dataclass(frozen=True)
class FeedbackSize:
    """How large the gradient of the feedback's loss is: its norm, or its share of the teacher's other gradients."""

    arm: str
    title: str
    run: str
    relative: bool  # in % of the norm of the teacher's other gradients; else a norm, since those are not recorded
    low: float  # 5 % of the rows of the log lie below
    median: float
    high: float  # 95 %


def feedback_sizes(record: Record, comparison: Comparison) -> list[FeedbackSize]:
    """Of every arm whose log has it, over all rows of the log and all seeds."""
    found = [feedback_size(record, comparison, arm) for arm in comparison.arms]
    return [size for size in found if size]


def feedback_size(record: Record, comparison: Comparison, arm: str) -> FeedbackSize | None:
    """Of one arm; None where its log has none."""
    run = comparison.run(arm)
    if not record.has(run) or "feedback_gradient_norm" not in record.runs[run].metrics:
        return None
    log = record.runs[run].metrics
    relative = "other_gradient_norm" in log
    size = (
        100 * log["feedback_gradient_norm"] / log["other_gradient_norm"] if relative else log["feedback_gradient_norm"]
    )
    size = size[np.isfinite(size)]
    if not len(size):
        return None
    low, median, high = (float(value) for value in np.percentile(size, [5, 50, 95]))
    return FeedbackSize(arm, comparison.title(arm), run, relative, low, median, high)


@dataclass(frozen=True)
class Selection:
    """What choosing the checkpoint by test accuracy would add to the network that counts."""

    arm: str
    title: str
    place: Network
    final: float  # %
    best: float  # of the snapshots along training, by seed
    excess: PairedDifference


def selections(record: Record, comparison: Comparison) -> list[Selection]:
    """Of every arm with snapshots."""
    rows = []
    for arm, run in comparison.runs.items():
        place = record.counted(run)
        found = {seed: v for seed, v in curves(record, run, f"accuracy.{place.network}").items() if np.isfinite(v[-1])}
        if found:
            best = {seed: float(np.nanmax(values)) for seed, values in found.items()}
            final = {seed: float(values[-1]) for seed, values in found.items()}
            means = float(np.mean([*final.values()])), float(np.mean([*best.values()]))
            rows.append(Selection(arm, comparison.title(arm), place, *means, paired_difference(best, final)))
    return rows


@dataclass(frozen=True)
class SameImages:
    """An arm and the reference on the same test images: chance in the choice of images, not of seeds."""

    title: str
    place: Network
    low: float  # exact interval of one network of the arm's mean accuracy, %
    high: float
    found: OnTestSet


def same_images(record: Record, comparison: Comparison) -> list[SameImages]:
    """Every arm against the reference; empty where seeds have test images of their own, or are more than `FEW`."""
    reference = comparison.run(comparison.reference) if comparison.reference else ""
    hashes = {
        h for run in comparison.runs.values() if run in record.runs for h in record.runs[run].seeds["held_out_hash"]
    }
    few = record.has(reference) and len(record.percent(record.counted(reference))) <= FEW
    if not few or len(hashes) != 1 or comparison.page == "two_moons":
        return []
    theirs = record.scores[reference].correct[record.counted(reference).network]
    rows = []
    for arm, run in comparison.runs.items():
        place = record.counted(run)
        if run == reference or not record.has(run) or record.different_data(run, reference):
            continue
        found = compare(record.scores[run].correct[place.network], theirs)
        if found:
            mean = float(np.mean([*record.percent(place).values()]))
            low, high = accuracy_interval(mean / 100, found.examples)
            rows.append(SameImages(comparison.title(arm), place, 100 * low, 100 * high, found))
    return rows


@dataclass(frozen=True)
class Again:
    """Recorded seeds that were trained again, on another machine perhaps."""

    title: str
    place: Network
    n: int
    here: float  # %
    recorded: float
    equal: float  # predictions that are equal, %
    devices: tuple[str, str]  # here, recorded


def again_rows(record: Record, comparison: Comparison) -> list[Again]:
    """Each arm beside the same arm of the setting that it repeats, where both have the same settings."""
    rows = []
    for arm, run in comparison.runs.items():
        place, first = record.counted(run), record.counted(f"{comparison.again}_{arm}")
        if not record.has(place.run) or not record.has(first.run):
            continue
        ours, theirs = record.runs[place.run], record.runs[first.run]
        seeds = sorted(record.percent(place).keys() & record.percent(first).keys())
        if not seeds or settings_of(ours) != settings_of(theirs) or place.network != first.network:
            continue
        a, b = (one.predictions(place.network)[one.rows(seeds)] for one in (ours, theirs))
        here, there = (float(np.mean([record.percent(one)[seed] for seed in seeds])) for one in (place, first))
        devices = _said(ours.seeds.get("device_name")), _said(theirs.seeds.get("device_name"))
        rows.append(Again(comparison.title(arm), place, len(seeds), here, there, 100 * float((a == b).mean()), devices))
    return rows


@dataclass(frozen=True)
class Provenance:
    """Where and with what the arms of a comparison were computed, and what they depart from."""

    devices: str
    seconds: tuple[float, float]  # a seed of the fastest arm, and of the slowest
    revisions: str
    steps: tuple[int, int]
    recipes: str  # empty: none is followed
    departures: list[str]  # of all arms
    some: int  # further departures, of some arms
    open: list[str]  # settings that the recipe leaves open
    refused: list[str]  # why numbers are not counted


def provenance(record: Record, comparison: Comparison) -> Provenance:
    """Of the arms that have run."""
    runs = [record.runs[run] for run in comparison.runs.values() if run in record.runs]
    scores = [record.scores[run.name] for run in runs]
    seconds = [float(run.seeds["seconds"].mean()) for run in runs if "seconds" in run.seeds]
    steps = [int(run.config["budget"]["steps"]) for run in runs]
    said = [set(one.departures) for one in scores]
    everywhere = set.intersection(*said)
    settled = [text for text in scores[0].departures if text in everywhere and not text.endswith(LEFT_OPEN)]
    left_open = sorted({text.split(":")[0] for one in said for text in one if text.endswith(LEFT_OPEN)})
    some = {text for one in said for text in one if not text.endswith(LEFT_OPEN)} - everywhere
    recipes = sorted({str(lookup(run.config, "recipe.name") or "none") for run in runs} - {"none"})
    revisions = sorted({str(value)[:10] for run in runs for value in run.seeds.get("revision", ())})
    return Provenance(
        devices=_said(
            pd.concat([run.seeds["device_name"] for run in runs if "device_name" in run.seeds] or [pd.Series()])
        ),
        seconds=(min(seconds, default=math.nan), max(seconds, default=math.nan)),
        revisions=", ".join(revisions),
        steps=(min(steps), max(steps)),
        recipes=", ".join(recipes),
        departures=[text for text in settled if text != "follows no published recipe"],
        some=len(some),
        open=left_open,
        refused=list(dict.fromkeys(problem for one in scores for problem in one.problems)),
    )


def _said(values: Any) -> str:
    known = sorted({str(value) for value in values if value}) if values is not None else []
    return ", ".join(known) or "unknown"


def sweep_points(record: Record, page: str) -> dict[tuple[str, str], dict[float, Network]]:
    """Of each sweep of a page, by its key and the arm: value -> the network that counts; the value it is around too."""
    found: dict[tuple[str, str], dict[float, Network]] = {}
    for comparison in record.of_page(page, sweeps=True):
        key, around = comparison.sweep["key"], comparison.sweep["around"]
        for arm, run in comparison.runs.items():
            for name in (run, f"{around}_{arm}"):
                value = lookup(record.runs[name].config, key) if record.has(name) else None
                if value is not None:
                    found.setdefault((key, arm), {})[float(value)] = record.counted(name)
    return {what: dict(sorted(points.items())) for what, points in sorted(found.items())}

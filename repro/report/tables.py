"""The rows of every table and figure: which arms stand in it, what is measured of each, and what it is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from repro.config import lookup
from repro.plan import Comparison, all_arms
from repro.report.record import NETWORKS, STUDIES, Number, Place, Record
from repro.results import settings_of
from repro.verify.evidence import LEFT_OPEN
from repro.verify.statistics import holm, rate_interval

NOTHING = 1e-6
"""A feedback gradient below this, beside others of about 1, is what rounding leaves of zero."""


@dataclass(frozen=True)
class Rate:
    """Seeds that reach what counts as a good separator, and the exact interval of their share in %."""

    hits: int
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """An arm of a comparison, or a part of the method, in a table."""

    arm: str
    title: str
    number: Number
    others: dict[str, Number] = field(default_factory=dict)  # by what the column is called
    holm: float = math.nan  # p of the number's gain, corrected for the rows of the table
    success: Rate | None = None

    @property
    def place(self) -> Place:
        """Of the number."""
        return self.number.place


R = TypeVar("R", bound=Row)


def _ran(record: Record, comparison: Comparison) -> list[str]:
    return [arm for arm, run in comparison.runs.items() if record.has(run)]


def _corrected(rows: Sequence[R]) -> list[R]:
    p_values = holm([row.number.gain.p_value if row.number.gain else math.nan for row in rows])
    return [replace(row, holm=p) for row, p in zip(rows, p_values, strict=True)]


def arms(record: Record, comparison: Comparison) -> list[Row]:
    """The accuracy of each arm that has run, and its difference to the reference's."""
    reference = record.counted(comparison.run(comparison.reference))
    rows = []
    for arm in _ran(record, comparison):
        place = record.counted(comparison.run(arm))
        rate = _rate(record.percent(place).values(), 100 * comparison.good[0]) if comparison.good else None
        rows.append(Row(arm, comparison.title(arm), record.number(place, reference), success=rate))
    return _corrected(rows)


def _rate(values: Iterable[float], good: float) -> Rate:
    reached = [value >= good - 1e-9 for value in values]  # a share k/N, times 100, may be off in its last digit
    low, high = rate_interval(sum(reached), len(reached))
    return Rate(sum(reached), 100 * low, 100 * high)


def attribution(record: Record, comparison: Comparison) -> list[Row]:
    """Each part from supervised learning to MPL on top of those before it; empty unless the first four have run.

    Without an arm `uda` its network is the teacher of the arm with h = 0: the two are equal bit for bit.
    """
    supervised, uda, without, mpl = (
        record.counted(comparison.runs.get(arm, "")) for arm in ("supervised", "uda", "mpl_no_feedback", "mpl")
    )
    if not all(record.percent(place) for place in (supervised, without, mpl)):
        return []
    if not lookup(record.runs[without.run].config, "method.uda.weight"):
        return []
    parts = {
        "Supervised learning": supervised,
        "+ UDA's consistency loss": uda if record.percent(uda) else teacher_of(without),
        "+ a student, h = 0": without,
        "+ feedback h": mpl,
        "+ finetuning": Place(mpl.run, "student_finetuned"),
    }
    rows: list[Row] = []
    for title, place in parts.items():
        number = record.number(place, rows[-1].place if rows else None)
        if number.gain or not rows:
            rows.append(Row("", title, number))
    titles = [row.title for row in rows]
    return rows if titles[:4] == [*parts][:4] else []  # a part without a common seed is on top of nothing


def teacher_of(student: Place) -> Place:
    """The teacher beside a student, averaged where the student is."""
    return replace(student, network=student.network.replace("student", "teacher"))


def networks(record: Record, comparison: Comparison) -> list[Row]:
    """All networks of every arm that has more than one; averaged and finetuned ones minus those they come from."""
    rows = []
    for arm in _ran(record, comparison):
        counted = record.counted(comparison.run(arm))
        last = replace(counted, network=counted.network.removesuffix("_average"))
        origin = {counted.network: last, "student_finetuned": counted}
        places = [replace(counted, network=network) for network in NETWORKS]
        found = {at.network: record.number(at, origin.get(at.network)) for at in places if record.percent(at)}
        if len(found) > 1:
            rows.append(Row(arm, comparison.title(arm), found[counted.network], found))
    return rows


def wrong_labels(record: Record, comparison: Comparison) -> list[Row]:
    """Wrong pseudo labels at the end, and of those once wrong the share that stays: the teacher's likeliest class.

    The reference first, then every arm that trains a student with feedback; empty without curves of both.
    """
    reference = record.counted(comparison.run(comparison.reference), "wrong")
    if not record.percent(reference) or lookup(record.runs[reference.run].config, "method.name") != "mpl":
        return []
    students = [arm for arm in comparison.arms if arm != comparison.reference and all_arms()[arm].method == "mpl"]
    rows = []
    for arm in (comparison.reference, *students):
        place = replace(reference, run=comparison.run(arm))
        stays = (replace(one, measure="stays") for one in (place, reference))
        if record.percent(place):
            number = record.number(place, reference)
            rows.append(Row(arm, comparison.title(arm), number, {"stays": record.number(*stays)}))
    return rows if len(rows) > 1 else []


@dataclass(frozen=True)
class FeedbackSize:
    """How large the gradient of the feedback's loss is: its norm, or its share of the teacher's other gradients."""

    arm: str
    title: str
    relative: bool  # in % of the norm of the teacher's other gradients; else a norm, since those are not recorded
    low: float  # 5 % of the rows of the log lie below
    median: float
    high: float  # 95 %
    first: float  # median over the first tenth of training
    last: float  # over the last tenth


def feedback_size(record: Record, comparison: Comparison, arm: str) -> FeedbackSize | None:
    """Of one arm; None where its log has none."""
    run = comparison.run(arm)
    if not record.has(run) or "feedback_gradient_norm" not in record.runs[run].metrics:
        return None
    log = record.runs[run].metrics
    size, relative = log["feedback_gradient_norm"], "other_gradient_norm" in log
    if relative:
        size = 100 * size / log["other_gradient_norm"]
    size = size[np.isfinite(size)]
    if size.empty:
        return None
    low, median, high = np.percentile(size, [5, 50, 95]).tolist()
    steps, end = log["step"][size.index], log["step"].max()
    first, last = (float(size[some].median()) for some in (steps <= end / 10, steps > 0.9 * end))
    return FeedbackSize(arm, comparison.title(arm), relative, low, median, high, first, last)


def own_reference(record: Record, comparison: Comparison, arm: str) -> str:
    """The run that differs in feedback alone, of the same pseudo labels, hard or soft; empty where there is none.

    An arm whose teacher no longer sees labels is compared with consistency alone, soft labels without feedback with
    hard ones.
    """
    config = record.runs[comparison.run(arm)].config
    if not lookup(config, "method.teacher_supervised"):
        found = "consistency_alone"
    elif lookup(config, "method.pseudo_label") == "soft" and arm != "soft_no_feedback":
        found = "soft_no_feedback"
    else:
        found = "mpl_no_feedback"
    known = found != arm and found in comparison.arms and record.has(comparison.run(found))
    return comparison.run(found) if known else ""


@dataclass(frozen=True)
class Dose(Row):
    """An arm of a comparison of doses: the accuracy of the network that counts minus the own reference's."""

    share: float = math.nan  # median norm of the feedback's gradient, % of that of the teacher's other terms
    first: float = math.nan  # the same over the first tenth of training
    last: float = math.nan  # and over the last one
    signal_to_noise: float = math.nan  # of one batch's feedback gradient; median over seeds, snapshots after the first
    left_out: float = math.nan  # share of these ratios that no draw could tell, %
    oracle_cosine: float = math.nan  # of the expected feedback gradient with an oracle's; the same median


def doses(record: Record, comparison: Comparison) -> list[Dose]:
    """Arms that have run; empty where h was not measured along training."""
    rows = []
    for arm in _ran(record, comparison):
        run = comparison.run(arm)
        if record.curve(run, "signal_to_noise").empty:
            continue
        size = feedback_size(record, comparison, arm)
        ratios = measurable(record.curve(run, "signal_to_noise")).iloc[:, 1:]
        place, base = record.counted(run), record.counted(own_reference(record, comparison, arm))
        rows.append(
            Dose(
                arm,
                comparison.title(arm),
                record.number(place, base),
                {"teacher": record.number(teacher_of(place), teacher_of(base))},
                share=size.median if size and size.relative else math.nan,
                first=size.first if size and size.relative else math.nan,
                last=size.last if size and size.relative else math.nan,
                signal_to_noise=_after_start(record, run, "signal_to_noise"),
                left_out=100 * float(ratios.isna().to_numpy().mean()),
                oracle_cosine=_after_start(record, run, "oracle_cosine"),
            )
        )
    return _corrected(rows)


def _after_start(record: Record, run: str, curve: str) -> float:
    """A number's median over seeds and all snapshots but the first, when nothing is learned yet."""
    return float(np.nanmedian(measurable(record.curve(run, curve)).iloc[:, 1:]))


def measurable(curve: pd.DataFrame) -> pd.DataFrame:
    """A curve of ratios as such; NaN for one above 1,000: a confident teacher's few draws were all the same label."""
    return (curve / 100).where(curve <= 1e5)


def planted(record: Record, comparison: Comparison) -> list[Row]:
    """Of wrong labels that were planted, the share put right at the end; empty where nothing was planted."""
    rows = []
    for arm in _ran(record, comparison):
        place = record.counted(comparison.run(arm), "put_right")
        base = record.counted(own_reference(record, comparison, arm), "put_right")
        if record.percent(place):
            made_wrong = (replace(one, measure="made_wrong") for one in (place, base))
            others = {
                "planted": record.number(replace(place, measure="planted")),
                "made_wrong": record.number(*made_wrong),
                "calibration_error": record.number(replace(teacher_of(place), measure="calibration_error")),
                "accuracy": record.number(record.counted(place.run)),
            }
            rows.append(Row(arm, comparison.title(arm), record.number(place, base), others))
    return _corrected(rows)


SIGNS = {"mpl_held": "mpl_held_reversed", "exact_held": "exact_held_reversed"}
"""Forms of feedback at one dose, and the same with the other sign."""


@dataclass(frozen=True)
class Sign(Row):
    """A form of feedback in a setting: the student's accuracy minus that with the other sign."""

    setting: str = ""  # its heading


def signs(record: Record) -> list[Sign]:
    """Of every setting of studies 2 and 3 in which both signs of a form have run; p is corrected for all of them."""
    rows = []
    for comparison in (one for page in STUDIES for one in record.of_page(page)):
        for arm, other in SIGNS.items():
            place, reversed_ = (record.counted(comparison.runs.get(one, "")) for one in (arm, other))
            number = record.number(place, reversed_) if record.percent(place) else None
            if number and number.gain:
                put_right = (replace(one, measure="put_right") for one in (place, reversed_))
                others = {"put_right": record.number(*put_right)}
                rows.append(Sign(arm, all_arms()[arm].title, number, others, setting=comparison.heading))
    return _corrected(rows)


def feeds_back_beside_labels(record: Record, row: Row) -> bool:
    """Whether an arm's teacher learns from labels and from feedback."""
    config = record.runs[row.place.run].config
    return bool(lookup(config, "method.teacher_supervised")) and lookup(config, "method.feedback") != "none"


def selections(record: Record, comparison: Comparison, measure: str = "best") -> list[Row]:
    """What choosing the checkpoint by test accuracy would add to the network that counts, of arms with snapshots.

    Or what the median of the `last_checkpoints` would.
    """
    rows = []
    for arm in _ran(record, comparison):
        chosen, final = (record.counted(comparison.run(arm), one) for one in (measure, "final"))
        if record.percent(chosen):
            rows.append(Row(arm, comparison.title(arm), record.number(chosen, final)))
    return rows


def again(record: Record, comparison: Comparison) -> list[dict[str, Any]]:
    """Each arm whose recorded seeds were trained again, beside the same arm of the setting that it repeats, in %.

    Both have the same settings; `equal` is the share of equal predictions.
    """
    rows = []
    for arm in _ran(record, comparison):
        places = [record.counted(f"{setting}_{arm}") for setting in (comparison.setting, comparison.again)]
        values = pd.DataFrame([record.percent(place) for place in places]).dropna(axis=1)  # of the seeds that both have
        if values.empty or places[0].network != places[1].network:
            continue
        runs = [record.runs[place.run] for place in places]
        if settings_of(runs[0]) != settings_of(runs[1]):
            continue
        mine, theirs = (run.predictions(places[0].network)[run.rows(map(int, values.columns))] for run in runs)
        here, recorded = values.mean(axis=1)
        devices = [_listed(run.seeds["device_name"]) if "device_name" in run.seeds else "unknown" for run in runs]
        equal = 100 * float((mine == theirs).mean())
        row = {"title": comparison.title(arm), "place": places[0], "n": values.shape[1], "here": here, "equal": equal}
        rows.append(row | {"recorded": recorded, "here_on": devices[0], "recorded_on": devices[1]})
    return rows


def provenance(record: Record, comparison: Comparison) -> dict[str, Any]:
    """Where and with what the arms of a comparison were computed, and what they depart from."""
    runs = [record.runs[run] for run in comparison.runs.values() if run in record.runs]
    scores = [record.scores[run.name] for run in runs]
    seeds = pd.concat([run.seeds.assign(run=run.name) for run in runs]).reindex(
        columns=["run", "device_name", "revision", "seconds"]
    )
    device = seeds["device_name"].replace("", None).fillna("unknown")
    seconds = seeds.groupby([device, "run"])["seconds"].mean().groupby(level=0)
    steps = [int(run.config["budget"]["steps"]) for run in runs]
    open_ones = {text.split(":")[0] for one in scores for text in one.departures if text.endswith(LEFT_OPEN)}
    settled = [[text for text in one.departures if not text.endswith(LEFT_OPEN)] for one in scores]
    everywhere = set.intersection(*map(set, settled))
    return {
        "devices": {str(name): (group.min(), group.max()) for name, group in seconds},  # seconds a seed, by arm
        "revisions": _listed(seeds["revision"].str[:10]),
        "steps": (min(steps), max(steps)),
        "recipes": _listed(pd.Series([lookup(run.config, "recipe.name") for run in runs]).replace("none", None)),
        "departures": [text for text in settled[0] if text in everywhere and text != "follows no published recipe"],
        "some": len(set().union(*settled) - everywhere),  # further departures, of some arms
        "open": sorted(open_ones),  # settings that the recipe leaves open
        "refused": list(dict.fromkeys(problem for one in scores for problem in one.problems)),
    }


def _listed(values: pd.Series[str]) -> str:
    return ", ".join(sorted(set(values.dropna()) - {""}))


def sweep(record: Record, page: str) -> dict[tuple[str, str, float], Place]:
    """Of each sweep of a page, by key, arm and value: the network that counts; at the value it is around too."""
    found = {}
    for comparison in record.of_page(page, sweeps=True):
        key, around = comparison.sweep["key"], comparison.sweep["around"]
        for arm, run in comparison.runs.items():
            for name in (run, f"{around}_{arm}"):
                value = lookup(record.runs[name].config, key) if record.has(name) else None
                if value is not None:
                    found[key, arm, float(value)] = record.counted(name)
    return dict(sorted(found.items(), key=lambda one: one[0]))

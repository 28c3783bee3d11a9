"""The verdict: statistics against known values, every status of every kind, and evidence that must not pass."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from repro.config.departures import departures
from repro.config.read import as_mapping, read_config
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify import statistics
from repro.verify.absolute import gap
from repro.verify.claims import Absolute, Claim, Ordering, Origin, SuccessRate, read_claims
from repro.verify.comparison import status_of
from repro.verify.judge import judge
from repro.verify.rebuild import Scores, rebuild
from repro.verify.verdict import Status, Verdict

N = 1000
LABELS = np.random.default_rng(0).integers(0, 10, N)
CLAIMS = Path(__file__).parent.parent / "experiments" / "claims.yaml"
MPL = {"name": "mpl"}
SUPERVISED = {"name": "supervised"}

# ------------------------------------------------------------------------------------------------ evidence made up


def config(method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A resolved configuration that follows its recipe without departures; `changes` are dotted keys with __."""
    mapping: dict[str, Any] = {
        "data": {"name": "digits"}, "model": {"name": "small_conv"}, "method": dict(method), "optim": {}, "budget": {},
        "finetune": {}, "recipe": {"name": "paper", "values": {"budget.steps": 1000}},
    }  # fmt: skip
    for key, value in changes.items():
        part, last = key.split("__")
        mapping[part][last] = value
    return as_mapping(read_config(mapping))


def predictions(correct: int, seed: int = 0) -> np.ndarray:
    """uint8 [1, N] with `correct` right classes, at places that depend on the seed."""
    classes = LABELS.copy()
    wrong = np.random.default_rng(seed + 1).permutation(N)[correct:]
    classes[wrong] = (classes[wrong] + 1) % 10
    return classes.astype(np.uint8)[None]


def folder(name: str, seed: int, correct: int, settings: dict[str, Any]) -> EvaluatedRun:
    """A run folder of one seed as evaluation would write it."""
    found = {"student": predictions(correct, seed)}
    return EvaluatedRun(
        name=name, seeds=[seed], config=settings, counted="student", predictions=found,
        accuracy={"student": [float((found["student"][0] == LABELS).mean())]},
        data={"training_hash": f"train-{seed}", "held_out_hash": "test", "predictions_hash": predictions_hash(found)},
        environment={}, departures=[asdict(d) for d in departures(read_config(settings))], metrics=pd.DataFrame(),
    )  # fmt: skip


def labels_of(run: EvaluatedRun) -> tuple[np.ndarray, str]:
    """The data set's own labels."""
    return np.tile(LABELS, (len(run.seeds), 1)), "test"


def folders(name: str, correct: Sequence[int], method: dict[str, Any], **changes: Any) -> list[EvaluatedRun]:
    """One folder for each seed 0, 1, ... with so many right classes of 1,000."""
    return [folder(name, seed, right, config(method, **changes)) for seed, right in enumerate(correct)]


def scores(name: str, correct: Sequence[int], method: dict[str, Any], **changes: Any) -> dict[str, Scores]:
    """Their scores, by name."""
    return {name: rebuild(folders(name, correct, method, **changes), labels_of)}


def claim(rule: Absolute | Ordering | SuccessRate, **changes: Any) -> Claim:
    """A claim about MPL."""
    fields: dict[str, Any] = {"id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "rule": rule}
    return Claim(**fields | changes)


ORDERING = claim(Ordering("mpl", ("base",), at_least=0.0, meaningful=0.5))
SUCCESS = claim(SuccessRate("mpl", ("base",), success_at=0.95, at_least=10.0, meaningful=10.0))
NUMBER = claim(Absolute("mpl", value=96.11, spread=0.07, runs=10, margin=0.25), recipe="paper")


def with_rule(of: Claim, **changes: Any) -> Claim:
    """The claim with another rule."""
    rule: Any = of.rule
    return replace(of, rule=replace(rule, **changes))


def compared(better: Sequence[int], worse: Sequence[int], of: Claim = ORDERING) -> Verdict:
    """The verdict on MPL against a supervised run, from right classes of 1,000 for each seed."""
    return judge(of, scores("mpl", better, MPL) | scores("base", worse, SUPERVISED))


# ------------------------------------------------------------------------------------------------ statistics


def test_mean_interval_is_students() -> None:
    """For 1 to 5 the interval is 3 +- 2.776 * sqrt(2.5 / 5), by hand from a t table."""
    mean, low, high = statistics.mean_interval([1, 2, 3, 4, 5])

    assert mean == 3
    assert pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4) == (low, high)


def test_rate_interval_is_exact() -> None:
    """0 of 100 excludes more than 1 - 0.025^(1/100), and 5 of 10 is Clopper and Pearson's (0.187, 0.813)."""
    assert pytest.approx((0, 1 - 0.025**0.01)) == statistics.rate_interval(0, 100)
    assert pytest.approx((0.1871, 0.8129), abs=1e-4) == statistics.rate_interval(5, 10)
    assert (0.0, 1.0) == statistics.rate_interval(0, 0)


def test_paired_difference_uses_common_seeds() -> None:
    """Differences 1, 2, 3 have t = 2 / (1 / sqrt 3), p = 0.0742 with 2 degrees of freedom; a lone seed is left out."""
    pair = statistics.paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 7: 99.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 0.0})

    assert (1.0, 2.0, 3.0) == pair.differences
    assert pytest.approx((2, 2 - 2.4841, 2 + 2.4841, 0.0742), abs=1e-4) == (
        pair.mean,
        pair.low,
        pair.high,
        pair.p_value,
    )


def test_paired_difference_agrees_with_scipy() -> None:
    """The interval is the one SciPy gives for its paired t-test."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=9), rng.normal(size=9)
    expected = stats.ttest_rel(a, b).confidence_interval(0.9)
    pair = statistics.paired_difference(dict(enumerate(a)), dict(enumerate(b)), 0.9)

    assert pytest.approx((expected.low, expected.high)) == (pair.low, pair.high)


def test_equal_differences_have_no_interval() -> None:
    """0.96 - 0.95 and 0.97 - 0.96 differ by rounding only: no spread, hence no interval of width 1e-17."""
    pair = statistics.paired_difference({0: 0.96, 1: 0.97, 2: 0.98}, {0: 0.95, 1: 0.96, 2: 0.97})

    assert [True] * 3 == [math.isnan(value) for value in (pair.low, pair.high, pair.p_value)]


def test_mcnemar_is_the_sign_test_of_discordant_pairs() -> None:
    """6 against 0 gives 2 / 2^6; pairs that agree do not matter; without discordant pairs p is 1."""
    assert 2 / 2**6 == statistics.mcnemar([True] * 6 + [True, False], [False] * 6 + [True, False])
    assert 1.0 == statistics.mcnemar([True, False], [True, False])


def test_rate_difference_covers_at_its_level() -> None:
    """Summed over every outcome of 12 pairs, the interval holds the true difference with at least 95 %."""
    n, coverage = 12, []
    intervals = {(b, c): statistics.rate_difference_interval(b, c, n) for b in range(n + 1) for c in range(n + 1 - b)}
    for p, q in product((0.0, 0.02, 0.1, 0.3, 0.5), repeat=2):
        chance = stats.multinomial(n, [p, q, 1 - p - q])
        coverage.append(
            sum(chance.pmf([b, c, n - b - c]) for (b, c), (low, high) in intervals.items() if low <= p - q <= high)
        )

    assert min(coverage) >= 0.95


def test_agreement_on_few_data_sets_is_no_certainty() -> None:
    """Where no data set tells two methods apart, the interval is wide for 5 of them and narrow for 100."""
    few, many = statistics.rate_difference_interval(0, 0, 5), statistics.rate_difference_interval(0, 0, 100)

    assert pytest.approx(1 - 0.0125**0.2) == few[1] == -few[0]
    assert pytest.approx(1 - 0.0125**0.01) == many[1] == -many[0]


@pytest.mark.parametrize(("effect", "expected"), [(1.0, 10), (0.5, 34), (0.2, 199)])
def test_seeds_needed_matches_power_tables(effect: float, expected: int) -> None:
    """Standard tables (80 % power, 5 % two-sided, one sample): 10, 34 and 199 for effects 1, 0.5 and 0.2."""
    values = np.array([-1.0, 1.0]) * math.sqrt(0.5) + effect  # mean `effect`, standard deviation 1

    assert pytest.approx(expected, rel=0.01) == statistics.seeds_needed(list(values), 0.0)


def test_holm_steps_down() -> None:
    """Holm's adjusted p-values of 0.01, 0.04, 0.03 are 0.03, 0.06, 0.06; NaN is not counted."""
    nan, *adjusted = statistics.holm([math.nan, 0.01, 0.04, 0.03])

    assert pytest.approx([0.03, 0.06, 0.06]) == adjusted
    assert math.isnan(nan)


def test_gap_is_welchs_test() -> None:
    """Our runs against the paper's summary give the p-value of SciPy's Welch test from summary statistics."""
    ours = [96.0, 95.9, 96.2, 95.8]
    expected = stats.ttest_ind_from_stats(np.mean(ours), np.std(ours, ddof=1), 4, 96.11, 0.07, 10, equal_var=False)
    found = gap(ours, Absolute("mpl", 96.11, 0.07, 10, 0.25))

    assert found is not None
    assert pytest.approx(expected.pvalue) == 2 * min(found.p_above(0), found.p_below(0))


def test_one_run_is_held_against_a_prediction_interval() -> None:
    """A new run lies within t(9) * S * sqrt(1 + 1/10) of the paper's mean, by hand 2.262 * 0.07 * 1.0488 = 0.166."""
    found = gap([96.11], Absolute("mpl", 96.11, 0.07, 10, 0.25))

    assert found is not None
    assert pytest.approx((-0.1661, 0.1661), abs=1e-4) == found.interval(0.05)


# ------------------------------------------------------------------------------------------------ every status


HIGH, LOW = [951, 955, 949, 953, 957], [901, 903, 902, 906, 899]

STATUSES: dict[str, tuple[Status, Callable[[], Verdict]]] = {
    "clearly better": (Status.REPRODUCED, lambda: compared(HIGH, LOW)),
    "clearly worse": (Status.NOT_REPRODUCED, lambda: compared(LOW, HIGH)),
    "better, but by too little to count": (
        Status.NOT_REPRODUCED, lambda: compared([902, 904, 903, 906, 902], [900, 901, 901, 903, 900])),
    "scattered": (Status.INCONCLUSIVE, lambda: compared([951, 890, 949], [901, 903, 930])),
    "better by more than claimed": (
        Status.EXCEEDED, lambda: compared(HIGH, LOW, with_rule(ORDERING, claimed=1.58))),
    "better, by about what is claimed": (
        Status.REPRODUCED, lambda: compared(HIGH, LOW, with_rule(ORDERING, claimed=5.0))),
    "not enough better": (
        Status.NOT_REPRODUCED,
        lambda: compared(HIGH, LOW, claim(Ordering("mpl", ("base",), at_least=20, meaningful=20)))),
    "no such run": (Status.NOT_RUN, lambda: judge(ORDERING, scores("mpl", HIGH, MPL))),
    "succeeds much more often": (Status.REPRODUCED, lambda: compared([960] * 20, [900] * 20, SUCCESS)),
    "succeeds as rarely": (Status.NOT_REPRODUCED, lambda: compared([900] * 60, [890] * 60, SUCCESS)),
    "one success more": (Status.INCONCLUSIVE, lambda: compared([960] * 10, [960] * 9 + [900], SUCCESS)),
    "no such run for success": (Status.NOT_RUN, lambda: judge(SUCCESS, {})),
    "the paper's number": (Status.REPRODUCED, lambda: judge(NUMBER, scores("mpl", [961, 962, 960, 961, 961], MPL))),
    "above the paper's number": (Status.EXCEEDED, lambda: judge(NUMBER, scores("mpl", [981, 982, 980, 981], MPL))),
    "below the paper's number": (
        Status.NOT_REPRODUCED, lambda: judge(NUMBER, scores("mpl", [941, 942, 940, 941], MPL))),
    "at the margin of the paper's number": (
        Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [963, 964, 964, 963, 964], MPL))),
    "around the paper's number": (Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [951, 972, 960], MPL))),
    "one run far below": (Status.NOT_REPRODUCED, lambda: judge(NUMBER, scores("mpl", [900], MPL))),
    "no such run for the number": (Status.NOT_RUN, lambda: judge(NUMBER, {})),
    "no experiment yet": (
        Status.NOT_RUN, lambda: judge(with_rule(NUMBER, experiment=None), {})),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_every_status_is_reached(case: str) -> None:
    """Each kind of claim gives each status it can give, with a reason."""
    expected, verdict = STATUSES[case][0], STATUSES[case][1]()

    assert expected == verdict.status
    assert verdict.reason
    assert (expected in (Status.INCONCLUSIVE, Status.NOT_RUN)) == bool(verdict.missing)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.4, Status.NOT_REPRODUCED), (0.1, 0.6, Status.REPRODUCED), (0.0, 0.6, Status.INCONCLUSIVE),
     (-0.1, 0.5, Status.INCONCLUSIVE), (2.0, 3.0, Status.REPRODUCED), (2.1, 3.0, Status.EXCEEDED)],
)  # fmt: skip
def test_bounds_of_the_rule(low: float, high: float, expected: Status) -> None:
    """At a bound the answer is the weaker one; an interval between nothing and what counts refutes the claim."""
    assert expected == status_of(low, high, Ordering("a", ("b",), at_least=0.0, meaningful=0.5, claimed=1.5))


def test_all_others_must_be_beaten() -> None:
    """One unbeaten method is enough to refute, and the verdict is about that one."""
    both = replace(ORDERING, rule=Ordering("mpl", ("base", "strong"), at_least=0.0, meaningful=0.5))
    evidence = scores("mpl", HIGH, MPL) | scores("base", LOW, SUPERVISED)
    strong = scores("strong", [990, 991, 989, 992, 990], {"name": "uda"})
    verdict = judge(both, evidence | strong)

    assert Status.NOT_REPRODUCED == verdict.status
    assert "mpl against strong" in verdict.reason


def test_numbers_of_the_verdict() -> None:
    """Differences 2, 3, 4 points: estimate 3, interval 3 +- 4.303 / sqrt 3, p of t = 5.196 with n - 1 = 2."""
    verdict = compared([920, 930, 940], [900, 900, 900])

    assert pytest.approx((3, 3 - 2.4841, 3 + 2.4841), abs=1e-4) == (verdict.estimate, verdict.low, verdict.high)
    assert pytest.approx(0.0351, abs=1e-4) == verdict.p_value
    assert 3 == verdict.n


def test_a_single_run_of_the_paper_borrows_our_spread() -> None:
    """Where the paper has one run, its error is ours: s sqrt(1/3 + 1), and no pass comes of three scattered runs."""
    single = replace(NUMBER, rule=Absolute("mpl", value=73.9, spread=None, runs=1, margin=0.5))
    verdict = judge(single, scores("mpl", [737, 739, 741], MPL))

    assert Status.REPRODUCED != verdict.status
    assert pytest.approx(4.3027 * 0.2 * math.sqrt(4 / 3), abs=1e-4) == verdict.high
    assert "scatter as ours" in verdict.reason


def test_known_discrepancy_changes_nothing() -> None:
    """An explanation is for the reader; the verdict is that of the evidence."""
    explained = replace(ORDERING, known_discrepancy="explained at length")

    assert compared(LOW, HIGH) == compared(LOW, HIGH, explained)


def test_reduced_budget_may_judge_an_ordering() -> None:
    """A shortened run says which is better, and its departures stand in the verdict."""
    short = {"budget__reduced": "a tenth of the steps"}
    verdict = judge(ORDERING, scores("mpl", HIGH, MPL, **short) | scores("base", LOW, SUPERVISED, **short))

    assert Status.REPRODUCED == verdict.status
    assert "mpl: budget: a tenth of the steps, prescribed as the recipe" in verdict.departures


# ------------------------------------------------------------------------------------------------ what must not pass


def spoilt(change: Callable[[EvaluatedRun], EvaluatedRun], of: Claim = ORDERING) -> Verdict:
    """The verdict when the first seed of the better run was changed, and all would pass otherwise."""
    right = HIGH if of is not NUMBER else [961, 962, 960, 961, 961]
    first, *rest = folders("mpl", right, MPL)
    return judge(of, {"mpl": rebuild([change(first), *rest], labels_of)} | scores("base", LOW, SUPERVISED))


def with_predictions(run: EvaluatedRun, classes: np.ndarray, consistent: bool) -> EvaluatedRun:
    """Other predictions, with or without a hash to match."""
    found = {"student": classes}
    hashed = {"predictions_hash": predictions_hash(found)} if consistent else {}
    return replace(run, predictions=found, data=run.data | hashed)


def shuffled(run: EvaluatedRun) -> EvaluatedRun:
    """The right number of each class, in a wrong order."""
    classes = np.random.default_rng(5).permutation(run.predictions["student"][0])
    return with_predictions(run, classes[None], consistent=False)


def swapped(run: EvaluatedRun) -> EvaluatedRun:
    """Two wrong predictions exchanged: the accuracy stays, the predictions are others."""
    classes = run.predictions["student"].copy()
    i, j = np.flatnonzero(classes[0] != LABELS)[:2]
    if classes[0, i] == classes[0, j]:
        classes[0, i] = (LABELS[i] + 2) % 10
    else:
        classes[0, [i, j]] = (LABELS[[i, j]] + 3) % 10
    return with_predictions(run, classes, consistent=False)


BAD: dict[str, Callable[[], Verdict]] = {
    "stored accuracy is NaN": lambda: spoilt(lambda run: replace(run, accuracy={"student": [math.nan]})),
    "stored accuracy was edited": lambda: spoilt(lambda run: replace(run, accuracy={"student": [0.999]})),
    "stored accuracy is missing": lambda: spoilt(lambda run: replace(run, accuracy={"student": []})),
    "predictions shuffled": lambda: spoilt(shuffled),
    "predictions shuffled, under the number": lambda: spoilt(shuffled, NUMBER),
    "predictions exchanged, accuracy kept": lambda: spoilt(swapped),
    "predictions and their hash replaced": lambda: spoilt(
        lambda run: with_predictions(run, predictions(999), consistent=True)),
    "no hash of the predictions": lambda: spoilt(lambda run: replace(run, data={"held_out_hash": "test"})),
    "predictions for too few examples": lambda: spoilt(
        lambda run: with_predictions(run, predictions(951)[:, 1:], consistent=True)),
    "a class that does not exist": lambda: spoilt(
        lambda run: with_predictions(run, np.where(predictions(951) == 9, 10, predictions(951)), consistent=True)),
    "other test data": lambda: spoilt(lambda run: replace(run, data=run.data | {"held_out_hash": "other"})),
    "counted network missing": lambda: spoilt(lambda run: replace(run, counted="student_average")),
    "another seed's network": lambda: spoilt(lambda run: replace(run, seeds=[1])),
    "more seeds than predictions": lambda: spoilt(lambda run: replace(run, seeds=[0, 7])),
    "one folder has another configuration": lambda: spoilt(
        lambda run: replace(run, config=config(MPL, optim__average_decay=0.5))),
    "departures deleted": lambda: spoilt(
        lambda run: replace(run, config=config(MPL, budget__reduced="shorter"), departures=[]), NUMBER),
    "unreadable configuration": lambda: spoilt(lambda run: replace(run, config=run.config | {"method": {"name": "m"}})),
    "accuracy NaN in the scores": lambda: judge(ORDERING, {
        "mpl": replace(scores("mpl", HIGH, MPL)["mpl"], accuracy={"student": dict.fromkeys(range(5), math.nan)}),
    } | scores("base", LOW, SUPERVISED)),
    "no seeds at all": lambda: judge(ORDERING, {
        "mpl": replace(scores("mpl", HIGH, MPL)["mpl"], accuracy={"student": {}})} | scores("base", LOW, SUPERVISED)),
    "supervised run under the claim": lambda: judge(
        ORDERING, scores("mpl", HIGH, SUPERVISED) | scores("base", LOW, SUPERVISED, optim__average_decay=0.5)),
    "supervised run under the number": lambda: judge(NUMBER, scores("mpl", [961, 962, 960], SUPERVISED)),
    "the same experiment twice": lambda: judge(ORDERING, scores("mpl", HIGH, MPL) | scores("base", LOW, MPL)),
    "another recipe": lambda: judge(replace(NUMBER, recipe="released"), scores("mpl", [961, 962, 960], MPL)),
    "number on a reduced budget": lambda: judge(NUMBER, scores("mpl", [961, 962, 960], MPL, budget__reduced="short")),
    "number with a departure": lambda: judge(NUMBER, scores("mpl", [961, 962, 960], MPL, budget__steps=2000)),
    "number without a recipe": lambda: judge(
        replace(NUMBER, recipe="none"), scores("mpl", [961, 962, 960], MPL, recipe__name="none")),
    "number from one seed": lambda: judge(NUMBER, scores("mpl", [961], MPL)),
    "number from one high seed": lambda: judge(NUMBER, scores("mpl", [999], MPL)),
    "number from two seeds": lambda: judge(NUMBER, scores("mpl", [961, 962], MPL)),
    "number from equal seeds": lambda: judge(NUMBER, scores("mpl", [961, 961, 961], MPL)),
    "number of a network that is not there": lambda: judge(
        with_rule(NUMBER, network="student_finetuned"), scores("mpl", [961, 962, 960], MPL)),
    "ordering from one seed": lambda: compared([951], [901]),
    "ordering from two seeds": lambda: compared([951, 952], [901, 901]),
    "ordering without spread": lambda: compared([951, 952, 953], [901, 902, 903]),
    "seeds that are not paired": lambda: judge(ORDERING, scores("mpl", HIGH, MPL) | {
        "base": rebuild([folder("base", seed + 10, n, config(SUPERVISED)) for seed, n in enumerate(LOW)], labels_of)}),
    "seeds that are not paired, success": lambda: judge(SUCCESS, scores("mpl", [960] * 9, MPL) | {
        "base": rebuild([folder("base", seed + 10, 900, config(SUPERVISED)) for seed in range(9)], labels_of)}),
    "different data": lambda: judge(
        ORDERING, scores("mpl", HIGH, MPL) | scores("base", LOW, SUPERVISED, data__labels=100)),
    "other training data": lambda: judge(ORDERING, scores("mpl", HIGH, MPL) | {
        "base": replace(scores("base", LOW, SUPERVISED)["base"], training_hash={(seed,): "x" for seed in range(5)})}),
    "a control that changed something else": lambda: judge(
        with_rule(ORDERING, differ_in=("method.feedback",)),
        scores("mpl", HIGH, MPL) | scores("base", LOW, MPL | {"feedback": "none"}, optim__average_decay=0.5)),
    "success on one data set": lambda: compared([960], [900], SUCCESS),
    "success on three data sets": lambda: compared([960] * 3, [900] * 3, SUCCESS),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_evidence_never_passes(case: str) -> None:
    """Evidence that is wrong, or too little, is INCONCLUSIVE and says what would settle it."""
    verdict = BAD[case]()

    assert Status.INCONCLUSIVE == verdict.status
    assert verdict.missing


def test_the_bad_evidence_would_pass_unspoilt() -> None:
    """The table above proves something only if the untouched evidence passes."""
    control = with_rule(ORDERING, differ_in=("method.feedback",))
    no_feedback = scores("base", LOW, MPL | {"feedback": "none"})

    assert Status.REPRODUCED == spoilt(lambda run: run).status
    assert Status.REPRODUCED == spoilt(lambda run: run, NUMBER).status
    assert Status.REPRODUCED == judge(NUMBER, scores("mpl", [961, 962, 960], MPL)).status
    assert Status.REPRODUCED == judge(control, scores("mpl", HIGH, MPL) | no_feedback).status


def test_supervised_accuracies_under_the_number_are_refuted() -> None:
    """Accuracies of the supervised baseline in the place of MPL's do not reproduce MPL's number."""
    assert Status.NOT_REPRODUCED == judge(NUMBER, scores("mpl", [821, 823, 822], MPL)).status


def test_seed_given_twice_counts_not_at_all() -> None:
    """A copied folder is named, and its seed gives no number."""
    found = rebuild([*folders("mpl", HIGH, MPL), folder("mpl", 2, 960, config(MPL))], labels_of)

    assert [0, 1, 3, 4] == sorted(found.accuracy["student"])
    assert ["mpl, seed 2: is there twice; remove the folder not of the plan"] == found.problems


def test_refused_seed_gives_no_number() -> None:
    """The other seeds are recomputed; the refused one is absent, and the sentence names run, seed and remedy."""
    first, *rest = folders("mpl", HIGH, MPL)
    found = rebuild([shuffled(first), *rest], labels_of)

    assert {1: 0.955, 2: 0.949, 3: 0.953, 4: 0.957} == found.accuracy["student"]
    assert 1 == len(found.problems)
    assert "mpl, seed 0: " in found.problems[0]
    assert "dvc repro" in found.problems[0]


def test_rebuild_reads_stacked_seeds() -> None:
    """A folder of several seeds gives one accuracy and one row of right answers for each."""
    runs = folders("mpl", [900, 950], MPL)
    found = {"student": np.concatenate([run.predictions["student"] for run in runs])}
    data = runs[0].data | {"predictions_hash": predictions_hash(found)}
    stacked = replace(runs[0], seeds=[4, 9], predictions=found, accuracy={"student": [0.9, 0.95]}, data=data)
    actual = rebuild([stacked], labels_of)

    assert [] == actual.problems
    assert {4: 0.9, 9: 0.95} == actual.accuracy["student"]
    assert {4: 900, 9: 950} == {seed: int(hits.sum()) for seed, hits in actual.correct["student"].items()}
    assert (N, False) == (actual.held_out, actual.reduced)


def test_rebuild_wants_folders_of_one_run() -> None:
    """Mixing runs is a mistake of the caller."""
    with pytest.raises(ValueError, match="one run"):
        rebuild([*folders("mpl", [900], MPL), *folders("base", [900], SUPERVISED)], labels_of)


# ------------------------------------------------------------------------------------------------ claims


def test_claims_of_the_paper() -> None:
    """The file is read whole: Table 2's own rows as in the paper, every claim with a reason for its margin."""
    claims = {claim.id: claim for claim in read_claims(CLAIMS)}
    numbers = {key: (c.rule.value, c.rule.spread) for key, c in claims.items() if isinstance(c.rule, Absolute)}
    expected = {
        "cifar10_4k_mpl": (96.11, 0.07), "cifar10_4k_uda": (94.53, 0.18), "cifar10_all_supervised": (94.92, 0.17),
        "svhn_1k_mpl": (98.01, 0.07), "svhn_1k_uda": (97.11, 0.17), "svhn_all_supervised": (97.41, 0.16),
        "imagenet_10pct_mpl": (73.89, None), "imagenet_10pct_uda": (68.07, None),
        "imagenet_all_supervised": (76.89, None),
    }  # fmt: skip

    assert expected == numbers
    assert [] == [key for key in expected if judge(claims[key], {}).missing != claims[key].cost]
    assert Origin.control == claims["moons_feedback_sign"].by


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sayz", "typo", "c.sayz is not a field of Claim; did you mean 'says'?"),
        ("rule.marginn", 1, "c.rule.marginn is not a field of Absolute; did you mean 'margin'?"),
        ("rule.margin", None, "c.rule.margin = None: wants a finite number"),
        ("rule.margin", "0.2", "c.rule.margin = '0.2': wants a finite number"),
        ("rule.margin", math.nan, "not finite"),
        ("rule.margin", True, "wants a finite number"),
        ("rule.margin", -0.1, "must lie in (0, 5] points"),
        ("rule.margin", 50, "larger passes too easily"),
        ("rule.value", 961.1, "must be a percentage"),
        ("rule.runs", 1, "one run has no spread"),
        ("rule.spread", 0.0, "null where the paper gives none"),
        ("rule.kind", "absolut", "did you mean 'absolute'?"),
        ("rule", [1], "wants a mapping"),
        ("alpha", 0.5, "larger passes too easily"),
        ("by", "us", "wants one of: paper, control"),
        ("why", "", "is empty"),
        ("recipe", "DELETE", "recipe is missing"),
        ("method", "DELETE", "c.method is missing"),
        ("rule.network", [], "wants text"),
    ],
)
def test_impossible_claims_are_refused(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """Each mistake in the file is refused by claim, key and remedy."""
    rule = {"kind": "absolute", "experiment": "mpl", "value": 96.11, "spread": 0.07, "runs": 10, "margin": 0.2}
    entry: dict[str, Any] = {
        "id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "recipe": "paper", "rule": rule,
    }  # fmt: skip
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [entry]}))
    assert 1 == len(read_claims(file))
    *parents, last = path.split(".")
    part = entry["rule"] if parents else entry
    part.update({last: value}) if value != "DELETE" else part.pop(last)
    file.write_text(yaml.safe_dump({"claims": [entry]}))

    with pytest.raises(ValueError, match=re.escape(message)):
        read_claims(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worse": ["a"]}, "holds rule.better itself"),
        ({"worse": ["b", "b"]}, "a list of different names"),
        ({"worse": "b"}, "a list of different names"),
        ({"worse": []}, "a list of different names"),
        ({"at_least": 1.0}, "at_least <= meaningful"),
        ({"at_least": -1.0}, "0 <= at_least"),
        ({"meaningful": 0.0}, "nothing could ever refute"),
        ({"kind": "success_rate", "success_at": 95}, "is a share"),
    ],
)
def test_impossible_comparisons_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A comparison that could not fail, or compares nothing, is refused."""
    rule = {"kind": "ordering", "better": "a", "worse": ["b"], "at_least": 0, "meaningful": 0.5} | changes
    entry = {"id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "rule": rule}
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [entry]}))

    with pytest.raises(ValueError, match=re.escape(message)):
        read_claims(file)


def test_claim_id_used_twice(tmp_path: Path) -> None:
    """Two claims of one id would hide one verdict behind the other."""
    first = yaml.safe_load(CLAIMS.read_text())["claims"][0]
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [first, first]}))

    with pytest.raises(ValueError, match="used twice"):
        read_claims(file)

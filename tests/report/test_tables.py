"""Every number that the report prints, added up by hand from a tiny made-up record of four seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta

from repro.evaluate.evaluate import label_curves
from repro.plan import comparisons
from repro.report import pages, tables
from repro.report.pages import documents, readme_rows, verdict_lines
from repro.report.record import Place, claim_rows, signed, waiting
from repro.verify.claims import Status, Verdict
from tests.report.cases import ACCURACY, CLAIMS, WRONG, counted_of, make_run, make_scores, record

RUNS = ("digits_mpl_no_feedback", "digits_mpl")
T = 3.1824463  # Student's t at 97.5 %, three degrees of freedom
DIGITS = comparisons()["digits"]
HALF = {"uda": T * math.sqrt(5 / 3) / 2, "student": T * math.sqrt(1 / 3) / 2, "feedback": T * math.sqrt(2) / 2}
"""Half the intervals of the differences 10 9 8 7, of -2 -3 -2 -3, and of 1 0 0 3."""


def about(value: float) -> object:
    """Equal up to rounding."""
    return pytest.approx(value, abs=1e-6)


def test_arms_have_their_mean_and_the_paired_difference_to_the_reference() -> None:
    """Mean, half its interval; difference, interval and p of the paired t-test; p after Holm for the three arms."""
    rows = {row.arm: row for row in tables.arms(record(), DIGITS)}

    supervised, mpl = rows["supervised"], rows["mpl"]
    assert ["supervised", "uda", "mpl_no_feedback", "mpl"] == list(rows)
    assert (83.0, 4, Place("digits_supervised", "teacher")) == (
        supervised.number.mean, supervised.number.n, supervised.place)  # fmt: skip
    assert about(T * math.sqrt(20 / 3) / 2) == supervised.number.half
    gains = {arm: row.number.gain for arm, row in rows.items() if row.number.gain}
    assert ["supervised", "uda", "mpl"] == list(gains)
    assert (about(1.0), about(1 - HALF["feedback"]), 4) == (gains["mpl"].mean, gains["mpl"].low, gains["mpl"].n)
    p = sorted(gain.p_value for gain in gains.values())
    assert about(p[2]) == mpl.holm == about(gains["mpl"].p_value)
    assert about(3 * p[0]) == min(rows[arm].holm for arm in gains)


def test_arms_on_other_data_are_not_paired() -> None:
    """Where a seed was trained on another split, there is no difference."""
    found = record()
    other = replace(found.scores["digits_mpl"], training_hash={(0,): "other", (1,): "data", (2,): "data", (3,): "data"})
    found = replace(found, scores={**found.scores, "digits_mpl": other})

    assert [None] == [row.number.gain for row in tables.arms(found, DIGITS) if row.arm == "mpl"]


def test_refused_seeds_give_no_number() -> None:
    """A seed without a share counts nowhere: not in the mean, the curves or the pseudo labels."""
    found = record()
    shares = {network: dict(list(seeds.items())[:3]) for network, seeds in found.scores["digits_mpl"].accuracy.items()}
    found = replace(found, scores=found.scores | {"digits_mpl": replace(found.scores["digits_mpl"], accuracy=shares)})

    row = next(row for row in tables.arms(found, DIGITS) if row.arm == "mpl")
    assert (3, about(89.0)) == (row.number.n, row.number.mean)
    assert {0, 1, 2} == set(found.curve("digits_mpl", "pseudo_label_wrong").index)


def test_success_rates_count_seeds_at_or_above_the_bound() -> None:
    """95 % exactly is a success; the interval of 2 of 4 is Clopper and Pearson's."""
    moons = comparisons()["moons_tuned"]
    found = record({"moons_tuned_mpl": {"student": [95, 94.5, 99, 50]}}, {})

    rate = tables.arms(found, moons)[0].success
    low, high = (100 * q for q in beta.ppf([0.025, 0.975], [2, 3], [3, 2]))
    assert (2, about(low), about(high)) == (rate.hits, rate.low, rate.high)


def test_attribution_adds_one_part_at_a_time() -> None:
    """Each step's network, its level and what it adds over the step before."""
    steps = tables.attribution(record(), DIGITS)

    assert [
        ("Supervised learning", "digits_supervised", "teacher", 83.0),
        ("+ UDA's consistency loss", "digits_uda", "teacher", 91.5),
        ("+ a student, h = 0", "digits_mpl_no_feedback", "student", 89.0),
        ("+ feedback h", "digits_mpl", "student", 90.0),
        ("+ finetuning", "digits_mpl", "student_finetuned", 92.0),
    ] == [(step.title, step.place.run, step.place.network, about(step.number.mean)) for step in steps]
    gains = [step.number.gain for step in steps[1:]]
    assert [8.5, -2.5, 1.0, 2.0] == [about(gain.mean) for gain in gains if gain]
    bounds = [gain.high - gain.mean for gain in gains[:3] if gain]
    assert [about(HALF["uda"]), about(HALF["student"]), about(HALF["feedback"])] == bounds
    without = {name: found for name, found in ACCURACY.items() if name != "digits_mpl_no_feedback"}
    assert [] == tables.attribution(record(without), DIGITS)  # a part would be credited with another's gain


def test_without_an_arm_uda_its_network_is_the_teacher_of_h_0() -> None:
    """Study 1 has no arm `uda`: the teacher of h = 0 is that network, averaged where the student is."""
    accuracy = {
        "cifar10_small_supervised": {"teacher_average": [70.0, 72.0]},
        "cifar10_small_mpl_no_feedback": {"teacher_average": [75.0, 76.0], "student_average": [73.0, 75.0]},
        "cifar10_small_mpl": {"teacher_average": [75.0, 76.0], "student_average": [74.0, 75.0]},
    }

    steps = tables.attribution(record(accuracy, {}), comparisons()["cifar10_small"])

    assert Place("cifar10_small_mpl_no_feedback", "teacher_average") == steps[1].place
    assert [71.0, 75.5, 74.0, 74.5] == [about(step.number.mean) for step in steps]


def test_networks_of_an_arm_and_what_averaging_and_finetuning_add() -> None:
    """Means of each network; the averaged weights minus the last, the finetuned minus those that count."""
    accuracy = {"digits_mpl": {"student": [80, 84], "student_average": [82, 85], "student_finetuned": [85, 86]}}

    found = tables.networks(record(accuracy, {}), DIGITS)[0].others
    gains = {network: number.gain.mean for network, number in found.items() if number.gain}

    assert {"student": 82.0, "student_average": 83.5, "student_finetuned": 85.5} == {
        network: about(number.mean) for network, number in found.items()
    }
    assert {"student_average": about(1.5), "student_finetuned": about(2.0)} == gains


def test_wrong_pseudo_labels_are_compared_with_those_of_h_0() -> None:
    """At the end 10 % and 9 % (12 10 11 7 and 10 9 11 6 by seed); of those that stay, the mean of the second half."""
    reference, mpl = tables.wrong_labels(record(), DIGITS)
    gain, stays = mpl.number.gain, mpl.others["stays"]

    assert (10.0, None) == (about(reference.number.mean), reference.number.gain)
    assert (9.0, about(-1.0), 4) == (about(mpl.number.mean), gain.mean, mpl.number.n)  # -2 -1 0 -1
    assert about(T * math.sqrt(2 / 3) / 2) == gain.high - gain.mean
    assert about(np.mean(WRONG["digits_mpl"]) + 50) == stays.mean  # (end + 40 + end + 60) / 2
    assert about(-1.0) == stays.gain.mean


@pytest.mark.parametrize(("other", "relative", "median"), [(None, False, 0.02), (0.5, True, 4.0)])
def test_feedback_is_relative_to_gradients_that_are_recorded(
    other: float | None, relative: bool, median: float
) -> None:
    """Norms 0.01 0.02 0.02 0.04: their median, or its share of the other gradients' norm in %."""
    log = {"feedback_gradient_norm": [0.01, 0.02, 0.02, 0.04]} | ({"other_gradient_norm": other} if other else {})

    size = tables.feedback_size(record(logs={"digits_mpl": log}), DIGITS, "mpl")

    assert (relative, about(median)) == (size.relative, size.median)
    assert size.low < size.median < size.high


def test_feedback_at_first_is_that_of_the_first_tenth_of_training() -> None:
    """Of 100 steps those up to the tenth: norms 0.3 and 0.5 beside 1; 0.1 over all in the median."""
    log = {"step": [5, 10, 50, 100], "feedback_gradient_norm": [0.3, 0.5, 0.1, 0.1], "other_gradient_norm": 1.0}

    size = tables.feedback_size(record(logs={"digits_mpl": log}), DIGITS, "mpl")

    assert (about(40.0), about(20.0)) == (size.first, size.median)


def test_choosing_by_the_test_set_would_add_two_points() -> None:
    """The made-up curves pass 2 points above their end on the way."""
    number = tables.selections(record(), DIGITS)[0].number

    assert (85.0, about(2.0)) == (about(number.mean), number.gain.mean)


def test_the_median_of_the_last_checkpoints_is_held_against_the_final_one() -> None:
    """Four of them, one, two and three points above the end and nine below it: a point and a half above."""
    found = record()
    arm, run = next((arm, found.runs[DIGITS.run(arm)]) for arm in DIGITS.arms if found.has(DIGITS.run(arm)))
    late = run.arrays["curve.accuracy.teacher"][:, -1:] + np.array([[0.03, 0.01, 0.02, -0.09]])
    run.arrays.update({"curve.late_step": np.arange(17, 21), "curve.late_accuracy": late})

    row = tables.selections(found, DIGITS, "last_checkpoints")[0]

    assert (arm, about(1.5)) == (row.arm, row.number.gain.mean)
    assert "the median of the last checkpoints, +1.50 to +1.50." in documents(found)["digits.md"]


def test_seeds_trained_again_are_held_against_the_recorded_ones() -> None:
    """Accuracies of the seeds that both have, and the share of equal predictions."""
    quick = {"digits_quick_mpl": {"student": [89.0, 88.0]}, "digits_mpl": {"student": [89.0, 88.5, 90.0]}}
    found = record(quick, {})
    found.runs["digits_quick_mpl"].arrays["predictions.student"][0, :20] = 1

    row = tables.again(found, comparisons()["digits_quick"])[0]

    assert (2, 88.5, 88.75, 95.0) == (row["n"], *(about(row[key]) for key in ("here", "recorded", "equal")))
    found.runs["digits_mpl"].config["optim"]["average_decay"] = 0.9
    assert [] == tables.again(found, comparisons()["digits_quick"])  # another setting is not the same run again


def test_provenance_names_devices_times_and_departures() -> None:
    """Departures of all arms are told apart from those of some, and from what the recipe leaves open."""
    found = record()
    for name, scores in found.scores.items():
        scores.departures[:] = ["budget.steps: 20, prescribed 100", "data.noise: 0.1, left open by the recipe"]
        if name == "digits_mpl":
            scores.departures.append("model.width: 2, prescribed 4")
            scores.problems.append("digits_mpl: refused")

    one = SimpleNamespace(**tables.provenance(found, DIGITS))

    assert ({"a CPU": (11.5, 11.5)}, "0123456789", (20, 20)) == (one.devices, one.revisions, one.steps)
    assert (["budget.steps: 20, prescribed 100"], 1, ["data.noise"]) == (one.departures, one.some, one.open)
    assert ["digits_mpl: refused"] == one.refused


def test_sweeps_hold_the_value_that_they_are_around() -> None:
    """Values of the swept setting in order, the stated setting's own among them."""
    accuracy = {"moons_stated_mpl": {"student": [80.0]}, "moons_sweep_noise_0.2_mpl": {"student": [77.0]}}
    found = record(accuracy, {})
    found.runs["moons_stated_mpl"].config["data"] = {"noise": 0.1}
    found.runs["moons_sweep_noise_0.2_mpl"].config["data"] = {"noise": 0.2}

    swept = [(*where, place.run) for where, place in tables.sweep(found, "two_moons").items()]

    assert [("data.noise", "mpl", 0.1, "moons_stated_mpl"),
            ("data.noise", "mpl", 0.2, "moons_sweep_noise_0.2_mpl")] == swept  # fmt: skip


@pytest.mark.parametrize(("number", "text"), [(0.567, "+0.57"), (-0.5, "−0.50"), (-0.001, "0.00"), (math.nan, "–")])
def test_numbers_are_written_with_their_sign(number: float, text: str) -> None:
    """A true minus; zero has no sign; a dash for what is not known."""
    assert text == signed(number)


# ------------------------------------------------------------------------------------------------ verdicts and answers


def judged(**status: float) -> dict[str, Verdict]:
    """Verdicts with these p-values; all other claims have not run."""
    found = {claim.id: Verdict(claim.id, Status.NOT_RUN, "") for claim in CLAIMS}
    return found | {name: Verdict(name, Status.REPRODUCED, "", 1.0, 0.5, 1.5, 12, p) for name, p in status.items()}


def test_p_values_are_corrected_within_their_family() -> None:
    """Exploratory claims for those judged: 0.01 of two is 0.02; the six of study 1 for all six, run or not."""
    found = record({}, verdicts=judged(digits_feedback=0.01, digits_sign=0.2, cifar10_small_feedback=0.02))

    rows = {row.claim.id: row for row in claim_rows(found) if not math.isnan(row.holm)}

    assert {"digits_feedback": 0.02, "digits_sign": 0.2, "cifar10_small_feedback": 0.12} == {
        name: about(row.holm) for name, row in rows.items()
    }
    assert ("REPRODUCED", "REPRODUCED, not after Holm") == (
        rows["digits_feedback"].status,
        rows["cifar10_small_feedback"].status,
    )
    assert [False, True] == [rows[name].confirmatory for name in ("digits_sign", "cifar10_small_feedback")]


def test_a_claim_names_its_networks_its_runs_and_its_plan() -> None:
    """The student against UDA's teacher; the page is that of the setting, the plan one that has both runs."""
    row = next(row for row in claim_rows(record()) if row.claim.id == "digits_over_uda")

    assert ("student − teacher", "digits", "digits") == (row.network, row.page, row.plan)
    assert {"digits_mpl": "mpl", "digits_uda": "uda"} == row.arms
    assert "MPL is more accurate than its teacher's loss alone (UDA)" == row.short


def test_answers_follow_from_the_verdicts_and_the_runs() -> None:
    """Numbers and orderings are counted; the part with the largest clear gain carries; feedback is MPL minus h = 0."""
    found = record(logs={"digits_mpl": {"feedback_gradient_norm": 0.01, "other_gradient_norm": 0.5}})
    found = replace(found, verdicts=found.verdicts | judged(digits_uda_over_supervised=0.5, digits_feedback=0.5))

    a = SimpleNamespace(**pages.answers(found, claim_rows(found)))

    absolute = [claim for claim in CLAIMS if hasattr(claim.rule, "value")]
    assert absolute == [row.claim for row in a.numbers]
    assert not any(row.ran for row in a.numbers)
    assert ("+ UDA's consistency loss", "teacher") == (a.carried.title, a.carried.place.network)
    assert (1.0, "digits_mpl", "student") == (about(a.feedback.mean), a.place.run, a.place.network)
    assert (9.0, about(2.0)) == (about(a.wrong.number.mean), a.size.median)
    assert "digits_feedback" == a.verdict.claim.id


def test_the_answers_of_study_1_say_what_a_tenth_of_the_gradient_does() -> None:
    """Held at a tenth -1 -2 -1 -2 points, -1.5 in the mean; the student is 5.75 behind its teacher."""
    accuracy = {
        "cifar10_small_supervised": {"teacher_average": [70.0, 71, 72, 73]},
        "cifar10_small_mpl_no_feedback": {"teacher_average": [73.0, 74, 75, 76], "student_average": [67.0, 68, 69, 71]},
        "cifar10_small_mpl": {"student_average": [67.0, 68, 70, 71]},
        "cifar10_small_mpl_held": {"student_average": [66.0, 66, 68, 69]},
    }
    logs = {"cifar10_small_mpl": {"feedback_gradient_norm": 0.01, "other_gradient_norm": 0.5},
            "cifar10_small_mpl_held": {"step": [5, 50, 100, 100], "feedback_gradient_norm": [0.2, 0.05, 0.03, 0.02],
                                       "other_gradient_norm": 0.5}}  # fmt: skip
    judged_ = judged(cifar10_small_uda_over_supervised=0.5, cifar10_small_feedback=0.5)
    found = record(accuracy, {}, logs, judged_)

    a, text = (
        SimpleNamespace(**pages.answers(found, claim_rows(found))),
        " ".join(" ".join(verdict_lines(found)).split()),
    )

    assert -1.5 == about(a.held.mean)
    assert "Feedback's gradient had 2 % of the norm of the teacher's other gradients (median)." in text
    held = "Held near a tenth (first 40 %, median 8 %, last 5 %), it changes accuracy by −1.50 ["
    assert held in text
    assert "The student with h = 0 minus its teacher is −5.75 [" in text
    assert held in readme_rows(found)
    assert "minus supervised learning: −2.50 [" in readme_rows(found)  # -3 -3 -2 -2
    report = documents(found)["REPORT.md"]
    assert "this student ends at 69.00 %, the paper's at 96.11 %" in report
    assert "It ends behind its teacher" in report
    page = documents(found)["feedback.md"]
    assert [2, 4] == [page.count(f"| **{status}** |") for status in ("REPRODUCED, not after Holm", "NOT RUN")]
    assert "| + feedback h | student, averaged | [69.00](runs/cifar10_small_mpl) | +0.25 [" in page
    assert "In all, MPL (student, averaged) minus supervised learning: −2.50 [" in page
    assert "Studies 1 and 2 train" not in page


def test_parts_without_a_common_seed_answer_nothing() -> None:
    """Supervised learning was trained on other data: no part is put on top of it, and no screen ends in an error."""
    found = record()
    one = found.scores["digits_supervised"]
    other = replace(one, training_hash=dict.fromkeys(one.training_hash, "other"))
    found = replace(found, scores=found.scores | {"digits_supervised": other},
                    verdicts=judged(digits_uda_over_supervised=0.5, digits_feedback=0.5))  # fmt: skip

    assert [] == tables.attribution(found, DIGITS)
    assert "Not known yet: supervised learning, UDA, MPL with h = 0 and MPL have not all run" in " ".join(
        " ".join(verdict_lines(found)).split()
    )


def test_studies_1_and_2_are_put_together_where_both_have_run() -> None:
    """MPL minus h = 0: 0 0 1 0 points in the one, 2 3 in the other, whose seeds are others: 1 of six."""
    accuracy = {
        "cifar10_small_mpl_no_feedback": {"student_average": [67.0, 68, 69, 71]},
        "cifar10_small_mpl": {"student_average": [67.0, 68, 70, 71]},
        "cifar10_dose_mpl_no_feedback": {"student_average": [60.0, 61]},
        "cifar10_dose_mpl": {"student_average": [62.0, 64]},
    }

    (both,) = pages.answers(found := record(accuracy, {}), claim_rows(found))["both"].values()  # of one network

    assert (about(1.0), 6) == (both.mean, both.n)
    assert sorted(both.differences) == pytest.approx([0, 0, 0, 1, 2, 3])


def test_finetuned_students_are_compared_too() -> None:
    """MPL's finetuned student is 1 and 3 points above that of h = 0, whatever the averaged ones do."""
    accuracy = {
        "cifar10_small_supervised": {"teacher_average": [70.0, 71]},
        "cifar10_small_mpl_no_feedback": {"teacher_average": [73.0, 75], "student_average": [67.0, 68],
                                          "student_finetuned": [68.0, 69]},
        "cifar10_small_mpl": {"student_average": [67.0, 67], "student_finetuned": [69.0, 72]},
    }  # fmt: skip
    found = record(accuracy, {}, {}, judged(cifar10_small_uda_over_supervised=0.5, cifar10_small_feedback=0.5))

    assert "Finetuned, the student of MPL minus that of h = 0: +2.00 [" in documents(found)["feedback.md"]


def test_what_holds_without_feedback_is_said() -> None:
    """Of the orderings of the paper that hold, none compares with h = 0, until one does."""
    none = "None of those that hold compares with h = 0."

    said = [none in documents(record(verdicts=judged(**{claim: 0.01})))["REPORT.md"]
            for claim in ("digits_over_supervised", "digits_feedback")]  # fmt: skip

    assert [True, False] == said


def test_soft_labels_alone_are_told_of() -> None:
    """Without feedback, 3 and 4 points above labels that are drawn: 3.5."""
    accuracy = {"cifar10_dose_mpl_no_feedback": {"student_average": [60.0, 61]},
                "cifar10_dose_soft_no_feedback": {"student_average": [63.0, 65]}}  # fmt: skip

    assert "Soft pseudo labels in place of drawn ones add +3.50 [" in readme_rows(record(accuracy, {}))


def test_a_large_gain_with_zero_in_its_interval_carries_nothing() -> None:
    """Feedback adds 10 10 -10 10 points, UDA 1 1 1 2: five in the mean against 1.25, and only the latter is clear."""
    accuracy = {
        "digits_supervised": {"teacher": [80.0, 82, 84, 86]},
        "digits_uda": {"teacher": [81.0, 83, 85, 88]},
        "digits_mpl_no_feedback": {"student": [81.0, 83, 85, 88]},
        "digits_mpl": {"student": [91.0, 93, 75, 98]},
    }
    found = record(accuracy, {}, verdicts=judged(digits_uda_over_supervised=0.5, digits_feedback=0.5))

    a = SimpleNamespace(**pages.answers(found, []))

    assert [1.25, 0.0, 5.0] == [about(step.number.gain.mean) for step in a.steps if step.number.gain]
    assert "+ UDA's consistency loss" == a.carried.title


def test_the_best_setting_is_study_1_once_its_claims_on_uda_and_feedback_have_run() -> None:
    """Until then long training on digits answers, and before that the short one."""
    short = dict.fromkeys(["digits_uda_over_supervised", "digits_feedback"], 0.01)
    long = short | dict.fromkeys(["digits_long_over_uda", "digits_long_feedback"], 0.01)
    one = long | {"cifar10_small_feedback": 0.01}

    best = [pages.best_setting(judged(**p)) for p in
            ({}, short, long, one, one | {"cifar10_small_uda_over_supervised": 0.01})]  # fmt: skip

    assert [None, "digits", "digits_long", "digits_long", "cifar10_small"] == [
        one.setting if one else None for one in best
    ]
    wanted = {"digits_supervised", "digits_uda", "digits_mpl", "digits_mpl_no_feedback"}
    planted = {run for setting in pages.PLANTED for run in comparisons()[setting].runs.values()}
    arms = ("mpl_held", "mpl_held_reversed", "exact_held", "exact_held_reversed")
    signs = {f"{one}_dose_{arm}" for one in ("digits", "moons", "cifar10") for arm in arms}
    signs.remove("cifar10_dose_exact_held_reversed")  # is no arm there
    assert wanted | planted | signs | {*pages.SOFT} == set(pages.needed_runs(judged(**short)))


def test_what_waits_is_counted_with_its_cost_and_plans() -> None:
    """SVHN: 6 numbers, 4 orderings, one of which has no experiment; the commonest cost comes first."""
    svhn = next(one for one in waiting(claim_rows(record())) if one["page"] == "svhn_1k")

    assert [6, 4, ("svhn_1k",), 1] == [svhn[key] for key in ("numbers", "orderings", "plans", "without")]
    common = next(iter(svhn["costs"].items()))
    assert ("3 seeds of 1,000,000 steps with 128 + 128 images on WideResNet-28-2", 4) == common


def test_metrics_are_flat_and_sorted() -> None:
    """Mean accuracy in % by run and network, its seeds, and the verdicts by status, zeros too."""
    found = pages.metrics(record())

    assert list(found) == sorted(found)
    assert (90.0, 89.0, 4) == (
        found["accuracy %/digits_mpl/student"],
        found["accuracy %/digits_mpl_no_feedback/student"],
        found["seeds/digits_mpl"],
    )
    assert 4 == sum(number for key, number in found.items() if key.startswith("verdicts/"))
    assert 0 == found["verdicts/EXCEEDED"]


def test_scores_of_more_classes_have_a_top_5() -> None:
    """A measure of its own: it is not mixed with accuracy."""
    found = record()
    scores = make_scores(found.runs["digits_mpl"], counted_of(ACCURACY["digits_mpl"]), ACCURACY["digits_mpl"],
                         top5={"student": {0: 0.99}})  # fmt: skip
    found = replace(found, scores=found.scores | {"digits_mpl": scores})

    assert {0: 99.0} == found.percent(Place("digits_mpl", "student", "top5"))
    assert 4 == len(found.percent(Place("digits_mpl", "student")))


# Confirmation bias


def stays(before: np.ndarray, now: np.ndarray, truth: np.ndarray) -> list[list[float]]:
    """The share at two snapshots, by seed."""
    found: list[list[float]] = label_curves(np.stack([before, now], axis=1), truth, [0, 1], 0)["wrong_stays"].tolist()
    return found


def test_the_share_that_stays_is_over_those_wrong_before() -> None:
    """Three of five were wrong; one keeps its wrong class, one is right now, one has another wrong class: a third.

    That is the number of the bias: over those wrong now it would be 1 of 2 in the first row, and 1 of 1 in the second.
    """
    truth = np.array([[0, 0, 0, 1, 2]] * 2)
    before = np.array([[1, 1, 2, 1, 2]] * 2)
    now = np.array([[1, 0, 1, 1, 2], [1, 0, 0, 1, 2]])

    for row in stays(before, now, truth):
        assert [np.nan, 1 / 3] == pytest.approx(row, nan_ok=True)


def test_a_label_that_was_not_wrong_does_not_count() -> None:
    """Wrong now, right before: none stays; where none was wrong there is no share, and none before the first."""
    truth, right = np.array([[0, 1]]), np.array([[0, 1]])

    assert 0.0 == stays(np.array([[0, 0]]), np.array([[1, 1]]), truth)[0][1]
    assert np.isnan(stays(right, np.array([[1, 1]]), truth)).all()


def test_the_bias_is_the_mean_of_the_second_half() -> None:
    """Of four snapshots the last two: 10 and 30, so 20 %; the first two, before anything is learned, do not count."""
    run = make_run("digits_mpl", ACCURACY["digits_mpl"], wrong=[10, 10, 10, 10])
    stays = np.array([[np.nan, 0.9, 0.1, 0.3]] * 3 + [[np.nan, np.nan, np.nan, 0.5]])
    arrays = run.arrays | {"curve.step": np.array([0, 5, 10, 20]), "curve.wrong_stays": stays}
    made = replace(record(), runs={"digits_mpl": replace(run, arrays=arrays)})

    assert {0: 20.0, 1: 20.0, 2: 20.0, 3: 50.0} == pytest.approx(made.percent(Place("digits_mpl", "student", "stays")))

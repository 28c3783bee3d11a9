"""Evidence that must not pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from repro.config import expected_networks, read_config
from repro.results import Run
from repro.verify.claims import Claim, Status, Verdict
from repro.verify.rules import judge
from tests import verify_cases as cases
from tests.tiny import METHODS, settings, trained
from tests.verify_cases import BASE, HIGH, LABELS, LOW, MPL, NUMBER, ORDERING, SUPERVISED, hashed, scores

GOOD = scores("mpl", HIGH, MPL)
STUDENT = "predictions.student"


def spoilt(change: Callable[[Run], Run], of: Claim = ORDERING) -> Verdict:
    """The verdict when the better run was changed, and all would pass otherwise."""
    right = HIGH if of is not NUMBER else [961, 962, 960, 961, 961]
    return judge(of, {"mpl": cases.rebuilt(change(cases.run_of("mpl", right, cases.config(MPL))))} | BASE)


def shuffled(run: Run) -> Run:
    """The right number of each class, in a wrong order."""
    return cases.with_array(run, STUDENT, np.random.default_rng(5).permutation(run.arrays[STUDENT][0]), row=0)


def exchanged(run: Run) -> Run:
    """A wrong prediction replaced by another wrong one: the accuracy stays."""
    classes = run.arrays[STUDENT][0].copy()
    i = np.flatnonzero(classes != LABELS)[0]
    classes[i] = (LABELS[i] + 2) % 10
    return cases.with_array(run, STUDENT, classes, row=0)


def better(run: Run) -> Run:
    """999 predictions of the first seed are right."""
    return cases.with_array(run, STUDENT, cases.predictions(999), row=0)


def half_edited(run: Run) -> Run:
    """Better predictions and the hash of predictions to match; the hash of the record is left."""
    return replace(hashed(better(run)), seeds=hashed(better(run)).seeds.assign(record_hash=run.seeds["record_hash"]))


def with_log(run: Run, keep: Callable[[Run], np.ndarray]) -> Run:
    """The run with these rows of its log."""
    return replace(run, metrics=run.metrics[keep(run)])


def with_settings(run: Run, **changes: object) -> Run:
    """The run with other resolved settings."""
    return replace(run, config=run.config | changes)


def fewer_examples(run: Run) -> Run:
    """The last test examples are left out."""
    return replace(run, arrays={k: v[:, 1:] if k.startswith("pred") else v for k, v in run.arrays.items()})


CHANGED, OTHER_HASH = (
    "its record was changed after it was written (hash differs)",
    "predictions are not those that were",
)
REFUSED: dict[str, tuple[Callable[[Run], Run], str]] = {
    # changed after it was written: hashes are left
    "predictions shuffled": (shuffled, OTHER_HASH),
    "predictions exchanged, accuracy kept": (exchanged, OTHER_HASH),
    "predictions and their hash replaced": (half_edited, CHANGED),
    "no hash of the predictions": (lambda run: cases.without(run, "predictions_hash"), "no column predictions_hash"),
    "no hash of the record": (lambda run: cases.without(run, "record_hash"), "no column record_hash"),
    # made up as a whole: every hash fits
    "stored accuracy is NaN": (
        lambda run: hashed(cases.cell(run, "accuracy.student", math.nan)), "was stored with accuracy nan"),
    "stored accuracy is another": (
        lambda run: hashed(cases.cell(run, "accuracy.student", 0.999)), "stored with accuracy 0.999"),
    "stored accuracy is missing": (
        lambda run: hashed(cases.without(run, "accuracy.student")), "has accuracies of teacher, but"),
    "better predictions": (
        lambda run: hashed(better(run)), "was stored with accuracy 0.951, its predictions give 0.999"),
    "too few examples": (lambda run: hashed(fewer_examples(run)), "has predictions [1, 999] for labels [1, 1000]"),
    "a class that does not exist": (
        lambda run: hashed(cases.with_array(run, STUDENT, np.full(1000, 10, np.uint8), row=0)), "classes outside"),
    "other test data": (lambda run: hashed(cases.cell(run, "held_out_hash", "other")), "on other test data"),
    "other training data": (lambda run: hashed(cases.cell(run, "training_hash", "train-9")), "trained on other data"),
    "a network left out": (
        lambda run: hashed(cases.without(run, "predictions.teacher", "accuracy.teacher")), "its configuration trains"),
    "a log that ends early": (
        lambda run: hashed(with_log(run, lambda r: r.metrics["step"] < r.metrics["step"].max())), "log ends at step"),
    "a log with a gap": (lambda run: hashed(with_log(run, lambda r: r.metrics.index != 3)), "its log ends at step"),
    "no log": (lambda run: hashed(with_log(run, lambda r: r.metrics["seed"] != "0")), "0: its log is empty"),
    "a log without numbers": (
        lambda run: hashed(replace(run, metrics=run.metrics[["seed", "step"]])), "no number in its last row"),
    "a planned seed left out": (
        lambda run: hashed(with_settings(run, **cases.planned({}, range(6)))), "are not the planned ones"),
    "a seed added to the plan's": (
        lambda run: hashed(with_settings(run, **cases.planned({}, range(4)))), "are not the planned ones"),
    "a planned seed exchanged": (
        lambda run: hashed(with_settings(run, planned_seeds="0,1,2,3,7")), "are not the planned 0,1,2,3,7"),
    "the last planned seeds left out": (  # the beginning of a plan is a chosen subset as well
        lambda run: hashed(with_settings(run, planned_seeds="0,1,2,3,4,5")), "are not the planned 0,1,2,3,4,5"),
    "a seed twice": (
        lambda run: replace(run, seeds=run.seeds.set_axis([0, 1, 1, 3, 4])), "a seed is there twice"),
    "other settings than were trained": (
        lambda run: hashed(with_settings(run, budget=run.config["budget"] | {"steps": 7})), "where 7 steps give"),
    "unreadable settings": (
        lambda run: hashed(with_settings(run, method={"name": "m"})), "the configuration cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_evidence_is_refused(case: str) -> None:
    """It is INCONCLUSIVE whatever the numbers say; the sentence says what is wrong, and what to do."""
    change, said = REFUSED[case]
    verdict = spoilt(change)

    assert Status.INCONCLUSIVE == verdict.status
    assert said in " ".join(verdict.problems)
    assert verdict.missing
    assert verdict.reason.startswith("evidence refused: mpl")


WEAK: dict[str, Callable[[], Verdict]] = {
    "predictions shuffled, under the number": lambda: spoilt(shuffled, NUMBER),
    "accuracy NaN in the scores": lambda: judge(ORDERING, {
        "mpl": replace(GOOD["mpl"], accuracy={"student": dict.fromkeys(range(5), math.nan)})} | BASE),
    "no seeds at all": lambda: judge(ORDERING, {"mpl": replace(GOOD["mpl"], accuracy={"student": {}})} | BASE),
    "supervised run under the claim": lambda: judge(
        ORDERING, scores("mpl", HIGH, SUPERVISED) | scores("base", LOW, SUPERVISED, optim__average_decay=0.5)),
    "the same experiment twice": lambda: judge(ORDERING, GOOD | scores("base", LOW, MPL)),
    "another recipe": lambda: judge(replace(NUMBER, recipe="released"), scores("mpl", [961, 962, 960], MPL)),
    "number on a reduced budget": lambda: judge(NUMBER, scores("mpl", [961, 962, 960], MPL, budget__reduced="short")),
    "number with a departure": lambda: judge(NUMBER, scores("mpl", [961, 962, 960], MPL, budget__steps=2000)),
    "number without a recipe": lambda: judge(
        replace(NUMBER, recipe="none"), scores("mpl", [961, 962, 960], MPL, recipe__name="none")),
    "number from one high seed": lambda: judge(NUMBER, scores("mpl", [999], MPL)),
    "number from equal seeds": lambda: judge(NUMBER, scores("mpl", [961, 961, 961], MPL)),
    "number of a network that is not there": lambda: judge(
        cases.with_rule(NUMBER, network="student_finetuned"), scores("mpl", [961, 962, 960], MPL)),
    "ordering from two seeds": lambda: cases.compared([951, 952], [901, 901]),
    "ordering without spread": lambda: cases.compared([951, 952, 953], [901, 902, 903]),
    "seeds that are not paired": lambda: judge(
        ORDERING, GOOD | scores("base", {seed + 10: n for seed, n in enumerate(LOW)}, SUPERVISED)),
    "different data": lambda: judge(ORDERING, GOOD | scores("base", LOW, SUPERVISED, data__labels=100)),
    "other training data": lambda: judge(ORDERING, GOOD | {
        "base": replace(BASE["base"], training_hash={(seed,): "x" for seed in range(5)})}),
    "a control that changed something else": lambda: judge(
        cases.with_rule(ORDERING, differ_in=("method.feedback",)),
        GOOD | scores("base", LOW, MPL | {"feedback": "none"}, optim__average_decay=0.5)),
    "a control in another precision": lambda: judge(
        cases.with_rule(ORDERING, differ_in=("method.feedback",)),
        GOOD | scores("base", LOW, MPL | {"feedback": "none"}, engine__precision="bfloat16")),
    "success on three data sets": lambda: cases.compared([960] * 3, [900] * 3, cases.SUCCESS),
}  # fmt: skip


@pytest.mark.parametrize("case", WEAK)
def test_weak_evidence_never_passes(case: str) -> None:
    """Evidence of something else, or too little, is INCONCLUSIVE and says what would settle it."""
    verdict = WEAK[case]()

    assert Status.INCONCLUSIVE == verdict.status
    assert verdict.missing


def test_the_bad_evidence_would_pass_unspoilt() -> None:
    """The tables above prove something only if the untouched evidence passes."""
    control = cases.with_rule(ORDERING, differ_in=("method.feedback",))
    no_feedback = scores("base", LOW, MPL | {"feedback": "none"})

    assert Status.REPRODUCED == spoilt(lambda run: run).status
    assert Status.REPRODUCED == spoilt(hashed).status
    assert Status.REPRODUCED == spoilt(lambda run: run, NUMBER).status
    assert Status.REPRODUCED == judge(NUMBER, scores("mpl", [961, 962, 960], MPL)).status
    assert Status.REPRODUCED == judge(control, GOOD | no_feedback).status


# Which seeds give a number, and what is said of the others


RUN = cases.run_of("mpl", HIGH, cases.config(MPL))


def test_refused_seed_gives_no_number() -> None:
    """The other seeds are recomputed; the refused one is absent, and the sentence names run, seed and remedy."""
    found = cases.rebuilt(hashed(cases.cell(RUN, "training_hash", "train-9")))

    assert {1: 0.955, 2: 0.949, 3: 0.953, 4: 0.957} == found.accuracy["student"]
    assert [("mpl, seed 0: was trained on other data or another split than its settings and seeds give (hash differs); "
            "train and evaluate a plan that has it again: make reproduce PLAN=<plan>")] == found.problems  # fmt: skip


def test_a_changed_record_gives_no_number_at_all() -> None:
    """Whoever changed one seed may have changed the others; where to have it back is said."""
    found = cases.rebuilt(cases.cell(RUN, "seconds", 9.0))

    assert {} == found.accuracy["student"]
    assert [("mpl, seed 0: its record was changed after it was written (hash differs); take it back: git checkout -- "
            "results/runs, or train and evaluate a plan that has the run again")] == found.problems  # fmt: skip


def test_what_no_setting_shows_stands_first_beside_a_verdict() -> None:
    """Seeds chosen after a look, seeds of several machines, code nobody else has: before what the recipe prescribes."""
    prescribed = {"budget.steps": 1_000_000, "optim.average_decay": 0.5, "data.labels": 1, "finetune.steps": 77}
    run = cases.run_of("mpl", HIGH, cases.config(MPL, recipe__values=prescribed))
    told = {"seeds_before": "0,1", "device_name": ["a GPU", *["a CPU"] * 4], "clean": "False", "revision": "abc",
            "torch": [*["2.0"] * 4, "2.1"], "source": [*["x" * 64] * 4, "y" * 64]}  # fmt: skip
    found = cases.rebuilt(hashed(replace(run, seeds=run.seeds.assign(**told))))

    assert [] == found.problems
    assert found.departures[0].startswith("recorded before with seeds 0,1: intervals do not allow")
    assert ["its seeds were trained by different devices: a CPU, a GPU",
            "its seeds were trained by different versions of PyTorch: 2.0, 2.1",
            f"its seeds were trained by different training code: {'x' * 40}, {'y' * 40}",
            "trained by code with uncommitted changes, at revision abc"] == found.departures[1:5]  # fmt: skip
    assert 5 + len(prescribed) == len(found.departures)


def test_stacked_seeds_are_read() -> None:
    """Seeds that were trained together give one accuracy each."""
    run = cases.run_of("mpl", {4: 900, 9: 950}, cases.config(MPL))
    together = run.seeds.assign(group="4-9", training_hash=cases.training_hash_of({}, [4, 9]))
    log = run.metrics[run.metrics["seed"] == "4"].assign(seed="4-9")
    stacked = cases.rebuilt(hashed(replace(run, seeds=together, metrics=log, config=cases.planned(run.config, [4, 9]))))

    assert [] == stacked.problems
    assert {4: 0.9, 9: 0.95} == stacked.accuracy["student"]
    assert (False, {(4, 9): "train-4,9"}) == (stacked.reduced, stacked.training_hash)


@pytest.mark.parametrize("name", METHODS)
def test_expected_networks_are_those_that_the_methods_train(name: str) -> None:
    """The networks that the verifier expects are those that training has."""
    small = settings("digits", {"name": name, **({"teacher_steps": 5} if name == "pseudo_label" else {})})

    assert set(trained(small, steps=0).state.learners) == expected_networks(small)[0]


@pytest.mark.parametrize(("changes", "networks", "counted"), [
    ({"finetune__steps": 3}, {"teacher", "student", "student_finetuned"}, "student"),
    (
        {"optim__average_decay": 0.9},
        {"teacher", "student", "teacher_average", "student_average"},
        "student_average",
    ),
])  # fmt: skip
def test_averages_and_finetuned_weights_are_expected(changes: dict[str, Any], networks: set[str], counted: str) -> None:
    """Averaged weights count where there are any, finetuned ones never."""
    assert (networks, counted) == expected_networks(read_config(cases.config(MPL, **changes)))

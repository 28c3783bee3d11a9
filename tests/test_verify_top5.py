"""Top-5: what is recorded must fit predictions, hash and labels; claims about it are judged by it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from repro.config import as_mapping, read_config
from repro.results import Run
from repro.verify.claims import Measure, Status
from repro.verify.evidence import Scores, rebuild
from repro.verify.rules import judge
from tests.verify_cases import (
    HIGH,
    LOW,
    NUMBER,
    ORDERING,
    SUPERVISED,
    N,
    cell,
    hashed,
    recorded,
    training_hash_of,
    with_array,
    with_rule,
    without,
)
from tests.verify_cases import MPL as METHOD
from tests.verify_cases import scores as of_ten

CLASSES = 1000
LABELS = np.random.default_rng(1).integers(0, CLASSES, N)
MANY = {
    "data": {"name": "folder", "classes": CLASSES, "labels": CLASSES}, "model": {"name": "resnet50"}, "optim": {},
    "budget": {}, "finetune": {}, "recipe": {"name": "paper", "values": {"budget.steps": 1000}},
}  # fmt: skip
STUDENT = "top5.student"


def likeliest(first: int, among: int, seed: int) -> np.ndarray:
    """uint16 [N, 5]: the label comes first for `first` examples, and among the five for `among`."""
    places = np.random.default_rng(seed).permutation(N)
    found = (LABELS[:, None] + np.arange(1, 6)) % CLASSES
    found[places[:first], 0] = LABELS[places[:first]]
    found[places[first:among], 3] = LABELS[places[first:among]]
    return found.astype(np.uint16)


def a_run(
    name: str, among: Sequence[int], method: dict[str, Any], first: int = 500, labels: np.ndarray = LABELS
) -> Run:
    """A run on 1,000 classes: for each seed so many right among five, and about `first` right at once."""
    top5 = np.stack([likeliest(first + seed, n, seed) for seed, n in enumerate(among)])
    settings = as_mapping(read_config({**MANY, "method": dict(method)}))
    return recorded(name, np.ascontiguousarray(top5[..., 0]), range(len(among)), settings, labels, top5)


def rebuilt(run: Run, labels: np.ndarray = LABELS) -> Scores:
    """Its scores."""
    return rebuild(run, lambda _, seeds: (np.tile(labels, (len(seeds), 1)), "test"), training_hash_of)


def scores(name: str, among: Sequence[int], method: dict[str, Any], first: int = 500) -> dict[str, Scores]:
    """The scores of such a run, by name."""
    return {name: rebuilt(a_run(name, among, method, first))}


def test_top5_is_recomputed() -> None:
    """Shares are those of labels among the five, seed by seed; accuracy is that of the first of them."""
    found = scores("mpl", [900, 910], METHOD)["mpl"]

    assert [] == found.problems
    assert {"teacher": {0: 0.9, 1: 0.91}, "student": {0: 0.9, 1: 0.91}} == found.top5 == found.measured(Measure.top5)
    assert {0: 0.5, 1: 0.501} == found.accuracy["student"] == found.measured(Measure.accuracy)["student"]


def reordered(run: Run, *order: int) -> Run:
    """The student's likeliest classes in another order."""
    return with_array(run, STUDENT, run.arrays[STUDENT][..., list(order)])


NETWORKS = ("top5.student", "top5.teacher")
BAD: dict[str, tuple[Callable[[Run], Run], str]] = {
    "nothing recorded": (lambda run: hashed(without(run, *NETWORKS)), "of other networks than"),
    "exchanged after evaluation": (lambda run: reordered(run, 0, 2, 1, 3, 4), "hash differs"),
    "the first is not the prediction": (
        lambda run: hashed(reordered(run, 3, 1, 2, 0, 4)), "another class than the first"),
    "four of them": (lambda run: hashed(reordered(run, 0, 1, 2, 3)), "for predictions uint16 [3, 1000]"),
    "a class twice": (lambda run: hashed(reordered(run, 0, 1, 2, 3, 3)), "has a class twice"),
    "stored accuracy is another": (lambda run: hashed(cell(run, STUDENT, 0.99)), "stored with top5 0.99, its"),
    "better ones": (
        lambda run: hashed(with_array(run, STUDENT, likeliest(500, 1000, 0), row=0)),
        "top5 0.9, its predictions give 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_gives_no_number(case: str) -> None:
    """The seed has neither accuracy nor top-5 accuracy; the sentence says what is wrong and what to do."""
    spoil, said = BAD[case]
    found = rebuilt(spoil(a_run("mpl", [900, 901, 902], METHOD)))

    assert 0 not in found.accuracy["student"]
    assert 0 not in found.top5.get("student", {})
    assert said in found.problems[0]
    assert all(text.endswith("train and evaluate a plan that has the run again") for text in found.problems)


def test_a_number_is_judged_by_the_measure_of_its_claim() -> None:
    """The same runs reproduce a top-5 number and miss the same number as top-1; and the other way round."""
    found = scores("mpl", [913, 914, 912], METHOD)
    claim = with_rule(NUMBER, value=91.38)
    top5 = with_rule(claim, measure=Measure.top5)
    best = scores("mpl", [990, 990, 991], METHOD, first=912)

    assert Status.REPRODUCED == judge(top5, found).status
    assert Status.NOT_REPRODUCED == judge(claim, found).status
    assert Status.EXCEEDED == judge(top5, best).status
    assert Status.REPRODUCED == judge(claim, best).status


def test_an_ordering_is_judged_by_the_measure_of_its_claim() -> None:
    """Better among five, equal at once: only the claim on top-5 holds."""
    found = scores("mpl", HIGH, METHOD) | scores("base", LOW, SUPERVISED)
    top5 = with_rule(ORDERING, measure=Measure.top5)

    assert Status.REPRODUCED == judge(top5, found).status
    assert Status.REPRODUCED != judge(ORDERING, found).status


def test_without_top5_a_claim_on_it_is_open() -> None:
    """A run of ten classes has none, and its accuracy does not stand in for it."""
    verdict = judge(with_rule(NUMBER, measure=Measure.top5), of_ten("mpl", [961, 962, 960], METHOD))

    assert Status.INCONCLUSIVE == verdict.status
    assert "has no top-5 accuracy of the network 'student'" in verdict.reason


def test_classes_that_no_test_label_has_may_be_predicted() -> None:
    """Where few test images leave the last classes out, predicting them is wrong but no damage."""
    zeros = np.zeros(N, dtype=np.int64)

    assert [] == rebuilt(a_run("mpl", [900], METHOD, labels=zeros), zeros).problems

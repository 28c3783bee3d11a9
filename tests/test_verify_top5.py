"""Top-5: what is recorded must fit predictions, hash and labels; claims about it are judged by it alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from repro.verify.rebuild import Scores, rebuild

from repro.config import as_mapping, read_config
from repro.evaluate.evaluate import top5_accuracies
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify.claims import Measure, Status
from repro.verify.rules import judge
from tests.verify_cases import HIGH, LOW, NUMBER, ORDERING, SUPERVISED, N, folder, training_hash_of, with_rule
from tests.verify_cases import MPL as METHOD
from tests.verify_cases import scores as of_ten

CLASSES = 1000
LABELS = np.random.default_rng(1).integers(0, CLASSES, N)
MANY = {
    "data": {"name": "folder", "classes": CLASSES, "labels": CLASSES}, "model": {"name": "resnet50"}, "optim": {},
    "budget": {}, "finetune": {}, "recipe": {"name": "paper", "values": {"budget.steps": 1000}},
}  # fmt: skip


def config(method: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run on 1,000 classes that follows its recipe."""
    return as_mapping(read_config({**MANY, "method": dict(method)}))


def likeliest(first: int, among: int, seed: int) -> np.ndarray:
    """uint16 [1, N, 5]: the label comes first for `first` examples, and among the five for `among`."""
    places = np.random.default_rng(seed).permutation(N)
    found = (LABELS[:, None] + np.arange(1, 6)) % CLASSES
    found[places[:first], 0] = LABELS[places[:first]]
    found[places[first:among], 3] = LABELS[places[first:among]]
    return found.astype(np.uint16)[None]


def run(name: str, seed: int, first: int, among: int, method: dict[str, Any]) -> EvaluatedRun:
    """A folder with that many examples right, and right among five."""
    made = folder(name, seed, 500, config(method))
    top5 = {network: likeliest(first, among, seed) for network in made.predictions}
    found = {network: values[..., 0] for network, values in top5.items()}
    return replace(
        made, predictions=found, top5=top5,
        accuracy={network: [first / N] for network in found},
        top5_accuracy={network: top5_accuracies(values, LABELS[None]) for network, values in top5.items()},
        data=made.data | {"predictions_hash": predictions_hash(found), "top5_hash": predictions_hash(top5)},
    )  # fmt: skip


def rebuilt(runs: Sequence[EvaluatedRun]) -> Scores:
    """Scores of folders that were planned as they are."""
    planned = training_hash_of({}, sorted(seed for one in runs for seed in one.seeds))
    as_planned = [replace(one, config=one.config | {"data_hash": planned}) for one in runs]
    return rebuild(as_planned, lambda one: (np.tile(LABELS, (len(one.seeds), 1)), "test"), training_hash_of)


def scores(name: str, among: Sequence[int], method: dict[str, Any], first: int = 500) -> dict[str, Scores]:
    """One folder for each seed, with so many right among five, and about `first` right at once."""
    return {name: rebuilt([run(name, seed, first + seed, n, method) for seed, n in enumerate(among)])}


def test_top5_is_recomputed() -> None:
    """Shares are those of labels among the five, seed by seed; accuracy is that of the first of them."""
    found = scores("mpl", [900, 910], METHOD)["mpl"]

    assert [] == found.problems
    assert {"teacher": {0: 0.9, 1: 0.91}, "student": {0: 0.9, 1: 0.91}} == found.top5 == found.measured(Measure.top5)
    assert {0: 0.5, 1: 0.501} == found.accuracy["student"] == found.measured(Measure.accuracy)["student"]


def other_top5(one: EvaluatedRun, values: np.ndarray, hashed: bool = True) -> EvaluatedRun:
    """The student's five classes exchanged."""
    top5 = one.top5 | {"student": values}
    return replace(one, top5=top5, data=one.data | ({"top5_hash": predictions_hash(top5)} if hashed else {}))


def swapped(values: np.ndarray, first: int, second: int) -> np.ndarray:
    """Two places of the order exchanged."""
    order = np.arange(5)
    order[[first, second]] = second, first
    return values[..., order]


BAD: dict[str, tuple[Callable[[EvaluatedRun], EvaluatedRun], str]] = {
    "nothing recorded": (lambda one: replace(one, top5={}, top5_accuracy={}), "of other networks than"),
    "a network left out": (lambda one: replace(one, top5={"student": one.top5["student"]}), "of other networks than"),
    "exchanged after evaluation": (
        lambda one: other_top5(one, swapped(one.top5["student"], 1, 2), hashed=False), "hash differs"),
    "the first is not the prediction": (
        lambda one: other_top5(one, swapped(one.top5["student"], 0, 3)), "another class than the first"),
    "four of them": (lambda one: other_top5(one, one.top5["student"][..., :4]), r"for predictions uint16 \[1, 1000\]"),
    "another type": (lambda one: other_top5(one, one.top5["student"].astype(np.int64)), "has likeliest classes int64"),
    "a class twice": (
        lambda one: other_top5(one, one.top5["student"][..., [0, 1, 2, 3, 3]]), "has a class twice"),
    "stored accuracy edited": (
        lambda one: replace(one, top5_accuracy=one.top5_accuracy | {"student": [0.99]}), "top-5 accuracy 0.99, its"),
    "stored accuracy missing": (lambda one: replace(one, top5_accuracy={}), "top-5 accuracy nan, its"),
    "another accuracy, consistent but for the label": (
        lambda one: other_top5(one, likeliest(500, 1000, 0)), "top-5 accuracy 0.9, its likeliest classes give 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_gives_no_number(case: str) -> None:
    """The seed has neither accuracy nor top-5 accuracy; the sentence says what is wrong and what to do."""
    spoil, said = BAD[case]
    first, *rest = [run("mpl", seed, 500 + seed, 900 + seed, METHOD) for seed in range(3)]
    found = rebuilt([spoil(first), *rest])

    assert [1, 2] == sorted(found.accuracy["student"])
    assert 0 not in found.top5.get("student", {})
    problems = [text for text in found.problems if "mpl, seed 0: " in text]
    assert any(re.search(said, text) for text in problems)
    assert all(text.endswith("train and evaluate a plan that has the run again") for text in problems)


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
    labels = np.zeros((1, N), dtype=np.int64)
    one = run("mpl", 0, 500, 900, METHOD)
    hits = {network: [float((values == 0).mean())] for network, values in one.predictions.items()}
    among = {network: top5_accuracies(values, labels) for network, values in one.top5.items()}
    planned = replace(one, accuracy=hits, top5_accuracy=among, config=one.config | {"data_hash": "train-0"})

    assert [] == rebuild([planned], lambda _: (labels, "test"), training_hash_of).problems

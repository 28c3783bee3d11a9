"""Evidence that must not pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from repro.verify.rebuild import rebuild

from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify.claims import Claim, Status, Verdict
from repro.verify.rules import judge
from tests.verify_cases import (
    HIGH,
    LABELS,
    LOW,
    MPL,
    NUMBER,
    ORDERING,
    SUCCESS,
    SUPERVISED,
    compared,
    config,
    folder,
    folders,
    labels_of,
    predictions,
    rebuilt,
    scores,
    shuffled,
    training_hash_of,
    with_predictions,
    with_rule,
)


def spoilt(change: Callable[[EvaluatedRun], EvaluatedRun], of: Claim = ORDERING) -> Verdict:
    """The verdict when the first seed of the better run was changed, and all would pass otherwise."""
    right = HIGH if of is not NUMBER else [961, 962, 960, 961, 961]
    first, *rest = folders("mpl", right, MPL)
    return judge(of, {"mpl": rebuilt([change(first), *rest])} | scores("base", LOW, SUPERVISED))


def swapped(run: EvaluatedRun) -> EvaluatedRun:
    """Two wrong predictions exchanged: the accuracy stays, the predictions are others."""
    classes = run.predictions["student"].copy()
    i, j = np.flatnonzero(classes[0] != LABELS)[:2]
    if classes[0, i] == classes[0, j]:
        classes[0, i] = (LABELS[i] + 2) % 10
    else:
        classes[0, [i, j]] = (LABELS[[i, j]] + 3) % 10
    return with_predictions(run, classes, consistent=False)


def with_accuracy(run: EvaluatedRun, student: list[float]) -> EvaluatedRun:
    """The folder with another stored accuracy of the student."""
    return replace(run, accuracy=run.accuracy | {"student": student})


def without(run: EvaluatedRun, network: str) -> EvaluatedRun:
    """The folder without one network, consistent in all else."""
    found = {name: classes for name, classes in run.predictions.items() if name != network}
    accuracy = {name: values for name, values in run.accuracy.items() if name != network}
    hashed = run.data | {"predictions_hash": predictions_hash(found)}
    return replace(run, predictions=found, accuracy=accuracy, data=hashed)


BAD: dict[str, Callable[[], Verdict]] = {
    "stored accuracy is NaN": lambda: spoilt(lambda run: with_accuracy(run, [math.nan])),
    "stored accuracy was edited": lambda: spoilt(lambda run: with_accuracy(run, [0.999])),
    "stored accuracy is missing": lambda: spoilt(lambda run: with_accuracy(run, [])),
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
    "the other network counted": lambda: spoilt(lambda run: replace(run, counted="teacher")),
    "a network left out": lambda: spoilt(lambda run: without(run, "teacher")),
    "a log that ends early": lambda: spoilt(lambda run: replace(run, metrics=run.metrics[:-1])),
    "a log with a gap": lambda: spoilt(lambda run: replace(run, metrics=run.metrics.drop(index=3))),
    "a log without numbers": lambda: spoilt(lambda run: replace(run, metrics=run.metrics[["step"]])),
    "a planned seed exchanged": lambda: judge(ORDERING, {"mpl": rebuild(
        [replace(run, config=run.config | {"planned_seeds": "0,1,2,3,7", "data_hash": training_hash_of({}, range(5))})
         for run in folders("mpl", HIGH, MPL)], labels_of, training_hash_of)} | scores("base", LOW, SUPERVISED)),
    "no log": lambda: spoilt(lambda run: replace(run, metrics=run.metrics[:0])),
    "other training data than the seed gives": lambda: spoilt(
        lambda run: replace(run, data=run.data | {"training_hash": "train-9"})),
    "a planned seed left out": lambda: judge(ORDERING, {"mpl": rebuild(
        [replace(run, config=run.config | {"data_hash": training_hash_of({}, range(6))})
         for run in folders("mpl", HIGH, MPL)], labels_of, training_hash_of)} | scores("base", LOW, SUPERVISED)),
    "a seed added to the plan's": lambda: judge(ORDERING, {"mpl": rebuild(
        [replace(run, config=run.config | {"data_hash": training_hash_of({}, range(4))})
         for run in folders("mpl", HIGH, MPL)], labels_of, training_hash_of)} | scores("base", LOW, SUPERVISED)),
    "another seed's network": lambda: spoilt(lambda run: replace(run, seeds=[1])),
    "more seeds than predictions": lambda: spoilt(lambda run: replace(run, seeds=[0, 7])),
    "one folder has another configuration": lambda: spoilt(
        lambda run: replace(run, config=config(MPL, optim__average_decay=0.5))),
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
        "base": rebuilt([folder("base", seed + 10, n, config(SUPERVISED)) for seed, n in enumerate(LOW)])}),
    "seeds that are not paired, success": lambda: judge(SUCCESS, scores("mpl", [960] * 9, MPL) | {
        "base": rebuilt([folder("base", seed + 10, 900, config(SUPERVISED)) for seed in range(9)])}),
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

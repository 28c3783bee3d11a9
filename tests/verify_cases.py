"""Evidence made up and claims about it that the tests of the verdict share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from repro.verify.completeness import ROLES
from repro.verify.rebuild import Scores, rebuild

from repro.config import as_mapping, read_config
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify.claims import Absolute, Claim, Ordering, SuccessRate, Verdict
from repro.verify.rules import judge

N = 1000
LABELS = np.random.default_rng(0).integers(0, 10, N)
MPL = {"name": "mpl"}
SUPERVISED = {"name": "supervised"}


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
    """A run folder of one seed as evaluation would write it; a teacher, where there are both, is right as often."""
    roles = ROLES[settings["method"]["name"]]
    found = {role: predictions(correct, seed) for role in roles}
    share = float((found[roles[-1]][0] == LABELS).mean())
    return EvaluatedRun(
        name=name, seeds=[seed], config=settings, counted=roles[-1], predictions=found,
        accuracy={role: [share] for role in roles},
        data={"training_hash": training_hash_of(settings, [seed]), "held_out_hash": "test",
              "predictions_hash": predictions_hash(found)},
        environment={}, metrics=log_of(settings),
    )  # fmt: skip


def log_of(settings: dict[str, Any]) -> pd.DataFrame:
    """A log with all its rows."""
    steps, every = settings["budget"]["steps"], settings["budget"]["log_every"]
    return pd.DataFrame({"step": sorted({*range(every, steps + 1, every), steps}), "student_loss": 1.0})


def labels_of(run: EvaluatedRun) -> tuple[np.ndarray, str]:
    """The data set's own labels."""
    return np.tile(LABELS, (len(run.seeds), 1)), "test"


def training_hash_of(settings: dict[str, Any], seeds: Sequence[int]) -> str:
    """Stands for the hash of these seeds' training data."""
    return f"train-{','.join(map(str, seeds))}"


def rebuilt(runs: Sequence[EvaluatedRun]) -> Scores:
    """Scores of run folders that were planned as they are."""
    planned = training_hash_of({}, sorted(seed for run in runs for seed in run.seeds))
    return rebuild(
        [replace(run, config=run.config | {"data_hash": planned}) for run in runs], labels_of, training_hash_of
    )


def folders(name: str, correct: Sequence[int], method: dict[str, Any], **changes: Any) -> list[EvaluatedRun]:
    """One folder for each seed 0, 1, ... with so many right classes of 1,000."""
    return [folder(name, seed, right, config(method, **changes)) for seed, right in enumerate(correct)]


def scores(name: str, correct: Sequence[int], method: dict[str, Any], **changes: Any) -> dict[str, Scores]:
    """Their scores, by name."""
    return {name: rebuilt(folders(name, correct, method, **changes))}


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


HIGH, LOW = [951, 955, 949, 953, 957], [901, 903, 902, 906, 899]


def with_predictions(run: EvaluatedRun, classes: np.ndarray, consistent: bool) -> EvaluatedRun:
    """Other predictions, with or without a hash to match."""
    found = run.predictions | {"student": classes}
    hashed = {"predictions_hash": predictions_hash(found)} if consistent else {}
    return replace(run, predictions=found, data=run.data | hashed)


def shuffled(run: EvaluatedRun) -> EvaluatedRun:
    """The right number of each class, in a wrong order."""
    classes = np.random.default_rng(5).permutation(run.predictions["student"][0])
    return with_predictions(run, classes[None], consistent=False)

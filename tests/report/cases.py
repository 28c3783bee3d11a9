"""Tiny records made up, of real comparisons: four seeds, 200 test examples, accuracies to add up by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from repro.config import as_mapping, read_config
from repro.report.record import Record
from repro.results import Run
from repro.verify.claims import Claim, Verdict, read_claims
from repro.verify.evidence import Scores
from repro.verify.rules import judge

ROOT = Path(__file__).parents[2]
CLAIMS = read_claims(ROOT / "experiments/claims.yaml")
N = 200
STEPS = np.array([0, 10, 20])

ACCURACY: dict[str, dict[str, list[float]]] = {  # run -> network -> % of each seed; all of them k/200
    "digits_supervised": {"teacher": [80, 82, 84, 86]},
    "digits_uda": {"teacher": [90, 91, 92, 93]},
    "digits_mpl_no_feedback": {
        "teacher": [90, 91, 92, 93],
        "student": [88, 88, 90, 90],
        "student_finetuned": [88, 89, 90, 91],
    },
    "digits_mpl": {"teacher": [90, 91, 92, 93], "student": [89, 88, 90, 93], "student_finetuned": [91, 90, 92, 95]},
}
WRONG = {"digits_mpl_no_feedback": [12, 10, 11, 7], "digits_mpl": [10, 9, 11, 6]}
"""Pseudo labels that are wrong at the end, % of each seed."""


def config(run: str, network: str = "student", **changes: Any) -> dict[str, Any]:
    """Resolved settings; those that are not changed decide nothing here."""
    method: dict[str, Any] = {"name": run.rsplit("_", maxsplit=1)[-1]}
    if method["name"] not in {"supervised", "uda"}:
        method = {"name": "mpl", "uda": {"weight": 1.0}, "feedback": "none" if "no_feedback" in run else "cosine"}
    found: dict[str, Any] = {
        "method": method,
        "model": {"name": "small_conv"},
        "optim": {"average_decay": 0.98 if network.endswith("_average") else 0.0},
        "budget": {"steps": 20},
        "finetune": {},
        "recipe": {"name": "none"},
        "data": {"name": "digits"},
    }
    return as_mapping(read_config(found | changes))


def make_run(
    name: str,
    accuracy: Mapping[str, Sequence[float]],
    wrong: Sequence[float] = (),
    log: Mapping[str, Any] | None = None,
) -> Run:
    """Curves rise from 10 % over the end plus 2 to the end, so that choosing on the test set adds 2 points."""
    seeds = range(len(next(iter(accuracy.values()))))
    arrays: dict[str, np.ndarray] = {"curve.step": STEPS}
    for network, ends in accuracy.items():
        arrays[f"predictions.{network}"] = np.zeros((len(ends), N), np.uint8)
        arrays[f"curve.accuracy.{network}"] = np.array([[10, end + 2, end] for end in ends]) / 100
    if len(wrong):
        arrays["curve.pseudo_label_wrong"] = np.array([[90, 50, end] for end in wrong]) / 100
        arrays["curve.wrong_stays"] = np.array([[np.nan, end + 40, end + 60] for end in wrong]) / 100
    columns = {"group": [str(seed) for seed in seeds], "seconds": [10.0 + seed for seed in seeds],
               "device_name": "a CPU", "revision": "0123456789abcdef", "held_out_hash": "test"}  # fmt: skip
    table = pd.DataFrame(columns, index=pd.Index(seeds, name="seed"))
    metrics = pd.DataFrame({"seed": [str(seed) for seed in seeds], "step": 20} | dict(log or {}))
    return Run(name, config(name, next(reversed(accuracy))), table, metrics, arrays)


def make_scores(run: Run, counted: str, accuracy: Mapping[str, Sequence[float]], **changes: Any) -> Scores:
    """Scores of these accuracies in %."""
    shares = {network: {s: v / 100 for s, v in enumerate(values)} for network, values in accuracy.items()}
    values: dict[str, Any] = {
        "name": run.name, "config": run.config, "counted": counted, "accuracy": shares, "problems": [], "reduced": True,
        "departures": ["follows no published recipe"], "training_hash": {(seed,): "data" for seed in run.seeds.index},
    }  # fmt: skip
    return Scores(**values | changes)


def counted_of(accuracy: Mapping[str, Sequence[float]]) -> str:
    """The network that counts of those that are there."""
    order = ("student_average", "student", "teacher_average", "teacher")
    return next(network for network in order if network in accuracy)


def record(
    accuracy: Mapping[str, Mapping[str, Sequence[float]]] = ACCURACY,
    wrong: Mapping[str, Sequence[float]] = WRONG,
    logs: Mapping[str, Mapping[str, Any]] | None = None,
    verdicts: Mapping[str, Verdict] | None = None,
    claims: Sequence[Claim] = CLAIMS,
    **changes: Any,
) -> Record:
    """A record of these runs; claims are judged on it by the rules unless verdicts are given."""
    runs = {k: make_run(k, found, wrong.get(k, ()), (logs or {}).get(k)) for k, found in accuracy.items()}
    scores = {k: make_scores(run, counted_of(accuracy[k]), accuracy[k], **changes) for k, run in runs.items()}
    there = {claim.id: judge(claim, scores) for claim in claims if claim.runs and set(claim.runs) <= scores.keys()}
    judged = there if verdicts is None else dict(verdicts)  # a claim without a verdict has not run
    return Record(runs, scores, claims, judged)

"""Evidence made up and claims about it that the tests of the verdict share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from repro.config import as_mapping, expected_networks, read_config
from repro.results import Run, accuracies, in_top5, predictions_hash, seeds_table, with_record_hashes
from repro.verify.claims import Absolute, Claim, Ordering, SuccessRate, Verdict
from repro.verify.evidence import Scores, rebuild
from repro.verify.rules import judge

N = 1000
LABELS = np.random.default_rng(0).integers(0, 10, N)
MPL = {"name": "mpl"}
SUPERVISED = {"name": "supervised"}


def config(method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A resolved configuration that follows its recipe without departures; `changes` are dotted keys with __."""
    mapping: dict[str, Any] = {
        "data": {"name": "digits"}, "model": {"name": "small_conv"}, "method": dict(method), "optim": {}, "budget": {},
        "finetune": {}, "engine": {}, "recipe": {"name": "paper", "values": {"budget.steps": 1000}},
    }  # fmt: skip
    for key, value in changes.items():
        part, last = key.split("__")
        mapping[part][last] = value
    return as_mapping(read_config(mapping))


def predictions(correct: int, seed: int = 0) -> np.ndarray:
    """uint8 [N] with `correct` right classes, at places that depend on the seed."""
    classes = LABELS.copy()
    wrong = np.random.default_rng(seed + 1).permutation(N)[correct:]
    classes[wrong] = (classes[wrong] + 1) % 10
    return classes.astype(np.uint8)


def recorded(
    name: str, classes: np.ndarray, seeds: Sequence[int], settings: dict[str, Any],
    labels: np.ndarray = LABELS, top5: np.ndarray | None = None,
) -> Run:  # fmt: skip
    """A run as evaluation would record it, with the same predictions of each of its networks.

    Args:
        name: of the run.
        classes: [R, N].
        seeds: R of them, all that were planned.
        settings: resolved.
        labels: [N].
        top5: [R, N, 5] for more than ten classes.
    """
    networks = sorted(expected_networks(read_config(settings))[0])
    columns: dict[str, Any] = {"group": [str(seed) for seed in seeds]}
    columns |= {f"accuracy.{network}": accuracies(classes, labels[None]) for network in networks}
    arrays = {f"predictions.{network}": classes for network in networks}
    if top5 is not None:
        columns |= {f"top5.{network}": in_top5(top5, labels[None]).mean(axis=1) for network in networks}
        arrays |= {f"top5.{network}": top5 for network in networks}
    columns |= {"seconds": 1.5, "training_hash": [training_hash_of({}, [seed]) for seed in seeds],
                "held_out_hash": "test"}  # fmt: skip
    arrays |= {"curve.step": np.array([0, 1000]), "curve.accuracy.student": np.zeros((len(seeds), 2), np.float32)}
    arrays["curve.accuracy.student"][:, 1] = accuracies(classes, labels[None])
    steps, every = settings["budget"]["steps"], settings["budget"]["log_every"]
    logs = [pd.DataFrame({"seed": str(seed), "step": sorted({*range(every, steps + 1, every), steps}), "loss": 1.0})
            for seed in seeds]  # fmt: skip
    table = seeds_table(pd.DataFrame(columns, index=pd.Index(seeds, name="seed")))
    run = Run(name, planned(settings, seeds), table, pd.concat(logs, ignore_index=True), arrays)
    return hashed(run)


def planned(settings: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The settings, of a plan with these seeds."""
    return settings | {"data_hash": training_hash_of({}, sorted(seeds))}


def hashed(run: Run) -> Run:
    """The run with hashes that fit whatever it holds now: damage that no hash shows."""
    seeds = run.seeds.copy()
    for group in run.groups().values():
        found = {network: run.predictions(network)[run.rows(group)] for network in run.networks}
        seeds.loc[group, "predictions_hash"] = predictions_hash(found)
    return with_record_hashes(replace(run, seeds=seeds))


def cell(run: Run, column: str, value: Any, seed: int = 0) -> Run:
    """The run with another value in seeds.csv, hashes left."""
    seeds = run.seeds.copy()
    seeds.loc[seed, column] = value
    return replace(run, seeds=seeds)


def with_array(run: Run, name: str, values: np.ndarray, row: int | None = None) -> Run:
    """The run with other values in an array, or in the row of one seed, hashes left."""
    if row is not None:
        values = np.concatenate([run.arrays[name][:row], values[None], run.arrays[name][row + 1 :]])
    return replace(run, arrays=run.arrays | {name: values})


def without(run: Run, *names: str) -> Run:
    """The run without these columns of seeds.csv and these arrays, hashes left."""
    arrays = {name: array for name, array in run.arrays.items() if name not in names}
    return replace(run, seeds=run.seeds.drop(columns=list(names), errors="ignore"), arrays=arrays)


def run_of(name: str, correct: Sequence[int] | Mapping[int, int], settings: dict[str, Any]) -> Run:
    """A run with so many right classes of 1,000, for the seeds 0, 1, ... or those named."""
    right = correct if isinstance(correct, Mapping) else dict(enumerate(correct))
    return recorded(name, np.stack([predictions(n, seed) for seed, n in right.items()]), [*right], settings)


def labels_of(_: Run, seeds: Sequence[int]) -> tuple[np.ndarray, str]:
    """The data set's own labels."""
    return np.tile(LABELS, (len(seeds), 1)), "test"


def training_hash_of(_: dict[str, Any], seeds: Sequence[int]) -> str:
    """Stands for the hash of these seeds' training data."""
    return f"train-{','.join(map(str, seeds))}"


def rebuilt(run: Run) -> Scores:
    """Its scores."""
    return rebuild(run, labels_of, training_hash_of)


def scores(
    name: str, correct: Sequence[int] | Mapping[int, int], method: dict[str, Any], **changes: Any
) -> dict[str, Scores]:
    """The scores of a run with so many right classes of 1,000, by name."""
    return {name: rebuilt(run_of(name, correct, config(method, **changes)))}


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


BASE = scores("base", LOW, SUPERVISED)
"""What MPL is compared with."""

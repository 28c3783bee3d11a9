"""Computes every accuracy again, from stored predictions and the data's own labels, and refuses what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repro.config.departures import lookup
from repro.evaluate.run import EvaluatedRun
from repro.verify.claims import Measure
from repro.verify.completeness import TrainingHashOf, other_seeds
from repro.verify.fit import AGAIN, LabelsOf, checked_labels, unfit
from repro.verify.top5 import top5_not_as_stored, top5_of

LEFT_OPEN = "left open by the recipe"
_ALIKE = {"device_name": "devices", "torch": "versions of PyTorch", "source": "training code"}
"""What all seeds of a run should share, by its name in their environments."""


@dataclass(frozen=True)
class Scores:
    """All seeds of one run, recomputed. A seed that was refused is in `problems` and gives no number."""

    name: str
    config: dict[str, Any]  # resolved, the same for all seeds
    counted: str  # the network whose accuracy is the method's
    accuracy: dict[str, dict[int, float]]  # network -> seed -> share of the N test examples
    correct: dict[str, dict[int, np.ndarray]]  # network -> seed -> bool [N]
    departures: list[str]  # from the recipe, in words
    problems: list[str]  # what was refused and what to do
    reduced: bool  # not the recipe at full budget, so not fit to judge a number of the paper
    held_out: int  # N
    training_hash: dict[tuple[int, ...], str]  # seeds of a folder -> hash of its training data
    top5: dict[str, dict[int, float]] = field(default_factory=dict)  # as `accuracy`; empty up to 10 classes

    def measured(self, measure: Measure) -> dict[str, dict[int, float]]:
        """Network -> seed -> share of the test examples that this measure counts as right."""
        return self.top5 if measure is Measure.top5 else self.accuracy


def rebuild(runs: Sequence[EvaluatedRun], labels_of: LabelsOf, training_hash_of: TrainingHashOf) -> Scores:
    """Scores of all folders of one run name.

    Raises:
        ValueError: without any folder, or with folders of different runs.
    """
    if len({run.name for run in runs}) != 1:
        raise ValueError(f"runs = {[run.name for run in runs]}: wants one or more folders of one run")
    first = runs[0]
    accuracy: dict[str, dict[int, float]] = {network: {} for network in first.predictions}
    correct: dict[str, dict[int, np.ndarray]] = {network: {} for network in first.predictions}
    top5: dict[str, dict[int, float]] = {}
    twice = _twice(runs)
    problems = [f"{first.name}, seed {seed}: is there twice; remove the folder not of the plan" for seed in twice]
    problems += [] if twice or any(unfit(first)) else other_seeds(runs, training_hash_of)
    held_out = 0
    for run in runs:
        labels, refused = checked_labels(first, run, labels_of, training_hash_of)
        problems += refused
        if labels is None:
            continue
        held_out = labels.shape[1]
        for row, seed in enumerate(run.seeds):
            right = {network: classes[row] == labels[row] for network, classes in run.predictions.items()}
            right_of_5 = top5_of(run, row, labels[row])
            wrong = [*_not_as_stored(run, row, right)]
            wrong += [f"{run.name}, seed {seed}: {text}; {AGAIN}" for text in top5_not_as_stored(run, row, right_of_5)]
            problems += wrong
            for network, share in {} if wrong or seed in twice else right_of_5.items():
                top5.setdefault(network, {})[seed] = share
            for network, hits in {} if wrong or seed in twice else right.items():
                accuracy[network][seed] = int(hits.sum()) / hits.size
                correct[network][seed] = hits
    return Scores(
        name=first.name,
        config=first.config,
        counted=first.counted,
        accuracy=accuracy,
        correct=correct,
        departures=[*_besides(runs), *map(departure_in_words, first.departures)],
        problems=problems,
        reduced=any(_is_reduced(run) for run in runs),
        held_out=held_out,
        training_hash={tuple(run.seeds): str(run.data.get("training_hash")) for run in runs},
        top5=top5,
    )


def departure_in_words(departure: Mapping[str, Any]) -> str:
    """`budget.steps: 2000, prescribed 1000000`, or `data.noise: 0.1, left open by the recipe`."""
    rest = LEFT_OPEN if departure["open"] else f"prescribed {departure['prescribed']}"
    return f"{departure['key']}: {departure['here']}, {rest}"


def _besides(runs: Sequence[EvaluatedRun]) -> Iterator[str]:
    """What no list of settings shows: no recipe to depart from, or code that nobody else has."""
    seen = sorted({str(seeds) for run in runs for seeds in run.environment.get("seeds_before", [])})
    if seen:
        yield (f"recorded before with seeds {' and '.join(seen)}: intervals do not allow for a choice of seeds after a "
               "look at results")  # fmt: skip
    for key, what in _ALIKE.items():
        found = sorted({str(run.environment[key]) for run in runs if key in run.environment})
        if len(found) > 1:
            yield f"its seeds were trained by different {what}: {', '.join(one[:40] for one in found)}"
    if lookup(runs[0].config, "recipe.name") == "none":
        yield "follows no published recipe"
    unclean = {str(run.environment.get("revision"))[:10] for run in runs if run.environment.get("clean") is False}
    if unclean:
        yield f"trained by code with uncommitted changes, at revision {', '.join(sorted(unclean))}"


def _is_reduced(run: EvaluatedRun) -> bool:
    from_recipe = any(not departure["open"] for departure in run.departures)
    return bool(lookup(run.config, "budget.reduced")) or lookup(run.config, "recipe.name") == "none" or from_recipe


def _twice(runs: Sequence[EvaluatedRun]) -> list[int]:
    """Seeds counted twice: they would shrink every interval, and which is right is unknown."""
    counts = Counter(seed for run in runs for seed in run.seeds)
    return sorted(seed for seed, count in counts.items() if count > 1)


def _not_as_stored(run: EvaluatedRun, row: int, right: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Both are k/N, the same division, so they are equal exactly or one of them is wrong (NaN equals nothing)."""
    if run.accuracy.keys() != right.keys():
        yield f"{run.name}, seed {run.seeds[row]}: accuracies and predictions are of different networks; {AGAIN}"
        return
    for network, hits in right.items():
        stored = run.accuracy[network][row] if row < len(run.accuracy[network]) else float("nan")
        if stored != int(hits.sum()) / hits.size:
            yield (f"{run.name}, seed {run.seeds[row]}: {network} was stored with accuracy {stored}, "
                   f"its predictions give {int(hits.sum()) / hits.size}; {AGAIN}")  # fmt: skip

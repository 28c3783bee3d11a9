"""Computes every accuracy again, from stored predictions and the data's own labels, and refuses what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from repro.config.departures import departures, lookup
from repro.config.read import read_config
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify.completeness import TrainingHashOf, incomplete, other_data, other_seeds

LabelsOf = Callable[[EvaluatedRun], tuple[np.ndarray, str]]
"""The labels of the test examples, int64 [R, N], and the hash of the test data they belong to."""

LEFT_OPEN = "left open by the recipe"

_AGAIN = "take it back: git checkout -- results/runs, or train and evaluate a plan that has the run again"
_RUN_AGAIN = "run it again: make reproduce"


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
    twice = _twice(runs)
    problems = [f"{first.name}, seed {seed}: is there twice; remove the folder not of the plan" for seed in twice]
    problems += [] if twice or any(_unfit(first)) else other_seeds(runs, training_hash_of)
    held_out = 0
    for run in runs:
        labels, refused = _checked_labels(first, run, labels_of, training_hash_of)
        problems += refused
        if labels is None:
            continue
        held_out = labels.shape[1]
        for row, seed in enumerate(run.seeds):
            right = {network: classes[row] == labels[row] for network, classes in run.predictions.items()}
            wrong = [*_not_as_stored(run, row, right)]
            problems += wrong
            for network, hits in {} if wrong or seed in twice else right.items():
                accuracy[network][seed] = int(hits.sum()) / hits.size
                correct[network][seed] = hits
    return Scores(
        name=first.name,
        config=first.config,
        counted=first.counted,
        accuracy=accuracy,
        correct=correct,
        departures=[*map(departure_in_words, first.departures), *_besides(runs)],
        problems=problems,
        reduced=any(_is_reduced(run) for run in runs),
        held_out=held_out,
        training_hash={tuple(run.seeds): str(run.data.get("training_hash")) for run in runs},
    )


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any], path: str = "") -> list[str]:
    """Dotted keys in which two resolved configurations differ, present in one only included."""
    found = []
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differing_keys(a, b, f"{path}{key}.")
        elif a != b or (key in first) != (key in second):
            found.append(f"{path}{key}")
    return found


def departure_in_words(departure: Mapping[str, Any]) -> str:
    """`budget.steps: 2000, prescribed 1000000`, or `data.noise: 0.1, left open by the recipe`."""
    rest = LEFT_OPEN if departure["open"] else f"prescribed {departure['prescribed']}"
    return f"{departure['key']}: {departure['here']}, {rest}"


def _besides(runs: Sequence[EvaluatedRun]) -> Iterator[str]:
    """What no list of settings shows: no recipe to depart from, or code that nobody else has."""
    if lookup(runs[0].config, "recipe.name") == "none":
        yield "follows no published recipe"
    unclean = {str(run.environment.get("revision"))[:10] for run in runs if run.environment.get("clean") is False}
    if unclean:
        yield f"trained by code with uncommitted changes, at revision {', '.join(sorted(unclean))}"


def _is_reduced(run: EvaluatedRun) -> bool:
    from_recipe = any(not departure["open"] for departure in run.departures)
    return bool(lookup(run.config, "budget.reduced")) or lookup(run.config, "recipe.name") == "none" or from_recipe


def _where(run: EvaluatedRun) -> str:
    seeds = f"seed {run.seeds[0]}" if len(run.seeds) == 1 else f"seeds {run.seeds[0]} to {run.seeds[-1]}"
    return f"{run.name}, {seeds}"


def _twice(runs: Sequence[EvaluatedRun]) -> list[int]:
    """Seeds counted twice: they would shrink every interval, and which is right is unknown."""
    counts = Counter(seed for run in runs for seed in run.seeds)
    return sorted(seed for seed, count in counts.items() if count > 1)


def _checked_labels(
    first: EvaluatedRun, run: EvaluatedRun, labels_of: LabelsOf, training_hash_of: TrainingHashOf
) -> tuple[np.ndarray | None, list[str]]:
    """The labels of a folder that can be used, else None and why it cannot."""
    problems = [*_unlike(first, run)] or [*_unfit(run)]
    problems = problems or [f"{_where(run)}: {problem}; {_RUN_AGAIN}" for problem in other_data(run, training_hash_of)]
    if problems:
        return None, problems
    try:
        labels, held_out_hash = labels_of(run)
    except ValueError as error:
        return None, [f"{_where(run)}: the test labels cannot be had: {error}"]
    if held_out_hash != run.data.get("held_out_hash"):
        return None, [f"{_where(run)}: was evaluated on other test data than are here (hash differs); {_AGAIN}"]
    problems = [*_do_not_match(run, labels)]
    return (None if problems else labels), problems


def _unlike(first: EvaluatedRun, run: EvaluatedRun) -> Iterator[str]:
    keys = differing_keys(first.config, run.config)
    if keys:
        yield (f"{_where(run)}: its configuration differs from that of {_where(first)} in {', '.join(keys)}; "
               f"run both again from the same experiment: make reproduce")  # fmt: skip
    if run.counted != first.counted or run.predictions.keys() != first.predictions.keys():
        yield f"{_where(run)}: has or counts other networks than {_where(first)}; {_AGAIN}"


def _unfit(run: EvaluatedRun) -> Iterator[str]:
    """What can be seen without labels."""
    if run.data.get("predictions_hash") != predictions_hash(run.predictions):
        yield f"{_where(run)}: the predictions are not those that were evaluated (hash differs); {_AGAIN}"
    try:
        found = [asdict(departure) for departure in departures(read_config(run.config))]
    except (ValueError, KeyError) as error:
        yield f"{_where(run)}: the configuration cannot be read ({error}); run it again: make reproduce"
    else:
        if found != run.departures:
            yield f"{_where(run)}: the recorded departures are not those of its configuration; {_AGAIN}"
        yield from (f"{_where(run)}: {problem}; {_RUN_AGAIN}" for problem in incomplete(run))


def _do_not_match(run: EvaluatedRun, labels: np.ndarray) -> Iterator[str]:
    """Predictions that cannot be predictions for these labels."""
    for network, classes in run.predictions.items():
        if classes.shape != labels.shape or labels.size == 0 or len(run.seeds) != len(labels):
            yield (f"{_where(run)}: {network} has predictions {list(classes.shape)} for labels {list(labels.shape)} "
                   f"and {len(run.seeds)} seeds; {_AGAIN}")  # fmt: skip
        elif not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() > labels.max():
            yield f"{_where(run)}: {network} predicts classes outside 0 to {labels.max()}; {_AGAIN}"


def _not_as_stored(run: EvaluatedRun, row: int, right: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Both are k/N, the same division, so they are equal exactly or one of them is wrong (NaN equals nothing)."""
    if run.accuracy.keys() != right.keys():
        yield f"{run.name}, seed {run.seeds[row]}: accuracies and predictions are of different networks; {_AGAIN}"
        return
    for network, hits in right.items():
        stored = run.accuracy[network][row] if row < len(run.accuracy[network]) else float("nan")
        if stored != int(hits.sum()) / hits.size:
            yield (f"{run.name}, seed {run.seeds[row]}: {network} was stored with accuracy {stored}, "
                   f"its predictions give {int(hits.sum()) / hits.size}; {_AGAIN}")  # fmt: skip

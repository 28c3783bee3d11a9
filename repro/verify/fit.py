"""Can the predictions of a run folder be used at all? What does not fit is said with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from repro.config.departures import departures
from repro.config.read import EXECUTION, read_config
from repro.data.training import class_count
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.verify.completeness import TrainingHashOf, incomplete, other_data
from repro.verify.top5 import unfit_top5

LabelsOf = Callable[[EvaluatedRun], tuple[np.ndarray, str]]
"""The labels of the test examples, int64 [R, N], and the hash of the test data they belong to."""

AGAIN = "take it back: git checkout -- results/runs, or train and evaluate a plan that has the run again"
_RUN_AGAIN = "run it again: make reproduce"


def checked_labels(
    first: EvaluatedRun, run: EvaluatedRun, labels_of: LabelsOf, training_hash_of: TrainingHashOf
) -> tuple[np.ndarray | None, list[str]]:
    """The labels of a folder that can be used, else None and why it cannot."""
    problems = [*_unlike(first, run)] or [*unfit(run)]
    problems = problems or [f"{where(run)}: {problem}; {_RUN_AGAIN}" for problem in other_data(run, training_hash_of)]
    if problems:
        return None, problems
    try:
        labels, held_out_hash = labels_of(run)
    except ValueError as error:
        return None, [f"{where(run)}: the test labels cannot be had: {error}"]
    if held_out_hash != run.data.get("held_out_hash"):
        return None, [f"{where(run)}: was evaluated on other test data than are here (hash differs); {AGAIN}"]
    problems = [*_do_not_match(run, labels)]
    return (None if problems else labels), problems


def _unlike(first: EvaluatedRun, run: EvaluatedRun) -> Iterator[str]:
    keys = [key for key in differing_keys(first.config, run.config) if key not in EXECUTION]
    if keys:
        yield (f"{where(run)}: its configuration differs from that of {where(first)} in {', '.join(keys)}; "
               f"run both again from the same experiment: make reproduce")  # fmt: skip
    if run.counted != first.counted or run.predictions.keys() != first.predictions.keys():
        yield f"{where(run)}: has or counts other networks than {where(first)}; {AGAIN}"


def unfit(run: EvaluatedRun) -> Iterator[str]:
    """What can be seen without labels."""
    if run.data.get("predictions_hash") != predictions_hash(run.predictions):
        yield f"{where(run)}: the predictions are not those that were evaluated (hash differs); {AGAIN}"
    try:
        config = read_config(run.config)
        departures(config)  # refuses a recipe that speaks of no setting
    except (ValueError, KeyError) as error:
        yield f"{where(run)}: the configuration cannot be read ({error}); run it again: make reproduce"
    else:
        yield from (f"{where(run)}: {problem}; {_RUN_AGAIN}" for problem in incomplete(run))
        yield from (f"{where(run)}: {problem}; {AGAIN}" for problem in unfit_top5(run, class_count(config.data)))


def _do_not_match(run: EvaluatedRun, labels: np.ndarray) -> Iterator[str]:
    """Predictions that cannot be predictions for these labels."""
    count = class_count(read_config(run.config).data)
    for network, classes in run.predictions.items():
        if classes.shape != labels.shape or labels.size == 0 or len(run.seeds) != len(labels):
            yield (f"{where(run)}: {network} has predictions {list(classes.shape)} for labels {list(labels.shape)} "
                   f"and {len(run.seeds)} seeds; {AGAIN}")  # fmt: skip
        elif not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= count:
            yield f"{where(run)}: {network} predicts classes outside 0 to {count - 1}; {AGAIN}"


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


def where(run: EvaluatedRun) -> str:
    """Which folder, in words."""
    seeds = f"seed {run.seeds[0]}" if len(run.seeds) == 1 else f"seeds {run.seeds[0]} to {run.seeds[-1]}"
    return f"{run.name}, {seeds}"

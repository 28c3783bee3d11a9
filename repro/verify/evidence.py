"""Computes every accuracy again, from stored predictions and the data's own labels, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from repro.config import Config, Departure, departures, expected_networks, lookup, read_config
from repro.data import source_of
from repro.data.sets import fingerprint
from repro.evaluate.labels import labels_of
from repro.results import LABELS, TOP, Run, has_top5, in_top5, predictions_hash, record_hashes
from repro.verify.claims import Measure
from repro.verify.flags import flags
from repro.verify.statistics import in_percent

LabelsOf = Callable[[Run, Sequence[int]], tuple[np.ndarray, str]]
"""The labels of the test examples of some seeds, int64 [R, N], and the hash of the test data they belong to."""
TrainingHashOf = Callable[[Config, Sequence[int]], str | None]
"""The hash of the training data of these seeds under a configuration; None where the data are not here."""

LEFT_OPEN = "left open by the recipe"
AGAIN = "take it back: git checkout -- results/runs, or train and evaluate a plan that has the run again"
_RUN_AGAIN = "train and evaluate a plan that has it again: make reproduce PLAN=<plan>"
_ALIKE = {"device_name": "devices", "torch": "versions of PyTorch", "source": "training code"}
"""What all seeds of a run should share, by its column in seeds.csv."""


@dataclass(frozen=True)
class Scores:
    """All seeds of one run, recomputed. A seed that was refused is in `problems` and gives no number."""

    name: str
    config: dict[str, Any]  # resolved, the same for all seeds
    counted: str  # the network whose accuracy is the method's
    accuracy: dict[str, dict[int, float]]  # network -> seed -> share of the N test examples
    departures: list[str]  # from the recipe, in words
    problems: list[str]  # what was refused and what to do
    reduced: bool  # not the recipe at full budget, so not fit to judge a number of the paper
    training_hash: dict[tuple[int, ...], str]  # seeds trained together -> hash of their training data
    top5: dict[str, dict[int, float]] = field(default_factory=dict)  # as `accuracy`; empty up to 10 classes
    flags: list[str] = field(default_factory=list)  # what looks unlike a training
    finished: dict[int, str] = field(default_factory=dict)  # seed -> when, as its record says
    changed: bool = False  # whether a record is not what was written
    unchecked: str = ""  # what could not be held against anything here

    def measured(self, measure: Measure) -> dict[str, dict[int, float]]:
        """Network -> seed -> share of the test examples that this measure counts as right."""
        return self.top5 if measure is Measure.top5 else self.accuracy

    def percent(self, measure: Measure = Measure.accuracy, network: str | None = None) -> dict[int, float]:
        """Seed -> % of the test examples, of the network that counts or another; differences are points."""
        return in_percent(self.measured(measure).get(network or self.counted, {}))


def scores_of(runs: Mapping[str, Run], stored: Path = LABELS) -> dict[str, Scores]:
    """Every accuracy of all runs, recomputed from predictions and the data sets' own labels, or `stored` ones."""
    known: dict[str, tuple[np.ndarray, str]] = {}
    drawn: dict[str, dict[int, Sequence[Tensor]]] = {}  # by data set and split, what pins each seed's training data
    absent: set[str] = set()

    def labels(run: Run, seeds: Sequence[int]) -> tuple[np.ndarray, str]:
        key = str([run.config["data"], run.seeds.loc[seeds[0], "held_out_hash"], *seeds])
        if key not in known:
            known[key] = labels_of(run, seeds, stored)
        return known[key]

    def training(config: Config, seeds: Sequence[int]) -> str | None:
        source = source_of(config.data)
        key = str(source.split_settings())
        here = drawn.setdefault(key, {})
        if key not in absent and (new := [seed for seed in seeds if seed not in here]):
            try:
                here.update(zip(new, source.evidence_of(new), strict=True))
            except (ValueError, OSError):  # the data have to be at hand for it and are not
                if source.shipped:
                    raise
                absent.add(key)
        return None if key in absent else fingerprint(*(tensor for seed in seeds for tensor in here[seed]))

    return {name: rebuild(run, labels, training) for name, run in runs.items()}


def rebuild(run: Run, labels_of: LabelsOf, training_hash_of: TrainingHashOf) -> Scores:
    """The scores of a run, from what is recorded of it."""
    changed = [*_unfit(run)]
    hashes = run.seeds.groupby("group")["training_hash"].first().to_dict() if "training_hash" in run.seeds else {}
    finished = run.seeds.get("finished", pd.Series("", run.seeds.index))
    found = Scores(
        name=run.name,
        config=run.config,
        counted="",
        accuracy={network: {} for network in run.networks},
        departures=[*_besides(run)],
        problems=changed,
        reduced=True,
        training_hash={tuple(seeds): hashes[group] for group, seeds in run.groups().items() if group in hashes},
        finished={int(str(seed)): str(when) for seed, when in finished.items()},
        changed=bool(changed),
    )
    try:
        config = read_config(run.config)
        listed = departures(config)
    except (ValueError, KeyError, TypeError) as error:
        found.problems.append(f"{run.name}: the configuration cannot be read ({error}); {_RUN_AGAIN}")
        return found
    networks, counted = expected_networks(config)
    found.departures.extend(map(departure_in_words, listed))
    reduced = lookup(run.config, "budget.reduced") or lookup(run.config, "recipe.name") == "none"
    reduced = bool(reduced) or any(not departure.open for departure in listed)
    found = replace(found, counted=counted, reduced=reduced)
    if not changed:  # what was changed after it was written may hold anything
        classes = source_of(config.data).classes
        found.problems.extend(f"{run.name}: {one}; {_RUN_AGAIN}" for one in _incomplete(run, config, networks))
        found.problems.extend(f"{run.name}: {one}; {AGAIN}" for one in _unfit_top5(run, classes))
    if found.problems:
        return found
    found.problems.extend(_other_seeds(run, config, training_hash_of))
    correct: dict[str, dict[int, np.ndarray]] = {network: {} for network in run.networks}
    for seeds in run.groups().values():
        labels, refused = _checked_labels(run, config, seeds, labels_of, training_hash_of)
        found.problems.extend(refused)
        for seed, row in zip(seeds, labels, strict=True) if labels is not None else ():
            for network, hits in _count_right(found, run, seed, row).items():
                correct[network][seed] = hits
    here = training_hash_of(config, [int(str(run.seeds.index[0]))]) is not None
    unchecked = "" if here else f"the training data of {config.data.name}, which are not here"
    return replace(found, flags=flags(run, config, correct), unchecked=unchecked)


def _count_right(found: Scores, run: Run, seed: int, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Adds the accuracies of one seed, or says that they are not those stored, and gives none: network -> bool [N]."""
    place = run.rows([seed])[0]
    right = {network: run.predictions(network)[place] == labels for network in run.networks}
    among = {name.removeprefix("top5."): in_top5(array[place], labels)
             for name, array in run.arrays.items() if name.startswith("top5.")}  # fmt: skip
    accuracy, top5 = ({network: int(hits.sum()) / hits.size for network, hits in of.items()} for of in (right, among))
    wrong = [*_not_as_stored(run, seed, "accuracy", accuracy), *_not_as_stored(run, seed, "top5", top5)]
    found.problems.extend(wrong)
    if wrong:
        return {}
    for shares, into in ((accuracy, found.accuracy), (top5, found.top5)):
        for network, share in shares.items():
            into.setdefault(network, {})[seed] = share
    return right


def departure_in_words(departure: Departure) -> str:
    """`budget.steps: 2000, prescribed 1000000`, or `data.noise: 0.1, left open by the recipe`."""
    rest = LEFT_OPEN if departure.open else f"prescribed {departure.prescribed}"
    return f"{departure.key}: {departure.here}, {rest}"


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


def _unfit(run: Run) -> Iterator[str]:
    """What can be seen without labels and without reading the settings."""
    if run.seeds.index.duplicated().any():
        yield f"{run.name}: a seed is there twice; remove the one that is not of the plan"
        return
    needed = {"group", "training_hash", "held_out_hash", "predictions_hash", "record_hash"}
    if missing := sorted(needed - set(run.seeds.columns)):
        yield f"{run.name}: seeds.csv has no column {missing[0]}; {AGAIN}"
        return
    groups = run.groups()
    if others := sorted(set(run.metrics["seed"]) - groups.keys()):
        yield f"{run.name}: its log has rows of seed {others[0] or 'none'}, which is not recorded; {AGAIN}"
    hashes = record_hashes(run)
    for group, seeds in groups.items():
        rows, table = run.rows(seeds), run.seeds.loc[seeds]
        predicted = {network: run.predictions(network)[rows] for network in run.networks}
        if set(table["predictions_hash"]) != {predictions_hash(predicted)}:
            yield f"{_where(run, seeds)}: the predictions are not those that were evaluated (hash differs); {AGAIN}"
        elif set(table["record_hash"]) != {hashes[group]}:
            yield f"{_where(run, seeds)}: its record was changed after it was written (hash differs); {AGAIN}"


def _incomplete(run: Run, config: Config, networks: set[str]) -> Iterator[str]:
    """What a run lacks, or has that its configuration does not give."""
    if set(run.networks) != networks:
        yield f"has predictions of {_names(run.networks)}, but its configuration trains {_names(networks)}"
    stored = {name.removeprefix("accuracy.") for name in map(str, run.seeds) if name.startswith("accuracy.")}
    if stored != set(run.networks):
        yield f"has accuracies of {_names(stored)}, but predictions of {_names(run.networks)}"
    steps, every = config.budget.steps, config.budget.log_every
    for group in run.groups():
        log = run.metrics[run.metrics["seed"] == group]
        logged, count = log["step"].to_numpy(), -(-steps // every)
        if len(logged) != count or (logged != np.minimum(every * np.arange(1, count + 1), steps)).any():
            last = f"ends at step {logged[-1]:g}" if len(logged) else "is empty"
            yield f"{group}: its log {last} with {len(logged)} rows, where {steps} steps give {count}"
        elif not np.isfinite(log.drop(columns=["seed", "step"]).to_numpy(float)[-1]).any():
            yield f"{group}: its log has no number in its last row"


def _other_seeds(run: Run, config: Config, hash_of: TrainingHashOf) -> Iterator[str]:
    """Whether all planned seeds are there and no other: leaving out an unlucky one would be choosing by the result."""
    seeds = sorted(int(str(seed)) for seed in run.seeds.index)
    here, planned = ",".join(map(str, seeds)), run.config.get("planned_seeds")
    found = hash_of(config, seeds)
    other = found is not None and found != run.config.get("data_hash")
    if other or (planned and planned != here):
        planned_ones = f"the planned {planned}" if planned else "the planned ones (the hash of their data differs)"
        yield (f"{run.name}: its seeds {here} are not {planned_ones}: one is missing or was added; "
               f"{_RUN_AGAIN}")  # fmt: skip
    elif not planned and not source_of(config.data).told_by_seeds and not lookup(run.config, "budget.reduced"):
        yield f"{run.name}: does not say which seeds were planned; {_RUN_AGAIN}"


def _checked_labels(
    run: Run, config: Config, seeds: Sequence[int], labels_of: LabelsOf, training_hash_of: TrainingHashOf
) -> tuple[np.ndarray | None, list[str]]:
    """The labels of a group of seeds, if its predictions can be held against them; else None and why not."""
    table, where = run.seeds.loc[list(seeds)], _where(run, seeds)
    found = training_hash_of(config, seeds)
    if found is not None and {found} != set(table["training_hash"]):
        said = "was trained on other data or another split than its settings and seeds give (hash differs)"
        return None, [f"{where}: {said}; {_RUN_AGAIN}"]
    try:
        labels, held_out_hash = labels_of(run, seeds)
    except (ValueError, OSError) as error:
        return None, [f"{where}: the test labels cannot be had: {error}"]
    if {held_out_hash} != set(table["held_out_hash"]):
        return None, [f"{where}: was evaluated on other test data than are here (hash differs); {AGAIN}"]
    problems = []
    count = source_of(config.data).classes
    for network in run.networks:
        classes = run.predictions(network)[run.rows(seeds)]
        if classes.shape != labels.shape or labels.size == 0:
            problems.append(f"{where}: {network} has predictions {list(classes.shape)} for labels "
                            f"{list(labels.shape)}; {AGAIN}")  # fmt: skip
        elif not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= count:
            problems.append(f"{where}: {network} predicts classes outside 0 to {count - 1}; {AGAIN}")
    return (None if problems else labels), problems


def _unfit_top5(run: Run, classes: int) -> Iterator[str]:
    """What is wrong with the five likeliest of so many classes, as can be seen without labels."""
    ranked = {name.removeprefix("top5."): array for name, array in run.arrays.items() if name.startswith("top5.")}
    if not has_top5(classes) and not ranked:
        return
    if ranked.keys() != set(run.networks):
        yield "has the five likeliest classes of other networks than it has predictions of"
        return
    for network, likeliest in ranked.items():
        predicted = run.predictions(network)
        if likeliest.shape != (*predicted.shape, TOP) or likeliest.dtype != predicted.dtype:
            yield (f"{network} has likeliest classes {likeliest.dtype} {list(likeliest.shape)} for predictions "
                   f"{predicted.dtype} {list(predicted.shape)}")  # fmt: skip
        elif not np.array_equal(likeliest[..., 0], predicted):
            yield f"{network} predicts another class than the first of the five likeliest"
        elif (np.diff(np.sort(likeliest, axis=-1).astype(np.int64), axis=-1) == 0).any():
            yield f"{network} has a class twice among the five likeliest of an example"


def _not_as_stored(run: Run, seed: int, measure: str, shares: Mapping[str, float]) -> Iterator[str]:
    """Both are k/N, the same division, so they are equal exactly or one of them is wrong (NaN equals nothing)."""
    for network, share in shares.items():
        column = f"{measure}.{network}"
        stored = float(run.seeds.loc[seed, column]) if column in run.seeds else float("nan")  # type: ignore[arg-type]
        if stored != share:
            yield (f"{run.name}, seed {seed}: {network} was stored with {measure} {stored}, its predictions give "
                   f"{share}; {AGAIN}")  # fmt: skip


def _besides(run: Run) -> Iterator[str]:
    """What no list of settings shows: seeds chosen, mixed devices, no recipe to depart from, code nobody else has."""

    def values(column: str) -> list[str]:
        return sorted({str(value) for value in run.seeds[column] if value != ""}) if column in run.seeds else []

    if seen := values("seeds_before"):
        yield (f"recorded before with seeds {' and '.join(seen)}: intervals do not allow for a choice of seeds after a "
               "look at results")  # fmt: skip
    for key, what in _ALIKE.items():
        found = values(key)
        if len(found) > 1:
            yield f"its seeds were trained by different {what}: {', '.join(one[:40] for one in found)}"
    if lookup(run.config, "recipe.name") == "none":
        yield "follows no published recipe"
    if "clean" in run.seeds and (unclean := run.seeds[run.seeds["clean"] == "False"]["revision"]).size:
        yield f"trained by code with uncommitted changes, at revision {', '.join(sorted({r[:10] for r in unclean}))}"


def _where(run: Run, seeds: Sequence[int]) -> str:
    return f"{run.name}, seed{f's {seeds[0]} to {seeds[-1]}' if len(seeds) > 1 else f' {seeds[0]}'}"


def _names(networks: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(networks)) or "nothing"

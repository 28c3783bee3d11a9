"""Is a run folder whole, and is it what was planned? Seeds, networks and log, against its own configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from repro.config.departures import lookup
from repro.evaluate.run import EvaluatedRun
from repro.seeding import seeds_listed

TrainingHashOf = Callable[[dict[str, Any], Sequence[int]], str | None]
"""The hash of the training data of these seeds under a configuration; None where the data are not here."""

ROLES = {
    "supervised": ("teacher",),
    "uda": ("teacher",),
    "fixmatch": ("teacher",),
    "pseudo_label": ("teacher", "student"),
    "mpl": ("teacher", "student"),
}
"""The networks of each method; the last one counts."""


def expected_networks(config: dict[str, Any]) -> tuple[set[str], str]:
    """The networks that a run of this configuration leaves, and the one whose accuracy is the method's."""
    roles = ROLES[str(lookup(config, "method.name"))]
    averaged = bool(lookup(config, "optim.average_decay"))
    networks = {*roles, *(f"{role}_average" for role in roles if averaged)}
    if lookup(config, "finetune.steps"):
        networks.add(f"{roles[-1]}_finetuned")
    return networks, f"{roles[-1]}_average" if averaged else roles[-1]


def incomplete(run: EvaluatedRun) -> Iterator[str]:
    """What a folder lacks, or has that its configuration does not give."""
    networks, counted = expected_networks(run.config)
    if run.predictions.keys() != networks:
        yield f"has predictions of {_names(run.predictions)}, but its configuration trains {_names(networks)}"
    if run.counted != counted:
        yield f"counts the network {run.counted!r}, but by its configuration {counted!r} counts"
    steps, every = int(run.config["budget"]["steps"]), int(run.config["budget"]["log_every"])
    wanted = sorted({*range(every, steps + 1, every), steps})
    logged = run.metrics["step"].tolist() if "step" in run.metrics else []
    if logged != wanted:
        last = f"ends at step {logged[-1]:g}" if logged else "is empty"
        yield f"its log {last} with {len(logged)} rows, where {steps} steps give {len(wanted)}"
    elif not np.isfinite(run.metrics.drop(columns="step").to_numpy(float)[-1]).any():
        yield "its log has no number in its last row"


def other_data(run: EvaluatedRun, hash_of: TrainingHashOf) -> Iterator[str]:
    """Whether a folder was trained on the data that its settings and seeds give."""
    found = hash_of(run.config, run.seeds)
    if found is not None and found != run.data.get("training_hash"):
        yield "was trained on other data or another split than its settings and seeds give (hash differs)"


def other_seeds(runs: Sequence[EvaluatedRun], hash_of: TrainingHashOf) -> Iterator[str]:
    """Whether all planned seeds are there and no other: leaving out an unlucky one would be choosing by the result."""
    config, seeds = runs[0].config, sorted(seed for run in runs for seed in run.seeds)
    here, planned = seeds_listed(seeds), config.get("planned_seeds")
    found = hash_of(config, seeds)
    other = found is not None and found != config.get("data_hash")
    if other or (planned and planned != here):
        planned_ones = f"the planned {planned}" if planned else "the planned ones (the hash of their data differs)"
        yield (f"{runs[0].name}: its seeds {here} are not {planned_ones}: one is missing or was added; run all again: "
               "make reproduce")  # fmt: skip
    elif not planned and lookup(config, "data.name") in _NAME_SEEDS and not lookup(config, "budget.reduced"):
        yield f"{runs[0].name}: does not say which seeds were planned; run it again: make reproduce"


_NAME_SEEDS = {"cifar10", "svhn"}
"""Data sets whose hashes do not tell which seeds were planned: every split is alike."""


def _names(networks: Mapping[str, object] | set[str]) -> str:
    return ", ".join(sorted(networks)) or "nothing"

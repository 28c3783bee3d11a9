"""Trained networks kept with the results in half precision, and their test accuracy computed again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from repro.config import expected_networks, read_config
from repro.data import source_of
from repro.engine.device import free_processors, set_up_process
from repro.evaluate.evaluate import trained
from repro.evaluate.predict import Score, halved, score, weights_hash
from repro.files import write_whole
from repro.results import RUNS, Run, read_record, read_run
from repro.train.checkpoint import Result

WEIGHTS = Path("results/weights")
_FORMAT = "repro-weights-1"


@dataclass(frozen=True)
class KeptWeights:
    """One network of one seed of a run, as the file holds it."""

    run: str
    seed: int
    network: str  # one of `Run.networks`
    config: dict[str, Any]  # resolved settings of its training
    revision: str  # of the code that trained it
    weights: dict[str, Tensor]  # float32, though of half the precision

    @property
    def file_name(self) -> str:
        """Under which it is kept."""
        return f"{self.run}-seed-{self.seed}-{self.network}.safetensors"


def write_weights(kept: KeptWeights, root: Path = WEIGHTS) -> Path:
    """Writes the file, whole or not at all; a weight beyond float16's largest number, 65,504, is refused."""
    halves = halved(kept.weights)
    lost = [name for name, value in halves.items() if value.is_floating_point() and not value.isfinite().all()]
    if lost:
        raise ValueError(f"{kept.run}, seed {kept.seed}: {lost[0]} of {kept.network} is not finite in half precision")
    told = {"format": _FORMAT, "run": kept.run, "seed": str(kept.seed), "network": kept.network,
            "config": json.dumps(kept.config), "revision": kept.revision}  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    write_whole(root / kept.file_name, save(halves, told))
    return root / kept.file_name


def read_weights(path: Path) -> KeptWeights:
    """What `write_weights` wrote, as float32; a RecordError when it is missing or not such a file."""

    def parse(content: bytes) -> KeptWeights:
        with safe_open(path, "pt") as file:
            told = file.metadata()
        if told["format"] != _FORMAT:
            raise ValueError(told["format"])
        return KeptWeights(
            told["run"], int(told["seed"]), told["network"], json.loads(told["config"]), told["revision"],
            {name: value.float() if value.dtype == torch.float16 else value for name, value in load(content).items()},
        )  # fmt: skip

    found: KeptWeights = read_record(path, parse, f"take it back: git checkout -- {path}, or export the run again")
    return found


def held_against_records(root: Path, runs: Mapping[str, Run]) -> tuple[list[str], list[str]]:
    """What is wrong with the files of a folder, and which of them no record can be held against, a sentence each."""
    wrong, unchecked = [], []
    for path in sorted(root.glob("*.safetensors")):
        kept = read_weights(path)
        recorded = runs[kept.run].seeds if kept.run in runs else None
        if recorded is None or kept.seed not in recorded.index:
            wrong.append(f"{path}: no seed {kept.seed} of {kept.run} is recorded; remove it, or record that run")
            continue
        said = recorded.get(f"weights_hash.{kept.network}", recorded["group"].map(lambda _: "")).loc[kept.seed]
        if not said:
            unchecked.append(f"{path}, whose record is older than hashes of weights; its accuracy is checked by: "
                             f"repro recompute {path}")  # fmt: skip
        elif said != weights_hash(kept.weights):
            wrong.append(f"{path}: its weights are not those that were recorded (hash differs); "
                         f"take it back: git checkout -- {path}, or export the run again")  # fmt: skip
    return wrong, unchecked


def export(arguments: argparse.Namespace) -> None:
    """Reads, halves, writes."""
    set_up_process()
    with trained(arguments.run) as results:
        kept = _kept(arguments.run, results, arguments.seed, arguments.network)
    path = write_weights(kept)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; its accuracy: repro recompute {path}")


def _kept(name: str, results: list[Result], seed: int, network: str | None) -> KeptWeights:
    seeds = [seed for result in results for seed in result.seeds]
    if seed not in seeds:
        raise ValueError(f"{name} has no seed {seed}; --seed takes one of {', '.join(map(str, seeds))}")
    result = next(result for result in results if seed in result.seeds)
    if result.stacked:
        raise ValueError(f"{name}: its seeds are one stacked model; only networks trained one by one can be kept")
    networks = result.networks()
    wanted = network or expected_networks(read_config(result.config))[1]
    if wanted not in networks:
        raise ValueError(f"{name} has no network {wanted}; --network takes one of {', '.join(sorted(networks))}")
    revision = str(result.environment["revision"])
    return KeptWeights(name, seed, wanted, result.config, revision, networks[wanted])


_ENOUGH = 0.99  # of the predictions


def recompute(arguments: argparse.Namespace) -> int:
    """One line for each file."""
    set_up_process(free_processors())
    differ = 0
    for path in arguments.files:
        kept = read_weights(path)
        config = read_config(kept.config)
        source_of(config.data).prepare()
        found = score(config, kept.seed, kept.weights)
        if found is None:
            raise ValueError(f"{kept.run} has no test images, so nothing can be computed again")
        share = _as_recorded(kept, found)
        differ += share < _ENOUGH
        print(
            f"{kept.run} seed {kept.seed}, {kept.network}: {100 * found.right / found.images:.2f} % of "
            f"{found.images:,} test images; {100 * share:.2f} % of the predictions as recorded",
            flush=True,
        )
    if differ:
        print("Other predictions than recorded: of another training; export and evaluate the same one", file=sys.stderr)
    return 1 if differ else 0


def _as_recorded(kept: KeptWeights, found: Score) -> float:
    """The share of the predictions that are those of the run's record."""
    recorded = read_run(RUNS / kept.run)
    if kept.network not in recorded.networks or kept.seed not in recorded.seeds.index:
        raise ValueError(
            f"the record of {kept.run} has no network {kept.network} of seed {kept.seed}; evaluate it again"
        )
    (row,) = recorded.rows([kept.seed])
    return float(np.mean(recorded.predictions(kept.network)[row] == found.classes))

"""What a finished training leaves behind for evaluation, in artifacts/runs/<run>/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.seeding import seeds_label
from repro.train.storage import load, save

Networks = dict[str, dict[str, Tensor]]
"""Network name to its weights."""


@dataclass(frozen=True)
class Result:
    """One trained run, or several stacked."""

    config: dict[str, Any]
    seeds: list[int]
    stacked: bool
    counted: str  # the network whose accuracy is the method's
    environment: dict[str, Any]
    rows: list[dict[str, float]]  # metrics.csv
    snapshots: list[dict[str, Any]]  # {"step": int, "networks": Networks}, the last one is the final state
    late: list[dict[str, Any]]  # {"step": int, "weights": of the counted network}, the last ones of training
    finetuned: dict[str, Tensor]  # empty without finetuning


def save_result(folder: Path, result: Result) -> None:
    """Writes `folder/<seeds>.pt`."""
    save(folder / f"{seeds_label(result.seeds)}.pt", vars(result))


def load_results(folder: Path) -> list[Result]:
    """All results of a run.

    Raises:
        FileNotFoundError: when there is none.
    """
    paths = sorted(folder.glob("seed*.pt"), key=lambda path: int(path.stem.split("-")[1]))
    if not paths:
        raise FileNotFoundError(f"no trained weights in {folder}; train them with: dvc repro train@{folder.name}")
    return [Result(**load(path)) for path in paths]

"""results/weights/<run>-seed-<n>-<network>.safetensors: a trained network, small enough to be kept with the results.

Matrices and kernels are float16. What has one number a channel stays float32: a variance may be below float16's least.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from repro.files import write_whole
from repro.records.runs import read_record

WEIGHTS = Path("results/weights")
_FORMAT = "repro-weights-1"


@dataclass(frozen=True)
class KeptWeights:
    """One network of one seed of a run, as the file holds it."""

    run: str
    seed: int
    network: str  # a key of `EvaluatedRun.predictions`
    config: dict[str, Any]  # resolved settings of its training
    revision: str  # of the code that trained it
    weights: dict[str, Tensor]  # float32, though of half the precision

    @property
    def file_name(self) -> str:
        """Under which it is kept."""
        return f"{self.run}-seed-{self.seed}-{self.network}.safetensors"


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds of these weights: float16 where there are two dimensions or more."""
    return {
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for name, value in weights.items()
    }


def write_weights(kept: KeptWeights, root: Path = WEIGHTS) -> Path:
    """Writes the file, whole or not at all.

    Raises:
        ValueError: when a weight is not finite in float16, whose largest number is 65,504.
    """
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
    """What `write_weights` wrote, as float32.

    Raises:
        RecordError: when it is missing or not such a file.
    """

    def parse(content: bytes) -> KeptWeights:
        with safe_open(path, "pt") as file:
            told = file.metadata()
        if told["format"] != _FORMAT:
            raise ValueError(told["format"])
        return KeptWeights(
            told["run"], int(told["seed"]), told["network"], json.loads(told["config"]), told["revision"],
            {name: value.float() if value.dtype == torch.float16 else value for name, value in load(content).items()},
        )  # fmt: skip

    return read_record(path, parse, f"take it back: git checkout -- {path}, or export the run again")

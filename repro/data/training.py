"""Opens the training part of a data set. This module cannot reach test data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repro.config.data import Data, DigitsData, TwoMoonsData
from repro.data import digits, two_moons
from repro.data.sets import Seeds, TrainingSet, class_counts, fingerprint

CLASSES = {"two_moons": two_moons.CLASSES, "digits": digits.CLASSES}


def training_set(config: Data, seeds: Seeds) -> TrainingSet:
    """The training data of one seed, or of several seeds stacked (two moons only)."""
    if isinstance(config, TwoMoonsData):
        return two_moons.training_set(config, seeds)
    if not isinstance(seeds, int):
        raise ValueError(f"data.name = {config.name}: cannot be stacked over seeds {seeds}; set budget.stack to 1")
    return digits.training_set(config, seeds)


def training_hash(config: Data, seeds: Sequence[int]) -> str:
    """SHA-256 over the training data and split of every seed, in order."""
    return fingerprint(*(tensor for seed in seeds for tensor in vars(training_set(config, seed)).values()))


def prepare(config: Data, folder: Path) -> None:
    """Puts what training needs under `folder`, once; the two moons are drawn as needed and need nothing."""
    if isinstance(config, DigitsData):
        images, labels = digits.load()
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "digits.npz", images=images.numpy(), labels=labels.numpy())


def describe_split(config: Data, seeds: Sequence[int]) -> str:
    """The split of every seed as JSON: indices of the labelled examples, class counts, hash."""
    splits: dict[str, Any] = {}
    for seed in seeds:
        data = training_set(config, seed)
        splits[str(seed)] = {
            "labelled_indices": data.labelled_indices.tolist(),
            "labelled_class_counts": class_counts(data.labels, CLASSES[config.name]),
            "unlabelled": data.unlabelled.shape[0],
            "sha256": fingerprint(data.labelled_indices, data.unlabelled_indices),
        }
    return json.dumps({"data": vars(config), "seeds": splits}, indent=1, default=str)

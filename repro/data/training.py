"""Opens the training part of a data set. This module cannot reach test data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from repro.config.data import Cifar10Data, Data, DigitsData, TwoMoonsData
from repro.data import cifar10, cifar10_files, digits, two_moons
from repro.data.sets import Seeds, TrainingSet, class_counts, fingerprint, in_runs
from repro.files import readable_json, write_whole

CLASSES = {"two_moons": two_moons.CLASSES, "digits": digits.CLASSES, "cifar10": cifar10.CLASSES}


def training_set(config: Data, seeds: Seeds) -> TrainingSet:
    """The training data of one seed, or of several seeds stacked (two moons only)."""
    if isinstance(config, TwoMoonsData):
        return two_moons.training_set(config, seeds)
    if not isinstance(seeds, int):
        raise ValueError(f"data.name = {config.name}: cannot be stacked over seeds {seeds}; set budget.stack to 1")
    return digits.training_set(config, seeds) if isinstance(config, DigitsData) else cifar10.training_set(config, seeds)


def training_hash(config: Data, seeds: Sequence[int]) -> str:
    """SHA-256 over the training data and split of every seed, in order; views and `data.root` do not enter."""
    return fingerprint(*(tensor for seed in seeds for tensor in _evidence(config, seed)))


def _evidence(config: Data, seed: int) -> Sequence[Tensor]:
    """What pins a training set; CIFAR-10's images are hashed once, not for each seed."""
    if isinstance(config, Cifar10Data):
        return cifar10.evidence(config, seed)
    return list(vars(training_set(config, seed)).values())


def prepare(config: Data, folder: Path) -> None:
    """Puts what training needs under `folder`, once; the two moons are drawn as needed and need nothing.

    Raises:
        ValueError: when CIFAR-10 is neither under `data.root` nor can be downloaded, or is not the published one.
    """
    if isinstance(config, DigitsData):
        images, labels = digits.load()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images.numpy(), labels=labels.numpy())
        write_whole(folder / "digits.npz", buffer.getvalue())
    elif isinstance(config, Cifar10Data):
        cifar10_files.place(Path(config.root).expanduser(), folder / "cifar10")


def split_settings(config: Data) -> dict[str, Any]:
    """The settings that decide data and split: all but how images are viewed and where their files came from."""
    return {key: value for key, value in vars(config).items() if key not in {"views", "root"}}


def describe_split(config: Data, seeds: Sequence[int]) -> str:
    """The split of every seed as JSON: indices (consecutive ones as "first-last"), class counts, hash."""
    splits: dict[str, Any] = {}
    for seed in seeds:
        data = training_set(config, seed)
        splits[str(seed)] = {
            "labelled_class_counts": class_counts(data.labels, CLASSES[config.name]),
            "labelled_indices": in_runs(data.labelled_indices),
            "unlabelled": data.unlabelled.shape[0],
            "unlabelled_class_counts": class_counts(data.hidden_labels, CLASSES[config.name]),
            "unlabelled_indices": in_runs(data.unlabelled_indices),
            "sha256": fingerprint(data.labelled_indices, data.unlabelled_indices),
        }
    return readable_json({"data": split_settings(config), "seeds": splits})

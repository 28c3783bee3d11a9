"""Opens the training part of a data set. This module cannot reach test data."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from repro.config.data import Data, FolderData, SvhnData, TwoMoonsData
from repro.data import (
    cifar10,
    cifar10_files,
    digits,
    folder,
    folder_prepare,
    svhn,
    svhn_arrays,
    svhn_files,
    two_moons,
)
from repro.data.sets import Seeds, TrainingSet, class_counts, fingerprint, in_runs
from repro.files import readable_json, write_whole

_CLASSES = {"two_moons": two_moons.CLASSES, "digits": digits.CLASSES, "cifar10": cifar10.CLASSES,
            "svhn": svhn.CLASSES}  # fmt: skip

_BY_SEED: dict[str, Callable[[Any, int], TrainingSet]] = {
    "two_moons": two_moons.training_set,
    "digits": digits.training_set,
    "cifar10": cifar10.training_set,
    "svhn": svhn.training_set,
    "folder": folder.training_set,
}

_EVIDENCE: dict[str, Callable[[Any, int], Sequence[Tensor]]] = {
    "cifar10": cifar10.evidence,
    "svhn": svhn.evidence,
    "folder": folder.evidence,
}
"""What pins a training set without all its images, which are then hashed once and not for each seed."""


def class_count(config: Data) -> int:
    """K."""
    return config.classes if isinstance(config, FolderData) else _CLASSES[config.name]


def training_set(config: Data, seeds: Seeds) -> TrainingSet:
    """The training data of one seed, or of several seeds stacked (two moons only)."""
    if isinstance(config, TwoMoonsData):
        return two_moons.training_set(config, seeds)
    if not isinstance(seeds, int):
        raise ValueError(f"data.name = {config.name}: cannot be stacked over seeds {seeds}; set budget.stack to 1")
    return _BY_SEED[config.name](config, seeds)


def training_hash(config: Data, seeds: Sequence[int]) -> str:
    """SHA-256 over the training data and split of every seed, in order; views and `data.root` do not enter."""
    return fingerprint(*(tensor for seed in seeds for tensor in _evidence(config, seed)))


def _evidence(config: Data, seed: int) -> Sequence[Tensor]:
    if config.name in _EVIDENCE:
        return _EVIDENCE[config.name](config, seed)
    return list(vars(training_set(config, seed)).values())


def source(config: Data) -> tuple[str, ...]:
    """What `prepare` prepares: settings with the same source need it once."""
    if isinstance(config, SvhnData):
        return (config.name, *svhn.files(config))
    return (
        (config.name, config.root, config.train, config.test, config.labelled)
        if isinstance(config, FolderData)
        else (config.name,)
    )


def prepare(config: Data, place: Path) -> None:
    """Puts what training needs under `place`, once; the two moons are drawn as needed and need nothing.

    Raises:
        ValueError: when data are neither under `data.root` nor can be downloaded, or are not the published ones.
    """
    if config.name in _PREPARE:
        _PREPARE[config.name](config, place)


def settled(config: Data) -> Data:
    """The same settings, with what only prepared data can tell: how many classes and labels a folder has.

    Raises:
        ValueError: when the settings ask for other classes or more labels than there are.
    """
    return folder.settled(config) if isinstance(config, FolderData) else config


def _digits(config: Data, place: Path) -> None:
    images, labels = digits.load()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.numpy(), labels=labels.numpy())
    write_whole(place / "digits.npz", buffer.getvalue())


def _cifar10(config: Any, place: Path) -> None:
    cifar10_files.place(Path(config.root).expanduser(), place / "cifar10")


def _svhn(config: Any, place: Path) -> None:
    root = Path(config.root).expanduser()
    svhn_files.place_test(root, place / "svhn")
    svhn_arrays.place_training(root, place / "svhn", svhn.files(config))


_PREPARE: dict[str, Callable[[Any, Path], None]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "svhn": _svhn,
    "folder": folder_prepare.prepare,
}


def split_settings(config: Data) -> dict[str, Any]:
    """The settings that decide data and split: all but how images are viewed and where their files came from."""
    return {key: value for key, value in vars(config).items() if key not in {"views", "root"}}


def describe_split(config: Data, seeds: Sequence[int]) -> str:
    """The split of every seed as JSON: indices (consecutive ones as "first-last"), class counts, hash."""
    splits: dict[str, Any] = {}
    for seed in seeds:
        data = training_set(config, seed)
        splits[str(seed)] = {
            "labelled_class_counts": class_counts(data.labels, class_count(config)),
            "labelled_indices": in_runs(data.labelled_indices),
            "unlabelled": len(data.unlabelled),
            "unlabelled_class_counts": class_counts(data.hidden_labels, class_count(config)),
            "unlabelled_indices": in_runs(data.unlabelled_indices),
            "sha256": fingerprint(data.labelled_indices, data.unlabelled_indices),
        }
    return readable_json({"data": split_settings(config), "seeds": splits})

"""CIFAR-10's 50,000 training images and how they are split into labelled and unlabelled ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from repro.config.data import Cifar10Data, Split
from repro.data.balanced import balanced
from repro.data.cifar10_batch import REMEDY
from repro.data.cifar10_files import FOLDER, TRAINING, read_batch
from repro.data.content import check_class_counts
from repro.data.sets import TrainingSet

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = len(CLASS_NAMES)
IMAGES = 50_000
"""In the training files."""
SHA256 = "6c49b531d8e0756213cfb6f00def58ec43513816b2b4c8cf37443f5f9b195b87"
"""`fingerprint(images, labels)` of the published training images."""
VALIDATION = 5000
"""Training images that the paper keeps for validation and the `paper` split drops: the first of them."""


def load(folder: Path = FOLDER) -> tuple[Tensor, Tensor]:
    """All training images, uint8 [50000, 3, 32, 32], and labels, int64 [50000]; read once in a process.

    Raises:
        ValueError: when a file is missing or not the published one, or there are not 5,000 images of each class.
    """
    return _load(folder.resolve())


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Tensor, Tensor]:
    images, labels = zip(*(read_batch(folder / name) for name in TRAINING), strict=True)
    together = torch.cat(labels)
    check_class_counts(together, [5000] * CLASSES, f"the training files of {folder}", REMEDY)
    return torch.cat(images), together


def training_set(config: Cifar10Data, seed: int) -> TrainingSet:
    """The labelled and unlabelled images of `config.split`; only the balanced split depends on `seed`."""
    images, labels = load()
    labelled, unlabelled = _split(config, labels, seed)
    return TrainingSet(images[labelled], labels[labelled], images[unlabelled], labels[unlabelled], labelled, unlabelled)


def evidence(config: Cifar10Data, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """What pins a training set: the hash of all images and labels, and which are labelled and unlabelled.

    The images themselves are needed for a balanced split alone; their files are checked wherever they are opened.
    """
    labels = load()[1] if config.split is Split.balanced else torch.empty(0)
    return torch.tensor(list(bytes.fromhex(SHA256)), dtype=torch.uint8), *_split(config, labels, seed)


def _split(config: Cifar10Data, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of labelled and of unlabelled images, int64 [B] and [U]; the unlabelled in the order of the files."""
    pool = torch.arange(VALIDATION if config.split is Split.paper else 0, config.train_images)
    if config.split is Split.balanced:
        labelled = balanced(labels[: config.train_images], config.labels, CLASSES, seed)
    else:
        labelled = pool[: config.labels]
    return labelled, pool if config.labelled_in_unlabelled else pool[~torch.isin(pool, labelled)]

"""CIFAR-10's 50,000 training images and how they are split into labelled and unlabelled ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from repro.config.data import Cifar10Data, Split
from repro.data.cifar10_batch import REMEDY
from repro.data.cifar10_files import FOLDER, TRAINING, read_batch
from repro.data.content import check_class_counts
from repro.data.sets import TrainingSet
from repro.seeding import Streams

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
    labelled = _balanced(config, labels, seed) if config.split is Split.balanced else pool[: config.labels]
    return labelled, pool if config.labelled_in_unlabelled else pool[~torch.isin(pool, labelled)]


def _balanced(config: Cifar10Data, labels: Tensor, seed: int) -> Tensor:
    """Indices of `labels / 10` images of each class, int64 [B]."""
    shuffled = Streams(seed).permutation("split", 0, config.train_images)
    each = config.labels // CLASSES
    chosen = [shuffled[labels[shuffled] == k][:each] for k in range(CLASSES)]
    fewest = min(len(indices) for indices in chosen)
    if fewest < each:
        raise ValueError(
            f"data.labels = {config.labels}: wants {each} images of each class, but one class has only {fewest} "
            f"among the first data.train_images = {config.train_images}; lower data.labels or raise data.train_images"
        )
    return torch.cat(chosen)

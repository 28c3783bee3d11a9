"""SVHN's training images, `train` and then `extra`, and how they are split into labelled and unlabelled ones."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.config.data import SvhnData
from repro.data.balanced import balanced
from repro.data.sets import TrainingSet
from repro.data.svhn_arrays import open_training
from repro.data.svhn_files import EXTRA, FOLDER, IMAGES, MD5, TRAIN

CLASSES = 10
"""The digits; class k is digit k."""


def files(config: SvhnData) -> tuple[str, ...]:
    """The published files that the training images come from: `extra` only where `train` is not enough."""
    return (TRAIN,) if config.train_images <= IMAGES[TRAIN] else (TRAIN, EXTRA)


def load(config: SvhnData) -> tuple[Tensor, Tensor]:
    """The first `train_images` images, uint8 [N, 3, 32, 32], and their labels, int64 [N].

    The images are mapped anew by each call: writing to them changes neither the file nor what another call gave.

    Raises:
        ValueError: when they are not prepared, or changed since.
    """
    images, labels = open_training(FOLDER, files(config))
    return images[: config.train_images], labels[: config.train_images]


def training_set(config: SvhnData, seed: int) -> TrainingSet:
    """The labelled and unlabelled images; only a balanced split depends on `seed`.

    The unlabelled images, up to 1.85 GB, stay a memory map of the prepared file. They come in its order, but that the
    last ones stand where labelled ones were taken out: so a process has its own copy of those few alone.
    """
    images, labels = load(config)
    labelled, unlabelled = _split(config, labels, seed)
    mine = images[labelled]  # before others take their places
    moved = (unlabelled != torch.arange(len(unlabelled))).nonzero().flatten()
    images[moved] = images[unlabelled[moved]]
    return TrainingSet(mine, labels[labelled], images[: len(unlabelled)], labels[unlabelled], labelled, unlabelled)


def evidence(config: SvhnData, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """What pins a training set: the MD5s of the published files, and which images are labelled and unlabelled.

    The labels are needed for a balanced split alone; the files are checked when they are unpacked.
    """
    labels = load(config)[1] if config.balanced else torch.empty(0)
    published = b"".join(bytes.fromhex(MD5[name]) for name in files(config))
    return torch.tensor(list(published), dtype=torch.uint8), *_split(config, labels, seed)


def _split(config: SvhnData, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of labelled and of unlabelled images, int64 [B] and [U]; see `training_set` for their order."""
    count, first = config.train_images, min(config.train_images, IMAGES[TRAIN])
    labelled = (
        balanced(labels[:first], config.labels, CLASSES, seed) if config.balanced else torch.arange(config.labels)
    )
    everything = torch.arange(count)
    if config.labelled_in_unlabelled:
        return labelled, everything
    free = ~torch.isin(everything, labelled)
    unlabelled, rest = everything[: count - len(labelled)], everything[count - len(labelled) :]
    taken = ~free[: len(unlabelled)]
    return labelled, unlabelled.masked_scatter(taken, rest[free[len(unlabelled) :]])

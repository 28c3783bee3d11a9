"""The training images of a folder and how they are split into labelled and unlabelled ones."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from repro.config.data import FolderData
from repro.data.listing import UNKNOWN, Listing, listing_path, read_listing
from repro.data.sets import TrainingSet
from repro.seeding import Streams


def training_set(config: FolderData, seed: int) -> TrainingSet:
    """Labelled and unlabelled images of a prepared folder; a subset of `data.labels` depends on `seed`.

    Raises:
        ValueError: when the folder is not prepared, or has no image left that is not labelled.
    """
    listing = _listing(config)
    files, labels = listing.files(config, "train"), torch.from_numpy(listing.labels)
    labelled, unlabelled = _split(config, listing, seed)
    return TrainingSet(files[labelled], labels[labelled], files[unlabelled], labels[unlabelled], labelled, unlabelled)


def evidence(config: FolderData, seed: int) -> tuple[Tensor, ...]:
    """What pins a training set: the contents' hashes, the classes, and which images are labelled and unlabelled."""
    listing = _listing(config)
    return torch.from_numpy(listing.digests), torch.from_numpy(listing.labels), *_split(config, listing, seed)


def settled(config: FolderData) -> FolderData:
    """The settings with the number of classes and of labels that the folder has.

    Raises:
        ValueError: when `data.classes` is another number, or there are fewer labelled images than `data.labels`.
    """
    listing = _listing(config)
    classes, labels = len(listing.class_names), int((listing.named & (listing.labels != UNKNOWN)).sum())
    if config.classes not in (0, classes):
        raise ValueError(
            f"data.classes = {config.classes}: {config.root} has {classes}, from {listing.class_names[0]} to "
            f"{listing.class_names[-1]}; set it to 0 to take what is there, or data.root to another folder"
        )
    if config.labels > labels:
        raise ValueError(f"data.labels = {config.labels}: there are only {labels} labelled images; lower it, or set it "
                         "to 0 to take all")  # fmt: skip
    return replace(config, classes=classes, labels=config.labels or labels)


def _listing(config: FolderData) -> Listing:
    path = listing_path(config, "train")
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(config.root, config.train, config.test, config.labelled, changed)


@lru_cache(maxsize=2)
def _read(root: str, train: str, test: str, labelled: str, changed: int) -> Listing:
    """Read once in a process, and again when it has `changed`: a million names take seconds."""
    return read_listing(FolderData(root=root, train=train, test=test, labelled=labelled), "train")


def _split(config: FolderData, listing: Listing, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of labelled and of unlabelled images, int64 [B] and [U], in the order of the listing."""
    could = np.flatnonzero(listing.named & (listing.labels != UNKNOWN))
    classes = len(listing.class_names)
    if config.labels and config.labels < len(could):
        chosen = could[drawn_evenly(listing.labels[could], classes, config.labels, seed)]
    else:
        chosen = could
    labelled, everything = torch.from_numpy(chosen), torch.arange(len(listing.paths))
    unlabelled = everything if config.labelled_in_unlabelled else everything[~torch.isin(everything, labelled)]
    if not len(unlabelled):  # with nothing else to learn from, the labelled images serve as unlabelled ones too
        unlabelled = everything
    return labelled, unlabelled


def drawn_evenly(labels: np.ndarray, classes: int, count: int, seed: int) -> np.ndarray:
    """Positions, in ascending order, of `count` of the labels [N]: as many of each class as can be.

    A class that runs out gives all it has; what is then missing comes from the others.
    """
    order = Streams(seed).permutation("split", 0, len(labels)).numpy()
    taken = np.empty(len(labels), dtype=np.int64)  # of its class, how many come before it
    for label in range(classes):
        mine = np.flatnonzero(labels[order] == label)
        taken[mine] = np.arange(len(mine))
    first = np.lexsort((np.arange(len(order)), taken))[:count]
    return np.sort(order[first])

"""The 1,797 handwritten 8x8 digits that scikit-learn ships (grey levels 0 to 16)."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.config.data import DigitsData
from repro.data.content import check_images, check_labels
from repro.data.sets import HeldOutSet, TrainingSet, fingerprint
from repro.seeding import Streams

CLASSES = 10
CACHE = Path("artifacts/data/digits.npz")
SHA256 = "683b7a14f32684aae036ad4efa68c409c9fc82ecabaf99d2be9b1d9e3b026ac3"
"""`fingerprint(images, labels)` of the published data set."""


def load(cache: Path = CACHE) -> tuple[Tensor, Tensor]:
    """All images, uint8 [1797, 1, 8, 8], and labels, int64 [1797], from `cache` or from scikit-learn.

    Raises:
        ValueError: when they are not the published ones, or the file cannot be read.
    """
    if cache.exists():
        images, labels = _from_cache(cache)
        where, remedy = str(cache), f"delete {cache} and prepare again: dvc repro prepare"
    else:
        images, labels = _from_scikit_learn()
        where, remedy = "scikit-learn", "install the version of requirements.lock"
    check_images(images, (1797, 1, 8, 8), where, remedy)
    check_labels(labels, 1797, CLASSES, where, remedy)
    if fingerprint(images, labels) != SHA256:
        raise ValueError(f"digits from {where} are not the published ones (hash differs); {remedy}")
    return images, labels


def _from_cache(cache: Path) -> tuple[Tensor, Tensor]:
    content = cache.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    except Exception as error:  # what a damaged file makes numpy raise has no end
        raise ValueError(f"{cache} is damaged ({error}); delete it and prepare again: dvc repro prepare") from error


@lru_cache(maxsize=1)
def _from_scikit_learn() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images.astype(np.uint8))[:, None], torch.from_numpy(bunch.target.astype(np.int64))


def _test_indices(labels: Tensor, config: DigitsData) -> tuple[Tensor, Tensor]:
    """Indices held out and left for training: one fixed permutation, the same for every seed."""
    order = Streams(0).permutation("digits test set", 0, len(labels))
    return order[: config.test_images], order[config.test_images :]


def training_set(config: DigitsData, seed: int) -> TrainingSet:
    """`labels / 10` labelled images of each class, drawn by `seed`; all other training images are unlabelled."""
    images, labels = load()
    _, available = _test_indices(labels, config)
    shuffled = available[Streams(seed).permutation("split", 0, len(available))]
    each = config.labels // CLASSES
    labelled = torch.cat([shuffled[labels[shuffled] == k][:each] for k in range(CLASSES)])
    unlabelled = shuffled[~torch.isin(shuffled, labelled)]
    return TrainingSet(images[labelled], labels[labelled], images[unlabelled], labels[unlabelled], labelled, unlabelled)


def held_out_set(config: DigitsData) -> HeldOutSet:
    """The `test_images` images that no seed trains on."""
    images, labels = load()
    held_out, _ = _test_indices(labels, config)
    return HeldOutSet(images[held_out], labels[held_out])

"""The 1,797 handwritten 8x8 digits that scikit-learn ships (grey levels 0 to 16)."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from repro.config.data import DigitsData
from repro.data.sets import HeldOutSet, TrainingSet, fingerprint
from repro.seeding import Streams

CLASSES = 10
CACHE = Path("artifacts/data/digits.npz")
SHA256 = "683b7a14f32684aae036ad4efa68c409c9fc82ecabaf99d2be9b1d9e3b026ac3"
"""`fingerprint(images, labels)` of the published data set."""


def load(cache: Path = CACHE) -> tuple[Tensor, Tensor]:
    """All images, uint8 [1797, 1, 8, 8], and labels, int64 [1797], from `cache` or from scikit-learn.

    Raises:
        ValueError: when they are not the published ones.
    """
    if cache.is_file():
        try:
            with np.load(io.BytesIO(cache.read_bytes())) as arrays:
                images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
        except (ValueError, KeyError, BadZipFile) as error:
            raise ValueError(f"{cache} is damaged ({error}); delete it and prepare again: dvc repro prepare") from error
        origin = str(cache)
    else:
        images, labels = _from_scikit_learn()
        origin = "scikit-learn"
    if fingerprint(images, labels) != SHA256:
        raise ValueError(
            f"digits from {origin} are not the published ones (hash differs); delete {cache} and prepare again"
        )
    return images, labels


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

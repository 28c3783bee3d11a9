"""SVHN's 26,032 test images. Only `repro.data.held_out` imports this module; a test holds that."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.config.data import SvhnData
from repro.data.sets import HeldOutSet
from repro.data.svhn_files import FOLDER, IMAGES, MD5, TEST, verified
from repro.data.svhn_mat import read_mat


def held_out_set(config: SvhnData) -> HeldOutSet:
    """The first `test_images` test images and their labels.

    Raises:
        ValueError: when the file is missing or not the published one.
    """
    images, labels = _load((FOLDER / TEST).resolve())
    return HeldOutSet(images[: config.test_images].clone(), labels[: config.test_images].clone())


def evidence(config: SvhnData) -> tuple[Tensor, Tensor]:
    """What pins the test set without its images: the published file's MD5, and how many images are taken."""
    return torch.tensor(list(bytes.fromhex(MD5[TEST])), dtype=torch.uint8), torch.tensor(config.test_images)


@lru_cache(maxsize=1)
def _load(path: Path) -> tuple[Tensor, Tensor]:
    """All 80 MB of them, uint8 [26032, 3, 32, 32], and the labels, int64 [26032]; read once in a process."""
    images: list[np.ndarray] = []
    labels = read_mat(verified(path), IMAGES[TEST], images.append)
    return torch.from_numpy(np.concatenate(images)), torch.from_numpy(labels)

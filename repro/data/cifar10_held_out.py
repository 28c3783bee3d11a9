"""CIFAR-10's 10,000 test images. Only `repro.data.held_out` imports this module; a test holds that.

The labels are shipped, so that accuracies can be recomputed from recorded predictions without the images.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from repro.config.data import Cifar10Data
from repro.data.cifar10_batch import REMEDY
from repro.data.cifar10_files import FOLDER, MD5, TEST, read_batch
from repro.data.content import check_class_counts
from repro.data.sets import HeldOutSet, fingerprint

LABELS_FILE = Path(__file__).with_name("cifar10_test_labels.txt")
"""One digit for each test image, in the order of the published file; line breaks mean nothing."""

LABELS_SHA256 = "348fd210099f44280c59f8bae2951dcb3acf9a65679aedccf26570e90be04379"
"""`fingerprint` of the labels as int64 [10000]."""


def held_out_set(config: Cifar10Data) -> HeldOutSet:
    """The first `test_images` test images and their labels.

    Raises:
        ValueError: when the file is missing or not the published one, or its labels are not the shipped ones.
    """
    images, labels = _load((FOLDER / TEST).resolve())
    return HeldOutSet(images[: config.test_images].clone(), labels[: config.test_images].clone())


def labels(config: Cifar10Data) -> Tensor:
    """The labels of the first `test_images` test images, int64 [N]; needs no images."""
    return shipped_labels()[: config.test_images].clone()


def evidence(config: Cifar10Data) -> tuple[Tensor, Tensor]:
    """What pins the test set without its images: the published file's MD5 and the labels."""
    return torch.tensor(list(bytes.fromhex(MD5[TEST])), dtype=torch.uint8), labels(config)


@cache
def shipped_labels() -> Tensor:
    """All test labels, int64 [10000].

    Raises:
        ValueError: when the file is missing or not the one that was shipped.
    """
    remedy = f"restore it: git checkout -- {LABELS_FILE}"
    if not LABELS_FILE.is_file():
        raise ValueError(f"{LABELS_FILE} is missing; {remedy}")
    digits = b"".join(LABELS_FILE.read_bytes().split())
    if not digits.isdigit():
        raise ValueError(f"{LABELS_FILE} is damaged (holds other characters than the digits 0 to 9); {remedy}")
    found = torch.tensor([digit - ord("0") for digit in digits])
    if fingerprint(found) != LABELS_SHA256:
        raise ValueError(f"{LABELS_FILE} is damaged (hash differs); {remedy}")
    return found


@lru_cache(maxsize=1)
def _load(path: Path) -> tuple[Tensor, Tensor]:
    images, found = read_batch(path)
    check_class_counts(found, [1000] * 10, str(path), REMEDY)
    if not torch.equal(found, shipped_labels()):
        raise ValueError(f"labels of {path} are not those of {LABELS_FILE}; restore both")
    return images, found

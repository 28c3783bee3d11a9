"""Opens test data. Only `repro.evaluate` may import this module; a test holds that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from repro.config.data import Cifar10Data, Data, FolderData, SvhnData, TwoMoonsData
from repro.data import cifar10_held_out, digits, folder_held_out, svhn_held_out, two_moons
from repro.data.listing import read_listing
from repro.data.sets import HeldOutSet, Seeds, fingerprint

_FIXED: dict[str, Callable[[Any], HeldOutSet]] = {
    "digits": digits.held_out_set,
    "cifar10": cifar10_held_out.held_out_set,
    "svhn": svhn_held_out.held_out_set,
    "folder": folder_held_out.held_out_set,
}
"""Data sets whose test examples are the same for all seeds."""

_EVIDENCE: dict[str, Callable[[Any], Sequence[Tensor]]] = {
    "cifar10": cifar10_held_out.evidence,
    "svhn": svhn_held_out.evidence,
    "folder": folder_held_out.evidence,
}
"""What pins a test set without its images."""


def held_out_set(config: Data, seeds: Seeds) -> HeldOutSet:
    """Test data of one seed, or of several stacked (each two-moons seed has its own; images are the same for all)."""
    if isinstance(config, TwoMoonsData):
        return two_moons.held_out_set(config, seeds)
    return _FIXED[config.name](config)


def held_out_labels(config: Data, seeds: Sequence[int]) -> Tensor:
    """Labels of the test examples of every seed, int64 [R, N]; CIFAR-10's need no images."""
    if isinstance(config, Cifar10Data):
        return cifar10_held_out.labels(config).repeat(len(seeds), 1)
    return torch.stack([held_out_set(config, seed).labels for seed in seeds])


def held_out_hash(config: Data, seeds: Sequence[int]) -> str:
    """SHA-256 over the test examples and labels of every seed, in order.

    CIFAR-10's images count by the published MD5, those of a folder by the hashes of its files. Where the labels are not
    shipped, it is that of the examples' own hash and of the labels (`bound_hash`), whatever the seeds.
    """
    if not ships_labels(config):
        return bound_hash(examples_hash(config), held_out_labels(config, [0])[0])
    return fingerprint(*(tensor for seed in seeds for tensor in _evidence(config, seed)))


def ships_labels(config: Data) -> bool:
    """Whether the test labels are had wherever the project is; those of other data sets are where the images are."""
    return not isinstance(config, SvhnData | FolderData)


def examples_hash(config: Data) -> str:
    """SHA-256 over what pins the test set of a data set that is the same for all seeds."""
    return fingerprint(*_evidence(config, 0))


def bound_hash(examples: str, labels: Tensor) -> str:
    """SHA-256 of test examples by their own hash, and of their labels int64 [N]: who has both can tell what is true."""
    return fingerprint(torch.tensor(list(bytes.fromhex(examples)), dtype=torch.uint8), labels)


def class_names(config: Data) -> list[str]:
    """What the classes of test labels are called; empty where they are numbers."""
    return [str(name) for name in read_listing(config, "test").class_names] if isinstance(config, FolderData) else []


def _evidence(config: Data, seed: int) -> Sequence[Tensor]:
    if config.name in _EVIDENCE:
        return _EVIDENCE[config.name](config)
    return list(vars(held_out_set(config, seed)).values())

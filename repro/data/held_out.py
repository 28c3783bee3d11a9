"""Opens test data. Only `repro.evaluate` may import this module; a test holds that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from repro.config.data import Cifar10Data, Data, FolderData, TwoMoonsData
from repro.data import cifar10_held_out, digits, folder_held_out, two_moons
from repro.data.sets import HeldOutSet, Seeds, fingerprint

_FIXED: dict[str, Callable[[Any], HeldOutSet]] = {
    "digits": digits.held_out_set,
    "cifar10": cifar10_held_out.held_out_set,
    "folder": folder_held_out.held_out_set,
}
"""Data sets whose test examples are the same for all seeds."""


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
    """SHA-256 over the test examples and labels of every seed, in order; images in files count by the files' hashes."""
    return fingerprint(*(tensor for seed in seeds for tensor in _evidence(config, seed)))


def _evidence(config: Data, seed: int) -> Sequence[Tensor]:
    if isinstance(config, Cifar10Data):
        return cifar10_held_out.evidence(config)
    if isinstance(config, FolderData):
        return folder_held_out.evidence(config)
    return list(vars(held_out_set(config, seed)).values())

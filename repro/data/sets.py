"""What training sees and what evaluation sees, kept in two types so that neither can be passed for the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repro.data.image_files import ImageFiles

Seeds = int | Sequence[int]

Examples = Tensor | ImageFiles
"""Examples in memory, or images that are read from their files when they are needed."""


@dataclass(frozen=True)
class TrainingSet:
    """Training data of one seed (lead = ()) or of R stacked seeds (lead = (R,)).

    B labelled and U unlabelled examples of shape E: images C x H x W uint8, or points of 2 float32.
    """

    labelled: Examples  # [*lead, B, *E]
    labels: Tensor  # int64 [*lead, B]
    unlabelled: Examples  # [*lead, U, *E]
    hidden_labels: Tensor  # int64 [*lead, U], -1 where not known; recorded against pseudo labels, never trained on
    labelled_indices: Tensor  # int64 [*lead, B], positions in the source
    unlabelled_indices: Tensor  # int64 [*lead, U]

    def to(self, device: torch.device | str) -> TrainingSet:
        """The same set on `device`."""
        return TrainingSet(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class HeldOutSet:
    """Test data: N examples for each seed."""

    examples: Examples  # [*lead, N, *E]
    labels: Tensor  # int64 [*lead, N]


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 over shapes, types and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def class_counts(labels: Tensor, classes: int) -> list[int]:
    """How often each class occurs in int64 [N]; those of no known class do not count."""
    return [int(count) for count in torch.bincount(labels[labels >= 0].flatten(), minlength=classes)]


def in_runs(indices: Tensor) -> list[int | str]:
    """Indices int64 [N] in their order, three or more consecutive ones written as "first-last"."""
    values = indices.cpu().numpy()
    found: list[int | str] = []
    for run in np.split(values, np.flatnonzero(np.diff(values) != 1) + 1):
        found += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else run.tolist()
    return found

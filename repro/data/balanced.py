"""The same number of labelled images of each class, drawn by seed."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.seeding import Streams


def balanced(labels: Tensor, count: int, classes: int, seed: int) -> Tensor:
    """Indices, int64 [count], of `count / classes` images of each class among those of `labels`, int64 [N].

    Raises:
        ValueError: when one class has fewer.
    """
    shuffled = Streams(seed).permutation("split", 0, len(labels))
    each = count // classes
    chosen = [shuffled[labels[shuffled] == k][:each] for k in range(classes)]
    fewest = min(len(indices) for indices in chosen)
    if fewest < each:
        raise ValueError(
            f"data.labels = {count}: wants {each} images of each class, but one class has only {fewest} among the "
            f"{len(labels)} images to draw from; lower data.labels or raise data.train_images"
        )
    return torch.cat(chosen)

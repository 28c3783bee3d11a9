"""Which examples each step sees."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.seeding import Streams


class Order:
    """Batches of indices that pass over range(n) in a fresh permutation each epoch; a batch may span two epochs.

    Args:
        streams: where the permutations come from.
        name: the stream, such as "labelled order".
        n: how many examples there are.
        batch: indices a step. `batch == n` gives all of them in order, since the order within a batch means nothing.
    """

    def __init__(self, streams: Streams, name: str, n: int, batch: int) -> None:
        if batch < 1 or n < 1:
            raise ValueError(f"{name}: batch = {batch} from n = {n} examples; both must be at least 1")
        self._streams, self._name, self._n, self._batch = streams, name, n, batch
        self._epochs: dict[int, Tensor] = {}

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = self._streams.permutation(self._name, epoch, self._n)
        return self._epochs[epoch]

    def at(self, step: int) -> Tensor:
        """Indices of the batch of `step`, int64 [*lead, batch]."""
        if self._batch == self._n:
            everything = torch.arange(self._n, device=self._streams.device)
            return everything.expand(*self._streams.lead, self._n)
        position, parts, missing = step * self._batch, [], self._batch
        while missing:
            epoch, offset = divmod(position, self._n)
            part = self._epoch(epoch)[..., offset : offset + missing]
            parts.append(part)
            missing -= part.shape[-1]
            position += part.shape[-1]
        return torch.cat(parts, dim=-1)

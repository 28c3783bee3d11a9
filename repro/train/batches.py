"""The batch of a step, with its views: a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repro.augment.views import labelled_view, strong_labelled_view, to_input, unlabelled_views
from repro.config.data import Data
from repro.config.methods import View
from repro.config.schema import Budget
from repro.data.training import training_set
from repro.methods.state import Batch
from repro.seeding import Draws, Order, Streams

_PIECE = 512  # examples that are handed over at once, where all are wanted


class Batches:
    """The training data of one seed, or of R seeds stacked, in batches.

    Args:
        data: the settings of the data.
        budget: for the sizes of the batches.
        views: of the unlabelled examples that the method looks at.
        labelled_view: of the labelled examples that the method learns from; it is given the weak one in any case.
        seeds: one seed, or R seeds.
        device: where the data lie and every draw is made.
    """

    def __init__(
        self,
        data: Data,
        budget: Budget,
        views: frozenset[View],
        labelled_view: View,
        seeds: int | Sequence[int],
        device: torch.device,
    ) -> None:
        self.streams = Streams(seeds, device)
        self.data = training_set(data, seeds).to(device)
        self._settings, self._views, self._labelled_view, lead = data, views, labelled_view, len(self.streams.lead)
        self._rows = torch.arange(self.streams.lead[0], device=device)[:, None] if lead else None
        self._labelled = Order(self.streams, "labelled order", self.data.labels.shape[lead], budget.labelled_batch)
        count = self.data.unlabelled.shape[lead]
        self._unlabelled = Order(self.streams, "unlabelled order", count, min(budget.unlabelled_batch, count))

    def at(self, step: int, probe: bool = False) -> Batch:
        """The batch of a step; `probe` asks for the metrics that cost extra passes."""
        labelled, unlabelled = self._labelled.at(step), self._unlabelled.at(step)
        x_u = self.pick(self.data.unlabelled, unlabelled)
        weak, strong = unlabelled_views(x_u, self._settings, self._views, self.streams, step)
        x_l, is_strong = self.pick(self.data.labelled, labelled), self._labelled_view is View.strong
        return Batch(
            labelled=labelled_view(x_l, self._settings, self.streams, step),
            labels=self.pick(self.data.labels, labelled),
            weak=weak,
            strong=strong,
            hidden_labels=self.pick(self.data.hidden_labels, unlabelled),
            draws=Draws(self.streams, step),
            probe=probe,
            strong_labelled=strong_labelled_view(x_l, self._settings, self.streams, step) if is_strong else None,
            labelled_index=labelled,
            unlabelled_index=unlabelled,
            everything=self.everything,
        )

    def everything(self) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """All labelled and all unlabelled examples, as networks are evaluated on them, in pieces."""
        return self._pieces(self.data.labelled), self._pieces(self.data.unlabelled)

    def _pieces(self, examples: Tensor) -> Iterator[Tensor]:
        for piece in torch.split(examples, _PIECE, dim=len(self.streams.lead)):
            yield to_input(piece, self._settings)

    def pick(self, tensor: Tensor, index: Tensor) -> Tensor:
        """Entries `index` [*lead, n] of tensor [*lead, N, ...]."""
        lead = len(self.streams.lead)
        if index.shape[-1] == tensor.shape[lead]:
            return tensor  # `Order` gives a batch of all examples in their order
        return tensor[(self._rows, index)] if lead else tensor[index]

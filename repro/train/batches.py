"""The batch of a step, with its views: a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repro.augment.views import labelled_view, unlabelled_views
from repro.config.data import Data
from repro.config.methods import View
from repro.config.read import ConfigError
from repro.config.schema import Budget
from repro.data.training import training_set
from repro.engine.world import ALONE, World
from repro.methods.state import Batch
from repro.seeding import Draws, Order, Streams


class Batches:
    """The training data of one seed, or of R seeds stacked, in batches.

    Args:
        data: the settings of the data.
        budget: for the sizes of the batches.
        views: of the unlabelled examples that the method looks at.
        seeds: one seed, or R seeds.
        device: where the data lie and every draw is made.
        world: the processes that share every batch in equal parts.
    """

    def __init__(
        self,
        data: Data,
        budget: Budget,
        views: frozenset[View],
        seeds: int | Sequence[int],
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.streams = Streams(seeds, device)
        self.data = training_set(data, seeds).to(device)
        self._settings, self._views, self._world, lead = data, views, world, len(self.streams.lead)
        self._rows = torch.arange(self.streams.lead[0], device=device)[:, None] if lead else None
        self._labelled = Order(self.streams, "labelled order", self.data.labels.shape[lead], budget.labelled_batch)
        count = self.data.unlabelled.shape[lead]
        unlabelled_batch = min(budget.unlabelled_batch, count)
        self._unlabelled = Order(self.streams, "unlabelled order", count, unlabelled_batch)
        for name, examples in {"labelled": budget.labelled_batch, "unlabelled": unlabelled_batch}.items():
            if examples % world.size:
                raise ConfigError(
                    f"budget.{name}_batch = {getattr(budget, f'{name}_batch')}: {world.size} processes cannot share "
                    f"{examples} examples equally; set a multiple of {world.size}, or start another number of processes"
                )

    def at(self, step: int, probe: bool = False) -> Batch:
        """This process's part of the batch of a step; `probe` asks for the metrics that cost extra passes."""
        shard, world = self._world.shard, self._world
        labelled, unlabelled = (shard.rows(order.at(step), -1) for order in (self._labelled, self._unlabelled))
        x_u = self.pick(self.data.unlabelled, unlabelled)
        weak, strong = unlabelled_views(x_u, self._settings, self._views, self.streams, step, shard, world.whole)
        return Batch(
            labelled=labelled_view(self.pick(self.data.labelled, labelled), self._settings, self.streams, step, shard),
            labels=self.pick(self.data.labels, labelled),
            weak=weak,
            strong=strong,
            hidden_labels=self.pick(self.data.hidden_labels, unlabelled),
            draws=Draws(self.streams, step, shard),
            probe=probe,
            mean_over_processes=world.mean,
        )

    def pick(self, tensor: Tensor, index: Tensor) -> Tensor:
        """Entries `index` [*lead, n] of tensor [*lead, N, ...]."""
        lead = len(self.streams.lead)
        if index.shape[-1] == tensor.shape[lead]:
            return tensor  # `Order` gives a batch of all examples in their order
        return tensor[(self._rows, index)] if lead else tensor[index]

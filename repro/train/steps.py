"""The steps of a training: taken one by one, or recorded whole, views, updates and averages included, and replayed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from repro.config import Config
from repro.engine.graph import CudaGraph, Record
from repro.engine.world import World
from repro.methods import Method
from repro.methods.state import Batch, State
from repro.train.batches import Batches


class Steps:
    """Takes the steps of a run, changing its state in place.

    A recorded step computes the same things in the same order; its number and what depends on it are tensors. So the
    product of learning rate and gradient is rounded before it is subtracted, weight averages and a rising weight of the
    UDA loss round a little differently too, and the schedule's cosine is the device's.

    Args:
        config: of the run. To be recorded, its method does the same at every step, and its examples are in memory.
        method: a module of `repro.methods`.
        state: of the run.
        batches: of the run.
        world: the processes that train together.
        record: from a function of tensors to one that is recorded; by default a CUDA graph, where the settings want it
            and there is a GPU.
    """

    def __init__(
        self, config: Config, method: ModuleType, state: State, batches: Batches, world: World, record: Record | None
    ) -> None:
        self._config, self._method, self._state = config.method, method, state
        self._batches, self._world = batches, world
        self._device = batches.streams.device
        graph = CudaGraph if config.engine.cuda_graph and self._device.type == "cuda" else None
        chosen = record or graph
        self._recorded = chosen(partial(_step, config.method, method, state, batches)) if chosen else None

    def take(self, batch: Callable[..., Batch], probe: bool) -> dict[str, Tensor]:
        """The next step and its metrics, means over the processes.

        Args:
            batch: from a step to its data, where it is not recorded: what somebody who times its parts puts in place
                of `Batches.at`.
            probe: asks for the metrics that cost extra passes; such a step is not recorded.
        """
        now = self._state.step
        if self._recorded is None or probe:
            metrics = self._method.step(self._state, batch(now, probe=probe), self._config)
        else:
            self._batches.streams.get_ready(now)
            step = torch.full((), now, dtype=torch.int64, device=self._device)
            metrics = self._recorded(*self._batches.order(now), step)
            self._state.step = now + 1
        if not self._batches.hidden_labels_are_known:
            metrics.pop("pseudo_label_wrong", None)  # nobody can say
        return dict(zip(metrics, self._world.means(list(metrics.values())), strict=True))


def _step(
    config: Method, method: ModuleType, state: State, batches: Batches, labelled: Tensor, unlabelled: Tensor,
    step: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """A step of the method on the examples of these indices; the state's own number comes back as it was."""
    before = state.step
    # A copy, since methods count it up in place. `State` says that it is a number, as it is at any other time.
    state.step = cast("int", step.clone())
    try:
        metrics: dict[str, Tensor] = method.step(state, batches.of(labelled, unlabelled, step), config)
        return metrics
    finally:
        state.step = before

"""A function of tensors recorded once and replayed as a CUDA graph: one launch in place of thousands.

What it does on the device is recorded; what it does in Python happens in the first calls alone. So it may read the
numbers that change from call to call from its inputs only, never from a Python number, and what it keeps between calls
must stay where it is in memory. `tests/recording.py` holds recorded steps to that without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from repro.config import Config
from repro.engine.distributed import World
from repro.methods import Method
from repro.methods.state import Batch, State
from repro.train.batches import Batches

Function = Callable[..., dict[str, Tensor]]
"""Of tensors."""

Record = Callable[[Function], Function]
"""Makes of a function one that computes the same, recorded."""

_WARM = 3  # calls before the recording, in which libraries choose their kernels and take the memory they keep


class CudaGraph:
    """`function`, whose first calls are as always, and which is recorded at the call after those.

    All of them, and the recording, are on one stream, since allocator and libraries keep memory for each stream: on the
    current one, but for the default, on which nothing can be recorded.

    Args:
        function: of tensors of the same shapes and types at every call; it waits for nothing and draws no random
            numbers of PyTorch's. It must not refer to this graph, whose memory then stays until somebody collects it.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._calls = 0
        current, default = torch.cuda.current_stream(), torch.cuda.default_stream()
        self._stream = torch.cuda.Stream() if current == default else current  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: dict[str, Tensor] = {}

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the function gives, in tensors that later calls leave alone."""
        self._inputs = self._inputs or tuple(torch.empty_like(given).contiguous() for given in inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._calls += 1
        if self._calls <= _WARM:
            torch.cuda.synchronize()
            with torch.cuda.stream(self._stream):
                outputs = self._function(*self._inputs)
            torch.cuda.synchronize()
            return outputs
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with _nothing_collected(), torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._function(*self._inputs)
            self._graph = graph
        self._graph.replay()
        return {name: value.clone() for name, value in self._outputs.items()}


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Python frees no other graph meanwhile, which would end the recording; what it can free is freed before."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
        self._batches, self._world, self._planted = batches, world, config.plant.steps
        self._device = batches.streams.device
        graph = CudaGraph if config.engine.cuda_graph and self._device.type == "cuda" else None
        chosen = record or graph
        self._recorded = chosen(partial(_step, config.method, method, state, batches)) if chosen else None

    def use(self, config: Config) -> None:
        """From now on steps are those of a run of another length; none of them is recorded."""
        self._config = config.method

    def take(self, batch: Callable[..., Batch], probe: bool) -> dict[str, Tensor]:
        """The next step and its metrics, means over the processes.

        Args:
            batch: from a step to its data, where it is not recorded: what somebody who times its parts puts in place
                of `Batches.at`.
            probe: asks for the metrics that cost extra passes; such a step is not recorded.
        """
        now = self._state.step
        config = self._config.while_planting() if now < self._planted else self._config
        if self._recorded is None or probe:
            metrics = self._method.step(self._state, batch(now, probe=probe), config)
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

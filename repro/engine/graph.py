"""A function of tensors recorded once and replayed as a CUDA graph: one launch in place of thousands.

What it does on the device is recorded; what it does in Python happens in the first calls alone. So it may read the
numbers that change from call to call from its inputs only, never from a Python number, and what it keeps between calls
must stay where it is in memory. `tests/recording.py` holds recorded steps to that without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

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

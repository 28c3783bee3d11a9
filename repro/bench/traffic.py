"""What a step reads and writes, counted while it runs on tensors without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from repro.config.schema import Config, Precision
from repro.data.training import class_count
from repro.engine.place import place
from repro.methods import METHODS
from repro.methods.state import State
from repro.models.build import build_model
from repro.seeding import Streams
from repro.train.cost import empty_batch


def step_bytes(config: Config) -> int:
    """What an ordinary step of a run reads and writes, without augmentation."""
    streams, budget = Streams(0, torch.device("meta")), config.budget
    state = _state(config, streams)
    state.step = budget.steps - 1
    half = config.engine.precision is Precision.bfloat16
    with _Bfloat16() if half else nullcontext(), Traffic() as traffic:
        batch = empty_batch(config, budget.labelled_batch, budget.unlabelled_batch, streams, state.step)
        METHODS[config.method.name].step(state, batch, config.method)
    moved: int = traffic.bytes
    return moved


def _state(config: Config, streams: Streams) -> State:
    """Networks without data."""
    engine = replace(config.engine, precision=Precision.float32)  # there is no mixed precision without data
    classes = class_count(config.data)
    state: State = METHODS[config.method.name].init(
        lambda role: _as_float32(place(build_model(config.model, classes, streams, role), engine, streams.device)),
        config.method, config.optim, config.budget.steps, (),
    )  # fmt: skip
    return state


def _as_float32(model: nn.Module) -> nn.Module:
    """The network, whose logits come out as float32 whatever it computes in, as those of a run do."""
    forward = model.forward
    model.forward = lambda *inputs: forward(*inputs).float()
    return model


class _Bfloat16(TorchFunctionMode):
    """Stands in for automatic mixed precision where there are no data: the operations that it makes bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {functional.conv2d, functional.linear}:
            args = [value.bfloat16() if isinstance(value, Tensor) else value for value in args]
        return func(*args, **(kwargs or {}))


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations take and give, while it is entered.

    It is what a device moves that keeps nothing between two operations; what a cache holds, or a compiler fuses, is
    moved less often. Operations that only look at a tensor in another way move nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """There is no compiler here to keep out, and keeping it out would load it."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operation as it is, and what it moves."""
        found = func(*args, **(kwargs or {}))
        taken, given = list(_tensors((args, kwargs))), list(_tensors(found))
        looked_at = {tensor.untyped_storage()._cdata for tensor in taken}  # noqa: SLF001 - a storage has no other name
        views = [tensor for tensor in given if tensor.untyped_storage()._cdata in looked_at]  # noqa: SLF001 - likewise
        written_in_place = func._schema.is_mutable  # noqa: SLF001 - nothing else tells
        if not views or written_in_place:
            self.bytes += sum(tensor.nbytes for tensor in taken + given)
        return found


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))

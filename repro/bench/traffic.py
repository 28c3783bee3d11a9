"""What a step reads and writes, counted while it runs on tensors without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from repro.config.schema import Config
from repro.methods import METHODS
from repro.train.cost import empty_batch
from repro.train.memory import precision_without_data, untrained


def step_bytes(config: Config) -> int:
    """What an ordinary step of a run reads and writes, without augmentation."""
    state, streams = untrained(config)
    state.step, budget = config.budget.steps - 1, config.budget
    with precision_without_data(config), Traffic() as traffic:
        batch = empty_batch(config, budget.labelled_batch, budget.unlabelled_batch, streams, state.step)
        METHODS[config.method.name].step(state, batch, config.method)
    moved: int = traffic.bytes
    return moved


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

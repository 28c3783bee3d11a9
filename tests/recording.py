"""What a CUDA graph does, without a GPU: the operations of one call, replayed in the memory they were recorded in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ASK_THE_HOST = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "lift_fresh", "_unique2",
                 "bincount", "repeat_interleave"}  # fmt: skip
"""For a value, or for a number of values, or to copy from its memory."""

_SORT = {"scatter", "scatter_", "scatter_add", "scatter_add_", "index_put", "index_put_", "_index_put_impl_"}
"""In deterministic mode, on a GPU, and there some versions of PyTorch ask the host for the largest index."""


def waits(func: Any, args: Sequence[Any]) -> bool:
    """Whether the host must wait for what an operation gives, or for the number of its values."""
    name = func.overloadpacket.__name__
    by_mask = "index" in name and any(tensor.dtype in {torch.bool, torch.uint8} for tensor in _tensors(args[1:2]))
    return name in _ASK_THE_HOST or by_mask


class Watch(TorchDispatchMode):
    """Fails where the host would wait for the device; copies from the host may be allowed."""

    def __init__(self, *, copies: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copies = copies
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operation as it is."""
        name = func.overloadpacket.__name__
        self.names.add(name)
        assert not waits(func, args) or (self.copies and name == "lift_fresh"), f"{name} makes the host wait"
        return func(*args, **(kwargs or {}))


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stands in for `torch.cuda.CUDAGraph`: writes down the operations that run while it is entered, and replays them.

    As in a CUDA graph, all tensors stay where they are, a number that is no tensor stays what it was at the recording,
    and what Python does besides does not happen again. Unlike there, what is recorded runs, so the first replay does
    nothing.
    """

    made: list[Tape]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Sequence[Any], Mapping[str, Any], Any]] = []
        self.replays = 0
        Tape.made.append(self)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operation as it is, written down with its tensors, which so live on.

        Raises:
            AssertionError: when it asks for the value of a tensor, for which the host would have to wait.
        """
        name = func.overloadpacket.__name__
        waiting = waits(func, args) or (name in _SORT and torch.get_deterministic_debug_mode())
        assert not waiting, f"{name} within a recorded step makes the host wait"
        found = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        """Runs all of it again, on what its inputs hold now."""
        self.replays += 1
        for func, args, kwargs, recorded in self.operations if self.replays > 1 else ():
            taken = {_storage(tensor) for tensor in _tensors((args, kwargs))}
            found = func(*args, **kwargs)
            for old, new in zip(_tensors(recorded), _tensors(found), strict=True):
                in_place = _storage(old) in taken  # or a view of what it took
                if not (in_place or old._is_zerotensor()):  # zeros of forward mode, which take no memory
                    old.copy_(new)


def record_on_tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Puts tapes in the place of CUDA graphs; gives those that will be made."""
    Tape.made = []
    for name, other in {
        "CUDAGraph": Tape, "graph": _entered, "synchronize": lambda: None, "Stream": object,
        "stream": lambda _: nullcontext(), "current_stream": lambda: None, "default_stream": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, other)
    return Tape.made


def _entered(tape: Tape, stream: object) -> Tape:
    return tape


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata

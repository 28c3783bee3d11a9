"""The processes that train one run together, each with its part of every batch: what they tell one another."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from repro.seeding import Shard

Value = TypeVar("Value")


class Gone(RuntimeError):
    """Another process of this training ended, or does not answer."""


@dataclass(frozen=True)
class World:
    """One process among `size`; alone by default, where everything here costs nothing and changes nothing."""

    rank: int = 0
    size: int = 1
    store: Any = None  # which all processes share
    agreements: Any = None  # the group of processes, by gloo

    @property
    def shard(self) -> Shard:
        """The part of every batch that is this process's."""
        return Shard(self.rank, self.size)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, [size, *shape], without gradient.

        Raises:
            Gone: when another process does not take part.
        """
        found = tensor.new_empty(self.size, *tensor.shape)
        with or_gone():
            dist.all_gather(list(found.unbind()), tensor.detach().contiguous())
        return found

    def whole(self, part: Tensor) -> Tensor:
        """From this process's rows to those of all, in their order."""
        return part if self.size == 1 else self.gather(part).flatten(0, 1)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes, the same bits in all of them."""
        return self.means([tensor])[0]

    def means(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean of each over processes, in one message.

        Raises:
            Gone: when another process does not take part.
        """
        if self.size == 1:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with or_gone():
            dist.all_reduce(flat)
        pieces = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        return [piece.reshape(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over processes.

        Raises:
            Gone: when another process does not take part.
        """
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        with or_gone():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.agreements)
        return found.tolist()

    def all_of(self, value: Value) -> list[Value]:
        """The plain values of all processes, in their order.

        Raises:
            Gone: when another process does not take part.
        """
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with or_gone():
            dist.all_gather_object(found, value, group=self.agreements)
        return found

    def each(self, action: Callable[[], Value]) -> Value:
        """What `action` gives here, once it has succeeded in every process.

        Raises:
            Exception: in all processes, where it failed in any: the first one's.
        """
        value, error = _tried(action)
        self._agree(error)
        return value  # type: ignore[return-value]

    def after_first(self, action: Callable[[], Value]) -> Value:
        """As `each`, but the others begin when the first process has succeeded."""
        if self.rank == 0:
            value, error = _tried(action)
            self._agree(error)
        else:
            self._agree(None)
            value, error = _tried(action)
        self._agree(error)
        return value  # type: ignore[return-value]

    def first(self, action: Callable[[], Value]) -> Value:
        """What `action` gives in the first process, which alone takes it: a plain value, for all.

        Raises:
            Exception: in all processes, where it failed.
        """
        value, error = _tried(action) if self.rank == 0 else (None, None)
        self._agree(error)
        return self.all_of(value)[0]  # type: ignore[return-value]

    def _agree(self, error: Exception | None) -> None:
        """Raises what any process has to raise."""
        for found in self.all_of(error if self.size == 1 else _sendable(error)):
            if found is not None:
                raise error or found

    def says(self, error: Exception) -> bool:
        """Whether this process says what went wrong: the first that asks does.

        Where nobody can be asked, the process that keeps count is gone: having said what all of them met, or killed.
        """
        if self.size == 1:
            return True
        try:
            return int(self.store.add("said", 1)) == 1
        except RuntimeError:
            return isinstance(error, Gone)


ALONE = World()


@contextlib.contextmanager
def or_gone() -> Iterator[None]:
    """Turns what PyTorch says of a lost connection into one sentence.

    Raises:
        Gone: for an error within the block.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Gone(
            "another process of this training ended or does not answer; what it said stands above or in its own log; "
            "run the same command again to go on from the last saved state"
        ) from error


def _tried(action: Callable[[], Value]) -> tuple[Value | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:  # noqa: BLE001 - it is raised in every process
        return None, error


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or one with its words where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(str(error))
    return error

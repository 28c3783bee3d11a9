"""Messages between the processes that train one run together, each on its part of every batch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from repro.models.layers import BatchNorm, Together
from repro.optim import Learner
from repro.seeding import Shard
from repro.settings import ConfigError

Value = TypeVar("Value")


class Gone(RuntimeError):
    """Another process of this training ended, or does not answer."""


@dataclass(frozen=True)
class World:
    """One of `size` processes. By default it is alone: then no method costs time or changes a value."""

    rank: int = 0
    size: int = 1
    store: Any = None  # which all processes share
    agreements: Any = None  # the group of processes, by gloo

    @property
    def shard(self) -> Shard:
        """This process's part of every batch."""
        return Shard(self.rank, self.size)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, [size, *shape], without gradient."""
        found = tensor.new_empty(self.size, *tensor.shape)
        with or_gone():
            dist.all_gather(list(found.unbind()), tensor.detach().contiguous())
        return found

    def whole(self, part: Tensor) -> Tensor:
        """The rows of all processes in order of rank, from this process's rows."""
        return part if self.size == 1 else self.gather(part).flatten(0, 1)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes; each gets the same bits."""
        return self.means([tensor])[0]

    def means(self, tensors: list[Tensor]) -> list[Tensor]:
        """The mean of each tensor over processes, in one message."""
        if self.size == 1:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with or_gone():
            dist.all_reduce(flat)
        pieces = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        return [piece.reshape(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over processes."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        with or_gone():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.agreements)
        return found.tolist()

    def all_of(self, value: Value) -> list[Value]:
        """The plain values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with or_gone():
            dist.all_gather_object(found, value, group=self.agreements)
        return found

    def each(self, action: Callable[[], Value], here: bool = True) -> Value:
        """Runs `action` in every process, or those that say `here`; its value once all succeed, or the first error."""
        value, error = None, None
        try:
            value = action() if here else None
        except Exception as failed:  # noqa: BLE001 - it is raised in every process
            error = failed
        for found in self.all_of(error if self.size == 1 else _sendable(error)):
            if found is not None:
                raise error or found
        return value  # type: ignore[return-value]

    def after_first(self, action: Callable[[], Value]) -> Value:
        """Like `each`, but the others begin after the first process has succeeded."""
        first, other = (self.each(action, turn == (self.rank > 0)) for turn in (False, True))
        return other if self.rank else first

    def first(self, action: Callable[[], Value]) -> Value:
        """Runs `action` in the first process alone; returns its plain value, or raises its error, in all processes."""
        return self.all_of(self.each(action, self.rank == 0))[0]

    def says(self, error: Exception) -> bool:
        """Whether this process reports the error: the first that asks. Without an answer, who counts has ended."""
        if self.size == 1:
            return True
        try:
            return int(self.store.add("said", 1)) == 1
        except RuntimeError:
            return isinstance(error, Gone)


ALONE = World()


@contextlib.contextmanager
def or_gone() -> Iterator[None]:
    """Turns PyTorch's error for a lost connection within the block into one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Gone(
            "another process of this training ended or does not answer; what it said stands above or in its own log; "
            "run the same command again to go on from the last saved state"
        ) from error


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or if it cannot be pickled, one with the same message."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(str(error))
    return error


_SECONDS, _MOST_STEPS = 0.5, 64
"""Seconds and most steps between two agreements about stopping: in each, the processes wait for one another."""


FAULTY = (
    "look for a device that computes wrongly, or for processes on different versions of PyTorch; "
    "run the same command again to go on from the last saved state"
)


class Differing(RuntimeError):
    """The processes hold different states."""


class Pace:
    """Asks all processes from time to time whether any of them wants something; a single one at every step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps, self._wait, self._since = 0, 1, time.monotonic()

    def wanted(self, wishes: Sequence[bool], last: bool) -> list[bool]:
        """After a step: whether any process has each wish; all False while it is not yet time to ask.

        A wish of this process stays True until it is asked for. After the `last` step it always asks.
        """
        if self._world.size == 1:
            return list(wishes)
        self._steps += 1
        if self._steps < self._wait and not last:
            return [False] * len(wishes)
        seconds, *found = self._world.most([time.monotonic() - self._since, *wishes])
        steps = int(_SECONDS * self._steps / max(seconds, 1e-9))
        self._steps, self._wait, self._since = 0, max(1, min(_MOST_STEPS, steps)), time.monotonic()
        return [bool(wish) for wish in found]


def require_same(world: World, state: Mapping[str, Tensor], step: int, why: str) -> None:
    """Raises `Differing` when the step, or any bit of a state, is not the same in all processes; `why` ends it."""
    if world.size == 1:
        return
    bits = {name: tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for name, tensor in state.items()}
    mine = {name: hashlib.blake2b(some.numpy().tobytes(), digest_size=8).hexdigest() for name, some in bits.items()}
    mine |= {"step": str(step)}
    first, *others = world.all_of(mine)
    for rank, other in enumerate(others, start=1):
        names = [name for name, digest in first.items() if other.get(name) != digest]
        if names:
            where = f"step {other['step']} in place of {first['step']}" if "step" in names else names[0]
            raise Differing(f"process {rank} does not hold the state of process 0 ({where}); {why}")


PATIENCE = timedelta(minutes=10)
"""How long a process waits for another that does not answer. One that died is noticed at once.

It must exceed the time in which the first process saves a state: the others wait for that.
"""


@contextlib.contextmanager
def connected() -> Iterator[World]:
    """The processes that the environment names, until the block ends; a single one if it names none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(f"WORLD_SIZE = {size}: {', '.join(missing)} are not set; start the processes with torchrun")
    backend = "gloo"
    if torch.cuda.is_available():
        local, there, backend = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count(), "cpu:gloo,cuda:nccl"
        if local >= there:
            raise ValueError(f"LOCAL_RANK = {local}: this machine has {there} GPUs; set --nproc-per-node {there}")
        torch.cuda.set_device(local)
    with or_gone():
        store, rank, _ = next(iter(rendezvous("env://", timeout=PATIENCE)))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        agreements = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield World(rank, size, store, agreements)
    dist.destroy_process_group()


def share(learners: Iterable[Learner], world: World, together: int) -> None:
    """Gives learners gradients of the whole batch, and batch norm the statistics of `together` processes; 0: all."""
    if world.size == 1:
        return
    count = together or world.size
    if world.size % count:
        raise ConfigError(
            f"engine.batch_norm_processes = {together}: {world.size} processes cannot be grouped so; set a divisor of "
            f"{world.size}, or 0 for one group"
        )
    group = Together(world.gather, world.rank // count * count, count)
    for learner in learners:
        learner.reduce = world.means
        for layer in learner.model.modules():
            if isinstance(layer, BatchNorm):
                layer.together = group

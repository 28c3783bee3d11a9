"""Named random streams: every draw is a function of (seed, name, step) and of nothing else.

A draw is SplitMix64 (Steele, Lea, Flood 2014) started from a key that hashes the seed, the stream's name and the step,
so there is no hidden state: a resumed run draws what the uninterrupted run would have drawn, adding a draw to one
stream leaves the others unchanged, and two arms of a comparison see the same batches and views. The integers are the
same on every device and for every thread count.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

Step = int | Tensor
"""A step, counted from 0. Within a recorded step (`repro.train.recorded`) it is int64 [] on the device."""

_GOLDEN = 0x9E3779B97F4A7C15  # the odd integer nearest 2**64 / golden ratio: SplitMix64's increment
_AHEAD = 1 << 16  # most integers computed ahead for a stream: 512 KiB
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as `value` (torch has no usable uint64 arithmetic)."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Logical (zero-filling) right shift of int64."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def splitmix64(state: Tensor) -> Tensor:
    """SplitMix64's output function applied to int64 states of any shape."""
    bits = (state ^ _shift_right(state, 30)) * _signed(_MULTIPLY_1)
    bits = (bits ^ _shift_right(bits, 27)) * _signed(_MULTIPLY_2)
    return bits ^ _shift_right(bits, 31)


def stream_key(seed: int, name: str) -> int:
    """The signed 64-bit key of the stream `name` under `seed`."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return _signed(int.from_bytes(digest, "little"))


def seeds_label(seeds: Sequence[int]) -> str:
    """The name of what belongs to these seeds: `seed-3`, or `seeds-0-49` for seeds trained as one stacked model."""
    return f"seed-{seeds[0]}" if len(seeds) == 1 else f"seeds-{seeds[0]}-{seeds[-1]}"


def seeds_listed(seeds: Sequence[int]) -> str:
    """The seeds as `0,1,2`, the form of the planned seeds in a run's settings."""
    return ",".join(map(str, seeds))


@dataclass(frozen=True)
class Shard:
    """One of `of` equal, contiguous parts of a batch: that of the process `rank`."""

    rank: int = 0
    of: int = 1

    def rows(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This part's rows, along `dim`, of a tensor drawn for the whole batch; `of` must divide their number."""
        count = whole.shape[dim] // self.of
        return whole if self.of == 1 else whole.narrow(dim, self.rank * count, count)


class Drawn:
    """Base of dataclasses with draws for N examples: tensors of N rows, other `Drawn`s, or tuples of these."""

    def rows(self, shard: Shard) -> Self:
        """The draws for a part of the examples."""

        def part(drawn: Any) -> Any:
            if isinstance(drawn, tuple):
                return tuple(map(part, drawn))
            return drawn.rows(shard) if isinstance(drawn, Drawn) else shard.rows(drawn)

        return type(self)(*map(part, vars(self).values()))


@dataclass
class _Block:
    """Integers of several steps, for recorded steps: always in the same place in memory."""

    integers: Tensor  # int64 [steps, *lead, count]
    start: Tensor  # int64 [], the first of these steps
    first: int = -(2**62)  # the same as a Python number; at first a step that never comes


class Streams:
    """All named streams of one seed; or of R stacked seeds: draws [R, *shape], whose row r is of `seeds[r]` alone."""

    def __init__(self, seeds: int | Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = seeds
        self.device = torch.device(device)
        self._keys: dict[str, Tensor] = {}
        self._ahead: dict[tuple[str, int], tuple[int, Tensor]] = {}  # first step and integers [steps, *lead, count]
        self._blocks: dict[tuple[str, int], _Block] = {}  # the same of recorded steps
        self._ready = 0

    @property
    def lead(self) -> tuple[int, ...]:
        """Leading shape of every draw: () for one seed, (R,) for R seeds."""
        return () if isinstance(self.seeds, int) else (len(self.seeds),)

    def _key(self, name: str) -> Tensor:
        if name not in self._keys:
            seeds = [self.seeds] if isinstance(self.seeds, int) else self.seeds
            keys = torch.tensor([stream_key(seed, name) for seed in seeds], dtype=torch.int64, device=self.device)
            self._keys[name] = keys.reshape(self.lead)
        return self._keys[name]

    def bits(self, name: str, step: Step, shape: Sequence[int]) -> Tensor:
        """Uniform 64-bit integers, int64 [*lead, *shape].

        A stream that is read step after step is computed some steps ahead: a small draw costs little but the call.
        """
        count = math.prod(shape)
        if isinstance(step, Tensor):
            return self._recorded(name, step, count).reshape(*self.lead, *shape)
        first, ahead = self._ahead.get((name, count), (0, torch.empty(0)))
        if not first <= step < first + len(ahead):
            sequential = len(ahead) > 0 and step == first + len(ahead)
            most = max(1, _AHEAD // max(1, count * math.prod(self.lead)))
            steps = min(2 * len(ahead), most) if sequential else 1
            first, ahead = step, self._block(name, step, steps, count)
            self._ahead[(name, count)] = (first, ahead)
        return ahead[step - first].reshape(*self.lead, *shape)

    def _recorded(self, name: str, step: Tensor, count: int) -> Tensor:
        """Integers [*lead, count] of a step on the device; all but large ones from a block that `get_ready` fills."""
        steps = _AHEAD // max(1, count * math.prod(self.lead))
        if steps < 2:
            return self._block(name, step, 1, count)[0]
        if (name, count) not in self._blocks:
            # A block made while a GPU records would be recorded too, and filled in every replay.
            assert step.device.type == "cpu" or not torch.cuda.is_current_stream_capturing(), name  # noqa: S101
            block = torch.empty(steps, *self.lead, count, dtype=torch.int64, device=self.device)
            self._blocks[(name, count)] = _Block(block, torch.zeros_like(step))
            self.get_ready(self._ready)
        found = self._blocks[(name, count)]
        return found.integers.index_select(0, (step - found.start).reshape(1))[0]

    def get_ready(self, step: int) -> None:
        """Prepares what a recorded step will draw at step number `step`, in the same memory as before."""
        self._ready = step
        for (name, count), block in self._blocks.items():
            if not block.first <= step < block.first + len(block.integers):
                block.first = step
                block.start.fill_(step)
                block.integers.copy_(self._block(name, step, len(block.integers), count))

    def _block(self, name: str, first: Step, steps: int, count: int) -> Tensor:
        """Integers of `steps` steps from `first` on, int64 [steps, *lead, count]."""
        # Made on the device: a copy to it would make the host wait in every step.
        by_step = (torch.arange(steps, dtype=torch.int64, device=self.device) + first) * _signed(_GOLDEN)
        start = splitmix64(self._key(name) + by_step.reshape(steps, *[1] * len(self.lead)))
        increments = torch.arange(1, count + 1, dtype=torch.int64, device=self.device) * _signed(_GOLDEN)
        return splitmix64(start[..., None] + increments)

    def uniform(self, name: str, step: Step, shape: Sequence[int]) -> Tensor:
        """Uniform float32 in [0, 1): multiples of 2**-24, [*lead, *shape]."""
        return _shift_right(self.bits(name, step, shape), 40).to(torch.float32) * 2.0**-24

    def normal(self, name: str, step: Step, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 by inversion (|value| < 5.5), [*lead, *shape]."""
        centred = (_shift_right(self.bits(name, step, shape), 40).to(torch.float64) + 0.5) * 2.0**-24
        return torch.special.ndtri(centred).to(torch.float32)  # type: ignore[no-any-return]

    def integers(self, name: str, step: Step, high: int | Tensor, shape: Sequence[int]) -> Tensor:
        """Uniform integers in [0, high), int64 [*lead, *shape]; the bias is below high / 2**40."""
        if isinstance(high, int) and not 0 < high <= 1 << 22:
            raise ValueError(f"integers: high = {high} must lie in 1..2**22, where 64-bit arithmetic does not overflow")
        return (_shift_right(self.bits(name, step, shape), 24) * high) >> 40

    def permutation(self, name: str, step: Step, n: int) -> Tensor:
        """A uniform permutation of range(n), int64 [*lead, n]."""
        return self.bits(name, step, (n,)).argsort(dim=-1, stable=True)


class Draws:
    """The streams at one step. A method gets these, so that it cannot draw outside its step.

    If several processes share a batch, each draws for the whole batch and keeps its own rows: together they use the
    numbers that a single process would.
    """

    def __init__(self, streams: Streams, step: Step, shard: Shard = Shard()) -> None:
        self._streams, self._step, self._shard = streams, step, shard

    def uniform(self, name: str, shape: Sequence[int], parts: Sequence[int] = ()) -> Tensor:
        """See `Streams.uniform`; for examples [N, ...], where N is the sum of the concatenated `parts`."""
        of, lead = self._shard.of, len(self._streams.lead)
        drawn = self._streams.uniform(name, self._step, (shape[0] * of, *shape[1:]))
        if of == 1:
            return drawn
        wholes = torch.split(drawn, [of * part for part in parts or shape[:1]], dim=lead)
        return torch.cat([self._shard.rows(whole, lead) for whole in wholes], dim=lead)

    def integers(self, name: str, high: int | Tensor, shape: Sequence[int]) -> Tensor:
        """See `Streams.integers`; the same for all processes."""
        return self._streams.integers(name, self._step, high, shape)

    def seed(self, name: str) -> int:
        """The seed of a PyTorch generator, for a network that draws by itself; the same in all processes."""
        assert isinstance(self._streams.seeds, int)  # noqa: S101 - no such network is stacked
        return stream_key(self._streams.seeds, f"{name}/{self._step}")

    def permutation(self, name: str, n: int) -> Tensor:
        """See `Streams.permutation`."""
        return self._streams.permutation(name, self._step, n)

"""What this device can do at best: a large matrix product, and a large copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from repro.bench.clock import seconds_of
from repro.settings import Precision

_SIDE = {"cpu": 2048, "cuda": 8192}
_COPY = {"cpu": 2**26, "cuda": 2**28}  # float32 numbers; more than any cache holds
_REPEATS = {"cpu": 5, "cuda": 20}  # a GPU's clock rises with work


@dataclass(frozen=True)
class Ceilings:
    """Of one device: no step can be faster than its arithmetic by the one, or than its traffic by the other."""

    flops: dict[str, float]  # a second, of a matrix product, by precision
    bytes: float  # a second, read and written by a copy


def measure_ceilings(device: torch.device) -> Ceilings:
    """The best of a few repeats of each, with the threads that this process has."""
    side, count = _SIDE[device.type], _COPY[device.type]
    flops = {}
    for precision in Precision:
        # Of equal numbers a GPU takes less power, and is faster than it is with any data.
        waves = torch.arange(side * side, dtype=torch.float32, device=device).sin().reshape(side, side)
        a, b = (waves.to(getattr(torch, precision.value)) for _ in range(2))
        flops[precision.value] = 2 * side**3 / _best(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    return Ceilings(flops, 2 * source.numel() * source.element_size() / _best(lambda: target.copy_(source), device))


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest call, after one that is not timed."""
    call()
    return min(seconds_of(call, device) for _ in range(_REPEATS[device.type]))

"""Views of points in the plane: the weak view is the point itself, the strong one is jittered."""

from __future__ import annotations

from torch import Tensor

from repro.seeding import Step, Streams


def draw_strong(streams: Streams, step: Step, count: int, jitter: float, name: str = "strong view") -> Tensor:
    """Offsets of standard deviation `jitter` for `count` points, float32 [*lead, count, 2], from the stream `name`."""
    return streams.normal(name, step, (count, 2)) * jitter


def apply(points: Tensor, offsets: Tensor) -> Tensor:
    """Points [*lead, count, 2] moved by offsets of the same shape."""
    return points + offsets

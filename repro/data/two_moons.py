"""Two interleaving half circles: the paper's toy data (section 3.1), drawn afresh for each seed.

The points are computed in float64 and rounded to 4 decimals, so that their hash is the same on every machine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repro.config.data import Placement, TwoMoonsData
from repro.data.sets import HeldOutSet, Seeds, TrainingSet
from repro.seeding import Streams

CLASSES = 2


def _moons(streams: Streams, name: str, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """`count` points and classes in turn 0, 1, 0, 1, ...; the angle along the arc is uniform in [0, pi]."""
    angle = streams.uniform(f"{name} angle", 0, (count,)).to(torch.float64) * math.pi
    jitter = streams.normal(f"{name} noise", 0, (count, 2)).to(torch.float64) * noise
    return _on_arc(angle) + jitter, (torch.arange(count) % 2).expand(*streams.lead, count)


def _on_arc(angle: Tensor) -> Tensor:
    """Noise-free points [..., n, 2] at angles [..., n] of the two arcs in turn."""
    upper = torch.stack([angle.cos(), angle.sin()], dim=-1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=-1)
    is_upper = (torch.arange(angle.shape[-1]) % 2 == 0)[:, None]
    return torch.where(is_upper, upper, lower)


def _rounded(points: Tensor) -> Tensor:
    return points.round(decimals=4).to(torch.float32)


def training_set(config: TwoMoonsData, seeds: Seeds) -> TrainingSet:
    """`labels` labelled points, half in each moon, and the other `points - labels` unlabelled."""
    streams = Streams(seeds)
    points, classes = _moons(streams, "moons", config.points, config.noise)
    if config.placement is Placement.spread:
        angle = (torch.arange(config.labels, dtype=torch.float64) // 2 + 0.5) / (config.labels // 2) * math.pi
        jitter = streams.normal("label noise", 0, (config.labels, 2)).to(torch.float64) * config.noise
        points = torch.cat([_on_arc(angle) + jitter, points[..., config.labels :, :]], dim=-2)
    points = _rounded(points)
    index = torch.arange(config.points).expand(*streams.lead, config.points)
    chosen, rest = (slice(None, config.labels), slice(config.labels, None))
    return TrainingSet(
        labelled=points[..., chosen, :],
        labels=classes[..., chosen],
        unlabelled=points[..., rest, :],
        hidden_labels=classes[..., rest],
        labelled_indices=index[..., chosen],
        unlabelled_indices=index[..., rest],
    )


def held_out_set(config: TwoMoonsData, seeds: Seeds) -> HeldOutSet:
    """`test_points` fresh points of the same distribution."""
    streams = Streams(seeds)
    points, classes = _moons(streams, "test moons", config.test_points, config.noise)
    return HeldOutSet(_rounded(points), classes)

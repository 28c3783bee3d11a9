"""Arithmetic on lists of tensors that together are one vector, or R stacked vectors with leading shape `lead`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def inner_product(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """<a, b> for each of the stacked vectors: [*lead]."""
    return (_flat(a, lead) * _flat(b, lead)).sum(dim=-1)


def norm(a: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Euclidean length of each of the stacked vectors: [*lead]."""
    return _length(_flat(a, lead))


def cosine(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Cosine of the angle between a and b, 0 where either has no length: [*lead]."""
    first, second = _flat(a, lead), _flat(b, lead)
    lengths = _length(first) * _length(second)
    inner = (first * second).sum(dim=-1)
    return torch.where(lengths > 0, inner / lengths.clamp_min(torch.finfo(lengths.dtype).tiny), 0.0)


def _flat(a: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """One tensor [*lead, n]: its sum is one operation, where that of many tensors is many."""
    return torch.cat([tensor.flatten(len(lead)) for tensor in a], dim=-1)


def _length(flat: Tensor) -> Tensor:
    return (flat * flat).sum(dim=-1).sqrt()


def clip_norm(gradients: Sequence[Tensor], bound: float, lead: tuple[int, ...]) -> list[Tensor]:
    """The gradients, scaled down to length `bound` where they are longer; those given are left alone."""
    scale = bound / norm(gradients, lead).clamp_min(bound)
    return [gradient * scale.reshape((*lead, *[1] * (gradient.dim() - len(lead)))) for gradient in gradients]

"""Arithmetic on lists of tensors that together are one vector, or R stacked vectors with leading shape `lead`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def inner_product(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """<a, b> for each of the stacked vectors: [*lead]."""
    products = torch._foreach_mul(list(a), list(b))
    return torch.stack([product.flatten(len(lead)).sum(dim=-1) for product in products]).sum(dim=0)


def norm(a: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Euclidean length of each of the stacked vectors: [*lead]."""
    return inner_product(a, a, lead).sqrt()


def cosine(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Cosine of the angle between a and b, 0 where either has no length: [*lead]."""
    lengths = norm(a, lead) * norm(b, lead)
    return torch.where(lengths > 0, inner_product(a, b, lead) / lengths.clamp_min(torch.finfo(lengths.dtype).tiny), 0.0)


def clip_norm(gradients: Sequence[Tensor], bound: float, lead: tuple[int, ...]) -> list[Tensor]:
    """The gradients, scaled down to length `bound` where they are longer; those given are left alone."""
    scale = bound / norm(gradients, lead).clamp_min(bound)
    return [gradient * scale.reshape((*lead, *[1] * (gradient.dim() - len(lead)))) for gradient in gradients]

"""Mixup (Zhang et al. 2018, arXiv 1710.09412): each example of a batch is mixed with another. Draw, then apply."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.seeding import Draws


@dataclass(frozen=True)
class Mix:
    """What is drawn for one batch of N examples."""

    weight: Tensor  # float64 [*lead]: of the example itself; one for the batch, as in the authors' code
    partner: Tensor  # int64 [*lead, N]: a permutation; an example may be its own partner


def draw_mix(draws: Draws, name: str, a: float, count: int) -> Mix:
    """A weight from Beta(a, a) and a permutation of `count` examples, from streams called `name` and a word more."""
    weight = symmetric_beta(draws.uniform(f"{name} radius", (1,)), draws.uniform(f"{name} angle", (1,)), a)
    return Mix(weight.squeeze(-1), draws.permutation(f"{name} partner", count))


def symmetric_beta(first: Tensor, second: Tensor, a: float) -> Tensor:
    """Beta(a, a) variates, float64, from two uniform ones of [0, 1) each, of the same shape.

    1/2 + cos(2 pi v) / (2 sqrt(cos(2 pi v)^2 + 1 / (u^(-1/a) - 1))): exact for every a > 0 (Bailey 1994, Student's t
    with 2 a degrees of freedom; Devroye 1996), but for rounding, which makes 0 or 1 of what is within 1e-16 of it, and
    for the grid of the uniform numbers: the middles of 2**24 equal steps are taken.
    """
    u, v = (uniform.to(torch.float64) + 2.0**-25 for uniform in (first, second))
    cosine = torch.cos(2 * math.pi * v)
    spread = torch.expm1(-torch.log(u) / a)  # u^(-1/a) - 1: near 0 where u is near 1, infinite where a is small
    return 0.5 + cosine / (2 * torch.sqrt(cosine * cosine + 1 / spread))


def apply_mix(values: Tensor, mix: Mix) -> Tensor:
    """Values [*lead, N, ...] times the weight, and those of the partners times the rest; the same shape."""
    lead = mix.weight.dim()
    behind = values.dim() - lead - 1
    index = mix.partner.reshape(*mix.partner.shape, *[1] * behind).expand(values.shape)
    weight = mix.weight.to(values.dtype).reshape(*mix.weight.shape, *[1] * (behind + 1))
    return weight * values + (1 - weight) * values.gather(lead, index)

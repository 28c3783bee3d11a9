"""Layers whose randomness and statistics are explicit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalisation over [N, C, H, W] as in the released code.

    Training mode normalises by the batch. The running statistics move by `1 - decay` towards the batch's mean and
    *biased* variance (PyTorch's own layer uses the unbiased one), and only inside no `frozen_statistics` block.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, decay: float = 0.99, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.decay, self.epsilon, self.tracking = decay, epsilon, True
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        if self.training and self.tracking:
            with torch.no_grad():
                variance, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0)
                self.running_mean.lerp_(mean, 1 - self.decay)
                self.running_variance.lerp_(variance, 1 - self.decay)
        if self.training:
            return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.epsilon)
        statistics = (self.running_mean, self.running_variance)
        return nn.functional.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.epsilon)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Training-mode forward passes that leave the running statistics alone."""
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
    before = [layer.tracking for layer in layers]
    try:
        for layer in layers:
            layer.tracking = False
        yield
    finally:
        for layer, tracking in zip(layers, before, strict=True):
            layer.tracking = tracking


def dropout(x: Tensor, rate: float, noise: Tensor | None) -> Tensor:
    """Zeroes the entries of x [N, F] whose uniform `noise` is below `rate` and scales the rest by 1 / (1 - rate).

    Raises:
        ValueError: without noise, since a layer must not find randomness of its own.
    """
    if noise is None:
        raise ValueError(f"dropout at rate {rate} wants uniform noise of shape {tuple(x.shape)}, and got none")
    return x * (noise >= rate).to(x.dtype) / (1 - rate)

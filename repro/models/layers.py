"""Layers whose randomness and statistics are explicit, and convolutions padded as TensorFlow pads them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.models.joint_norm import Together, joint_batch_norm
from repro.seeding import Streams


class BatchNorm(nn.Module):
    """Batch normalisation over [N, C, H, W] as in the released code.

    Training mode normalises by the batch. The running statistics move by `1 - decay` towards the batch's mean and
    *biased* variance (PyTorch's own layer uses the unbiased one), and only outside a `frozen_statistics` block, which
    forward-mode derivatives want.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, decay: float = 0.99, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.decay, self.epsilon, self.tracking = decay, epsilon, True
        self.together: Together | None = None  # the processes that share the batch; none but this one
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape.

        Raises:
            ValueError: in training, for a single value per channel, which has no variance.
        """
        affine = (self.weight, self.bias)
        if not self.training:
            statistics = (self.running_mean, self.running_variance)
            return functional.batch_norm(x, *statistics, *affine, training=False, eps=self.epsilon)
        if self.together is not None:
            y, mean, variance = joint_batch_norm(x, *affine, self.epsilon, self.together)
            if self.tracking:
                self._move(mean, variance)
            return y
        if not self.tracking:
            return functional.batch_norm(x, None, None, *affine, training=True, eps=self.epsilon)
        # With momentum 1 the statistics given are replaced by the batch's, which the kernel has computed anyway.
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_variance)
        y = functional.batch_norm(x, mean, variance, *affine, training=True, momentum=1.0, eps=self.epsilon)
        values = x.numel() // x.shape[1]
        self._move(mean, variance * ((values - 1) / values))
        return y

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """The running statistics, towards the batch's."""
        self.running_mean.lerp_(mean, 1 - self.decay)
        self.running_variance.lerp_(variance, 1 - self.decay)


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


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Pixels before and after one dimension in TensorFlow's SAME padding: ceil(size / stride) outputs.

    An odd number puts the larger half after: at stride 2 and even size, 0 and 1 for a window of 3, 2 and 3 for 7.
    """
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def same_convolution(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """[N, C, H, W] and kernel [D, C, k, k] to [N, D, ceil(H / stride), ceil(W / stride)], padded with zeros."""
    top, bottom = same_padding(x.shape[-2], kernel.shape[-2], stride)
    left, right = same_padding(x.shape[-1], kernel.shape[-1], stride)
    if (top, left) == (bottom, right):
        return functional.conv2d(x, kernel, stride=stride, padding=(top, left))
    return functional.conv2d(functional.pad(x, (left, right, top, bottom)), kernel, stride=stride)


def same_max_pool(x: Tensor, window: int, stride: int) -> Tensor:
    """Largest value of each window, [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)]; padding never wins."""
    top, bottom = same_padding(x.shape[-2], window, stride)
    left, right = same_padding(x.shape[-1], window, stride)
    return functional.max_pool2d(functional.pad(x, (left, right, top, bottom), value=-math.inf), window, stride)


def initial_kernel(streams: Streams, name: str, outputs: int, inputs: int, size: int) -> nn.Parameter:
    """A convolution's start [outputs, inputs, size, size]: normal, variance 2 / (size^2 outputs) (released code)."""
    normal = streams.normal(name, 0, (outputs, inputs, size, size))
    return nn.Parameter(normal * math.sqrt(2 / (size * size * outputs)))


def initial_dense(streams: Streams, name: str, classes: int, features: int) -> nn.Parameter:
    """A dense layer's start [classes, features]: uniform within 1 / sqrt(classes) (released code)."""
    unit = streams.uniform(name, 0, (classes, features)) * 2 - 1
    return nn.Parameter(unit / math.sqrt(classes))

"""Layers whose randomness and statistics are explicit, and convolutions padded as TensorFlow pads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        self.moves: list[Move] | None = None  # of the pass, within `moved_together`
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape; in training a single value per channel, without variance, is refused."""
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
        mean, variance = self.running_mean.new_zeros(2, x.shape[1]).unbind()
        y = functional.batch_norm(x, mean, variance, *affine, training=True, momentum=1.0, eps=self.epsilon)
        values = x.numel() // x.shape[1]
        self._move(mean, variance, (values - 1) / values)
        return y

    def _move(self, mean: Tensor, variance: Tensor, biased: float = 1.0) -> None:
        """The running statistics, towards the batch's; a compiler makes of these few operations one by itself."""
        moves = [Move(self.running_mean, mean, self.decay), Move(self.running_variance, variance, self.decay, biased)]
        if self.moves is None or torch.compiler.is_compiling():
            move(moves)
        else:
            self.moves += moves


@dataclass(frozen=True)
class Move:
    """Of a running statistic, by 1 - `decay` towards the batch's times `factor`, both [C]."""

    running: Tensor
    batch: Tensor
    decay: float
    factor: float = 1.0


@torch.no_grad()
def move(moves: Sequence[Move]) -> None:
    """All of them at once: on a GPU a kernel for many layers, where a step has hundreds of statistics."""
    if moves:
        towards = torch._foreach_mul([one.batch for one in moves], [one.factor for one in moves])
        torch._foreach_lerp_([one.running for one in moves], towards, [1 - one.decay for one in moves])


@contextmanager
def moved_together(model: nn.Module) -> Iterator[None]:
    """A pass after which all running statistics move."""
    moves: list[Move] = []
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
    try:
        for layer in layers:
            layer.moves = moves
        yield
        move(moves)
    finally:
        for layer in layers:
            layer.moves = None


_TORCH_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMS = (BatchNorm, *_TORCH_BATCH_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm,
         nn.GroupNorm, nn.RMSNorm)  # fmt: skip
"""Layers whose parameters are scales and shifts, PyTorch's own among them; no weight decay applies to those."""


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Training-mode forward passes that leave the running statistics alone, those of PyTorch's batch norm too."""
    switches: list[tuple[nn.Module, str]]
    switches = [(layer, "tracking") for layer in model.modules() if isinstance(layer, BatchNorm)]
    switches += [(m, "track_running_stats") for m in model.modules() if isinstance(m, _TORCH_BATCH_NORMS)]
    before = [getattr(layer, switch) for layer, switch in switches]
    try:
        for layer, switch in switches:
            setattr(layer, switch, False)
        yield
    finally:
        for (layer, switch), tracking in zip(switches, before, strict=True):
            setattr(layer, switch, tracking)


def dropout(x: Tensor, rate: float, noise: Tensor | None) -> Tensor:
    """Zeroes the entries of x [N, F] whose uniform `noise` is below `rate` and scales the rest by 1 / (1 - rate)."""
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


@dataclass(frozen=True)
class Together:
    """The processes that share a batch in equal parts, and those of them whose parts are normalised together."""

    gather: Callable[[Tensor], Tensor]  # from this process's to those of all, [processes, *shape]; all must call it
    first: int  # of the processes in this one's group, which are consecutive
    count: int  # of them

    def group(self, of_all: Tensor) -> Tensor:
        """Those of the group, [count, *shape]."""
        return of_all[self.first : self.first + self.count]


def joint_batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, together: Together
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises x [N, C, H, W] by mean and biased variance of the group's whole batch; weight and bias [C].

    Returns these rows of what `functional.batch_norm` gives for the whole batch; and mean and biased variance [C],
    averaged over groups and without gradient, for the running statistics. Every process has x of the same shape.
    """
    with torch.no_grad():
        of_all = together.gather(moments(x))
        mean, variance = combined(together.group(of_all))
        running = torch.stack([combined(part) for part in torch.split(of_all, together.count)]).mean(dim=0)
    y: Tensor = _Normalise.apply(x, weight, bias, mean, variance, epsilon, together)
    return y, running[0], running[1]


def moments(x: Tensor) -> Tensor:
    """Mean and biased variance of each channel of x [N, C, H, W], at least float32, [2, C]."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
    return torch.stack([mean, variance])


def combined(parts: Tensor) -> Tensor:
    """Moments [2, C] of equal parts put together, from theirs [parts, 2, C]: no small difference of large squares.

    The variance is that within parts and that of their means (Chan, Golub, LeVeque 1983, Eq. 2.1, for equal counts).
    """
    mean = parts[:, 0].mean(dim=0)
    return torch.stack([mean, (parts[:, 1] + (parts[:, 0] - mean).square()).mean(dim=0)])


class _Normalise(torch.autograd.Function):
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, where mean and variance are those of all x of the group.

    Their dependence on x, in every process of the group, is in the derivatives. PyTorch's own kernels do the passes
    over x: in evaluation mode, which takes statistics as given.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float, _: Together
    ) -> Tensor:
        return _affine(x, weight, bias, mean, variance, epsilon)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        x, weight, _bias, mean, variance, ctx.epsilon, ctx.together = inputs
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.save_for_forward(x, weight, mean, variance)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The group's sums of gradients, and of gradients times normalised x, are what mean and variance pass on."""
        x, weight, mean, variance = ctx.saved_tensors
        deviation = (variance + ctx.epsilon).sqrt()
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.epsilon, [True, True, True]
        )
        sums = ctx.together.group(ctx.together.gather(torch.stack([of_weight, of_bias]))).mean(dim=0)
        scale = weight / deviation / (x.numel() // x.shape[1])
        through_statistics = _affine(x, scale * sums[0], scale * sums[1], mean, variance, ctx.epsilon)
        return direct - through_statistics, of_weight, of_bias, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor, weight_t: Tensor | None, bias_t: Tensor | None, *_: None) -> Tensor:
        x, weight, mean, variance = ctx.saved_tensors
        deviation = (variance + ctx.epsilon).sqrt()
        ones, zeros = torch.ones_like(weight), torch.zeros_like(weight)
        normalised = _affine(x, ones, zeros, mean, variance, ctx.epsilon)
        changes = torch.stack([x_t.mean(dim=(0, 2, 3)), (x_t * normalised).mean(dim=(0, 2, 3))])
        change = ctx.together.group(ctx.together.gather(changes)).mean(dim=0)[..., None, None]
        moved: Tensor = (x_t - change[0] - normalised * change[1]) * (weight / deviation)[:, None, None]
        if weight_t is not None:
            moved = moved + normalised * weight_t[:, None, None]
        return moved if bias_t is None else moved + bias_t[:, None, None]


def _affine(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """In one pass: weight (x - mean) / sqrt(variance + epsilon) + bias, [N, C, H, W]."""
    return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=epsilon)

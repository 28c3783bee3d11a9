"""Batch normalisation by a batch whose parts lie in several processes: all gather the moments of each part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Together:
    """The processes that share a batch in equal parts, and those of them whose parts are normalised together.

    Args:
        gather: from a tensor of this process to those of all, [processes, *shape]; every process must call it.
        first: of the processes in this one's group, which are consecutive.
        count: of them.
    """

    gather: Callable[[Tensor], Tensor]
    first: int
    count: int

    def group(self, of_all: Tensor) -> Tensor:
        """Those of the group, [count, *shape]."""
        return of_all[self.first : self.first + self.count]


def joint_batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, together: Together
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises x by mean and biased variance of the group's whole batch.

    Args:
        x: [N, C, H, W], the same shape in every process.
        weight: [C], multiplies what is normalised.
        bias: [C], is added to it.
        epsilon: added to the variance.
        together: the processes.

    Returns:
        What `torch.nn.functional.batch_norm` gives for the whole batch, of which these are the rows [N, C, H, W]; mean
        [C] and biased variance [C], averaged over groups and without gradient, for the running statistics.
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

"""Networks and layers whose randomness and statistics are explicit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro.models import Activation, MoonsNet, SmallConv
from repro.models.layers import BatchNorm, dropout, frozen_statistics, same_convolution, same_max_pool, same_padding
from repro.models.networks import SmallConvNet, StackedMlp
from repro.seeding import Streams

IMAGES = Streams(0).uniform("images", 0, (6, 1, 8, 8))


def test_batch_norm_normalises_by_the_batch_or_by_its_statistics() -> None:
    """Training mode uses the batch, evaluation the running statistics, with epsilon 1e-3."""
    layer, x = BatchNorm(3).double(), Streams(0).normal("x", 0, (4, 3, 2, 2)).double() * 2 + 5
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)

    torch.testing.assert_close(layer(x), (x - mean) / (variance + 1e-3).sqrt(), rtol=0, atol=1e-12)
    mean, variance = (s.reshape(1, 3, 1, 1) for s in (layer.running_mean, layer.running_variance))
    before = layer.running_mean.clone()
    torch.testing.assert_close(layer.eval()(x), (x - mean) / (variance + 1e-3).sqrt(), rtol=0, atol=1e-12)
    assert torch.equal(before, layer.running_mean)


def test_dropout_masks_by_its_noise() -> None:
    """Entries whose noise is below the rate are 0, the others scaled, so that the mean stays."""
    noise = Streams(0).uniform("noise", 0, (200, 100))
    out = dropout(torch.ones(200, 100), 0.2, noise)

    assert torch.equal(noise < 0.2, out == 0)
    assert {0.0, 1.25} == set(out.unique().tolist())
    assert 0.2 == pytest.approx(float((out == 0).double().mean()), abs=0.0113)  # 4 standard errors of 20,000 draws


def test_small_conv_by_plain_functions() -> None:
    """The network is three convolutions, the second with stride 2, LeakyReLU 0.2, a mean pool and a dense layer."""
    model = SmallConvNet(SmallConv(width=2, dropout=0.2), 10, Streams(0), "init").eval()
    x = IMAGES
    for kernel, stride in zip(model.convolutions, (1, 2, 1), strict=True):
        x = functional.leaky_relu(functional.conv2d(x, kernel, None, stride, 1) / (1 + 1e-3) ** 0.5, 0.2)
    expected = x.mean((2, 3)) @ model.dense.T + model.bias

    torch.testing.assert_close(model(IMAGES), expected, rtol=1e-4, atol=1e-6)  # float32 over 36-term convolutions


@pytest.mark.parametrize("activation", list(Activation))
def test_stacked_net_by_plain_functions(activation: Activation) -> None:
    """Net r of a stack is two hidden layers of its own weights and no others, which lie within the initial range."""
    model = StackedMlp(MoonsNet(activation=activation, initial_range=0.5), 2, Streams([4, 9]), "init teacher").double()
    x = Streams([4, 9]).normal("x", 0, (7, 2)).double()
    function = {Activation.sigmoid: torch.sigmoid, Activation.tanh: torch.tanh}[activation]
    for r in range(2):
        pieces = model.weights[r].split([16, 8, 64, 8, 16, 2])
        w1, w2, w3 = pieces[0].reshape(2, 8), pieces[2].reshape(8, 8), pieces[4].reshape(8, 2)
        b1, b2, b3 = pieces[1], pieces[3], pieces[5]
        expected = function(function(x[r] @ w1 + b1) @ w2 + b2) @ w3 + b3
        torch.testing.assert_close(model(x)[r], expected, rtol=0, atol=1e-12)  # float64 rounding
    assert [(2, 114)] == [tuple(p.shape) for p in model.parameters()]
    assert 0.45 < float(model.weights.detach().abs().max()) <= 0.5


# Layers


def normal(*shape: int) -> Tensor:
    """Normal float64 numbers."""
    return Streams(0).normal("x", 0, shape).double()


def by_definition(x: Tensor, window: int, stride: int, fill: float) -> Tensor:
    """Windows [N, C, H', W', window, window]: ceil(size / stride), the first half the missing pixels early."""
    outputs = [math.ceil(size / stride) for size in x.shape[2:]]
    firsts = [-(max((n - 1) * stride + window - size, 0) // 2) for n, size in zip(outputs, x.shape[2:], strict=True)]
    found = torch.full((*x.shape[:2], *outputs, window, window), fill, dtype=x.dtype)
    for i in range(outputs[0]):
        for j in range(outputs[1]):
            for a in range(window):
                for b in range(window):
                    row, column = firsts[0] + i * stride + a, firsts[1] + j * stride + b
                    if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                        found[:, :, i, j, a, b] = x[:, :, row, column]
    return found


@pytest.mark.parametrize(("size", "window", "stride", "expected"), [
    (32, 3, 1, (1, 1)), (32, 3, 2, (0, 1)), (33, 3, 2, (1, 1)), (224, 7, 2, (2, 3)), (225, 7, 2, (3, 3)),
    (32, 1, 2, (0, 0)), (33, 1, 2, (0, 0)), (112, 3, 2, (0, 1)), (1, 3, 2, (1, 1)), (2, 3, 2, (0, 1)),
])  # fmt: skip
def test_same_padding(size: int, window: int, stride: int, expected: tuple[int, int]) -> None:
    """Pixels before and after."""
    assert expected == same_padding(size, window, stride)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2), (2, 2)])
@pytest.mark.parametrize("height", [7, 8])
def test_same_convolution_by_definition(height: int, window: int, stride: int) -> None:
    """A sum over windows of zero-padded input, for even and odd sizes, other in height than in width."""
    x, kernel = normal(2, 3, height, 6), normal(4, 3, window, window)
    expected = torch.einsum("ncijab,dcab->ndij", by_definition(x, window, stride, 0.0), kernel)

    torch.testing.assert_close(same_convolution(x, kernel, stride), expected, rtol=0, atol=1e-12)  # float64 rounding


@pytest.mark.parametrize("height", [7, 8])
def test_same_max_pool_by_definition(height: int) -> None:
    """The largest of each window of values that are all negative, so that a padded zero would win."""
    x = -1 - normal(2, 3, height, 6).abs()

    assert torch.equal(by_definition(x, 3, 2, -math.inf).amax(dim=(-2, -1)), same_max_pool(x, 3, 2))


def moved(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """The batch's mean and variance, from how the statistics moved."""
    rate = 1 - layer.decay
    return layer.running_mean / rate, (layer.running_variance - layer.decay) / rate


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (4, 3, 5, 7), (64, 3, 16, 16)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_batch_statistics(shape: tuple[int, ...], memory: torch.memory_format) -> None:
    """Mean and biased variance of the batch, from two values a channel on."""
    layer, x = BatchNorm(3).double(), normal(*shape) * 2 + 5
    layer(x.to(memory_format=memory))

    # float64 rounding, times 100
    torch.testing.assert_close(moved(layer)[0], x.mean((0, 2, 3)), rtol=0, atol=1e-11)
    torch.testing.assert_close(moved(layer)[1], x.var((0, 2, 3), correction=0), rtol=0, atol=1e-11)


def test_statistics_stay_float32_under_mixed_precision() -> None:
    """A bfloat16 input moves float32 statistics by its own mean and variance, and comes out as bfloat16."""
    layer, x = BatchNorm(3), (normal(64, 3, 8, 8) * 2 + 5).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)

    assert (torch.bfloat16, torch.float32, torch.float32) == (y.dtype, layer.running_mean.dtype, moved(layer)[1].dtype)
    # float32 sums of 4,096 numbers; rounding to bfloat16 would be off by 2e-2
    torch.testing.assert_close(moved(layer)[0].double(), x.double().mean((0, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(moved(layer)[1].double(), x.double().var((0, 2, 3), correction=0), rtol=1e-3, atol=0)


def test_statistics_move_in_training_alone() -> None:
    """Neither evaluation nor a frozen pass moves them, and a frozen pass gives what a moving one gives."""
    layer, x = BatchNorm(3), normal(4, 3, 5, 5).float()
    start = [buffer.clone() for buffer in layer.buffers()]
    layer.eval()(x)
    with frozen_statistics(layer.train()):
        frozen = layer(x)
    assert all(torch.equal(a, b) for a, b in zip(start, layer.buffers(), strict=True))

    assert torch.equal(frozen, layer(x))
    assert not any(torch.equal(a, b) for a, b in zip(start, layer.buffers(), strict=True))


@pytest.mark.parametrize("tracking", [True, False])
def test_gradient_passes_through_the_batch(tracking: bool) -> None:
    """Gradients of input, scale and shift are those of the formula, statistics moving or not."""
    layer, x = BatchNorm(3).double(), normal(4, 3, 5, 5).requires_grad_()
    layer.tracking = tracking
    weight, bias = (p.detach().clone().requires_grad_() for p in layer.parameters())
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    formula = (x - mean) / (variance + 1e-3).sqrt() * weight[:, None, None] + bias[:, None, None]
    cotangent = functional.pad(normal(4, 3, 5, 4), (0, 1))

    actual = torch.autograd.grad((layer(x) * cotangent).sum(), [x, *layer.parameters()])

    for a, e in zip(actual, torch.autograd.grad((formula * cotangent).sum(), [x, weight, bias]), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-12)  # float64 rounding

"""Networks and layers whose randomness and statistics are explicit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from repro.models import Activation, MoonsNet, SmallConv
from repro.models.layers import BatchNorm, dropout
from repro.models.networks import SmallConvNet, StackedMlp, build_model
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


def test_dropout_needs_noise_in_training_only() -> None:
    """A training pass without noise is refused; evaluation needs none and is repeatable."""
    model = build_model(SmallConv(width=2, dropout=0.5), 10, Streams(0), "teacher")

    with pytest.raises(ValueError, match=r"dropout at rate 0.5 wants uniform noise of shape"):
        model(IMAGES)
    assert torch.equal(model.eval()(IMAGES), model(IMAGES))


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


def test_small_conv_initial_spread() -> None:
    """Convolutions start normal with variance 2 / (9 outputs), the dense layer uniform within 1 / sqrt(classes)."""
    model = SmallConvNet(SmallConv(width=16), 10, Streams(0), "init")

    # 9,216 draws: 4 standard errors of their standard deviation are 3 %
    assert (2 / (9 * 32)) ** 0.5 == pytest.approx(float(model.convolutions[2].detach().std()), rel=0.03)
    assert 0.9 * 10**-0.5 < float(model.dense.detach().abs().max()) <= 10**-0.5
    assert not model.bias.any()


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

"""Optimiser, schedules, averages: against PyTorch's own and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from repro.models import SmallConv
from repro.models.layers import BatchNorm
from repro.models.networks import SmallConvNet
from repro.optim import Learner, average_decay, clip_norm, learning_rate, norm, ramp
from repro.seeding import Streams
from repro.settings import Optimiser, Schedule
from tests.tiny import TinyNet

CLOSE = {"rtol": 0.0, "atol": 1e-13}  # float64 rounding over five steps of numbers near 1


def test_schedules_by_hand() -> None:
    """A constant rate after its warm-up; a weight that is 0 at step 0 and 1 from the last ramp step on; the average."""
    config = Optimiser(0.4, Schedule.constant, warmup_steps=4)

    assert [0.1, 0.2, pytest.approx(0.3), 0.4, 0.4, 0.4] == [learning_rate(config, s, 6) for s in range(6)]
    assert [0.0, 0.25, 1.0, 1.0] == [ramp(step, 4) for step in (0, 1, 4, 9)]
    assert 1.0 == ramp(0, 0)
    assert [0.1, 2 / 11, 0.5, 0.995] == [average_decay(0.995, step) for step in (0, 1, 8, 10**6)]
    assert 0.05 == average_decay(0.05, 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_steps_are_pytorchs_nesterov(momentum: float, decay: float) -> None:
    """Five steps move the weights as PyTorch's SGD does, with weight decay, from the same gradients."""
    ours, theirs = Learner(TinyNet(0), Optimiser(0.3, momentum=momentum, weight_decay=decay), 5), TinyNet(0)
    optimiser = torch.optim.SGD(theirs.parameters(), 0.3, momentum, nesterov=momentum > 0, weight_decay=decay)
    start = [p.detach().clone() for p in ours.parameters]
    x = torch.randn((6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step in range(5):
        ours.apply(ours.gradients(ours.model(x).square().mean()), step)
        optimiser.zero_grad()
        theirs(x).square().mean().backward()
        optimiser.step()

    for s, a, e in zip(start, ours.parameters, theirs.parameters(), strict=True):
        assert float((e - s).detach().abs().max()) > 0.01
        torch.testing.assert_close(a - s, e - s, **CLOSE)


def test_weight_decay_leaves_batch_norm_out() -> None:
    """With zero gradients only the convolutions, the dense layer and its bias shrink."""
    model = SmallConvNet(SmallConv(width=2), 10, Streams(0), "init")
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    learner = Learner(model, Optimiser(0.5, weight_decay=0.1), 1)

    learner.apply([torch.zeros_like(p) for p in learner.parameters], 0)

    exempt = {id(p) for m in model.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
    assert 6 == len(exempt)
    for p in model.parameters():
        assert torch.equal(torch.full_like(p, 1.0 if id(p) in exempt else 0.95), p)


def vector(*rows: float) -> list[Tensor]:
    """Two tensors that for each replica together have length 5 * row."""
    scale = torch.tensor(rows, dtype=torch.float64)
    return [3 * scale[:, None].clone(), 4 * scale[:, None, None].clone()]


def test_clipping_is_by_replica() -> None:
    """Only the replica longer than the bound is scaled, down to the bound, over all its tensors together."""
    gradients = clip_norm(vector(0.1, 10.0), 5.0, (2,))

    torch.testing.assert_close(norm(gradients, (2,)), torch.tensor([0.5, 5.0], dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(gradients[0][:, 0], torch.tensor([0.3, 3.0], dtype=torch.float64), **CLOSE)


def apply_once(config: Optimiser) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of length 5 before and after a step with them, and how the weights, all 1, moved."""
    model = nn.ParameterList([nn.Parameter(t * 0 + 1) for t in vector(1.0)])
    learner, gradients = Learner(model, config, 1), vector(1.0)
    learner.apply(gradients, 0)
    return gradients, [1 - p.detach() for p in learner.parameters]


def test_decay_is_clipped_with_the_gradient() -> None:
    """Weight decay is added first and the sum is clipped, as in the released code."""
    _, moved = apply_once(Optimiser(1.0, weight_decay=1.0, clip_norm=1.0))

    assert [4 / math.sqrt(41), 5 / math.sqrt(41)] == pytest.approx([float(m) for m in moved], abs=1e-13)


def test_a_step_leaves_the_given_gradients_alone() -> None:
    """Clipping works on a copy: feedback multiplies the student's own gradient after its step."""
    gradients, _ = apply_once(Optimiser(1.0, clip_norm=1.0))

    assert [3.0, 4.0] == [float(g) for g in gradients]


def averaged(decay: float, steps: int) -> Learner:
    """A small convolutional net after some steps whose batches move its weights and statistics."""
    learner = Learner(SmallConvNet(SmallConv(width=2, dropout=0.0), 10, Streams(0), "init"), Optimiser(0.3), 9, decay)
    for step in range(steps):
        x = Streams(0).uniform("x", step, (6, 1, 8, 8))
        learner.apply(learner.gradients(learner.model(x).square().mean()), step)
    return learner


def test_average_by_hand() -> None:
    """After two steps the average is 2/11 (0.1 w0 + 0.9 w1) + 9/11 w2, running statistics included."""
    w0, w1, w2 = (averaged(0.0, steps).model.state_dict() for steps in (0, 1, 2))
    average = averaged(0.9, 2).average

    for key, value in average.items():
        expected = 2 / 11 * (0.1 * w0[key] + 0.9 * w1[key]) + 9 / 11 * w2[key]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)  # float32 rounding of three terms
        assert not torch.equal(w2[key], value)

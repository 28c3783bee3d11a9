"""Precision and memory format: the same network, weights in float32, nothing stale between steps."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import nn

from repro.engine.device import peak_bytes, place
from repro.models import WideResNet
from repro.models.networks import build_model
from repro.optim import Learner
from repro.seeding import Streams
from repro.settings import Engine, Optimiser, Precision
from tests.tiny import CPU

FAST = {
    "channels last": Engine(channels_last=True),
    "bfloat16": Engine(precision=Precision.bfloat16),
    "both": Engine(precision=Precision.bfloat16, channels_last=True),
}
IMAGES = Streams(3).normal("images", 0, (6, 3, 32, 32))


def network(engine: Engine) -> nn.Module:
    """A small WideResNet without dropout, placed."""
    config = WideResNet(depth=10, width=1, student_dropout=0.0)
    return place(build_model(config, 10, Streams(0), "student"), engine, CPU)


@pytest.mark.parametrize("name", FAST)
def test_weights_and_statistics_stay_float32_under_their_names(name: str) -> None:
    """A saved state does not show how it was computed, so that evaluation and other engines can read it."""
    plain, fast = network(Engine()), network(FAST[name])
    fast(IMAGES)

    assert list(plain.state_dict()) == list(fast.state_dict())
    assert {torch.float32} == {value.dtype for value in fast.state_dict().values()}


def test_bfloat16_sees_every_update() -> None:
    """No bfloat16 copy of a weight survives the step that changed it."""
    learner = Learner(network(FAST["bfloat16"]), Optimiser(learning_rate=1.0), 10)
    before = learner.model(IMAGES)
    learner.apply(learner.gradients(before.square().mean()), 0)
    after = learner.model(IMAGES)
    fresh = network(FAST["bfloat16"])
    fresh.load_state_dict(learner.model.state_dict())

    assert not torch.equal(before, after)
    assert torch.equal(fresh(IMAGES), after)


def test_a_process_s_peak_is_its_own() -> None:
    """What another process took before it started this one does not count."""
    taken = torch.ones(2**27)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        of_child = pool.submit(peak_bytes, CPU).result()

    assert of_child < peak_bytes(CPU) - taken.nbytes / 2

"""Where training starts: other weights for every seed and for each of the two networks."""

from __future__ import annotations

import itertools

import pytest
import torch

from repro.train.loop import Trainer
from tests.tiny import CPU, settings


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_every_seed_and_role_starts_elsewhere(data: str) -> None:
    """Teachers and students of two seeds are four different networks before the first step."""
    starts = [
        torch.cat([p.detach().flatten() for p in learner.parameters])
        for seed in (0, 1)
        for learner in Trainer(settings(data, {"name": "mpl"}), seed, CPU).state.learners.values()
    ]

    assert 4 == len(starts)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(starts, 2))


def test_stacked_seeds_start_elsewhere() -> None:
    """Seeds trained side by side start from different weights, each from its own."""
    stacked = Trainer(settings("two_moons", {"name": "mpl"}), [3, 8], CPU).state.learners["student"].parameters[0]
    alone = Trainer(settings("two_moons", {"name": "mpl"}), 8, CPU).state.learners["student"].parameters[0]

    assert not torch.equal(stacked[0], stacked[1])
    assert torch.equal(alone, stacked[1])

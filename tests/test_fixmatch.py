"""FixMatch: which view decides what is learned."""

from __future__ import annotations

import pytest
import torch

from repro.methods import FixMatch, fixmatch
from repro.methods.state import State
from repro.optim import Learner
from repro.settings import Optimiser
from tests.tiny import TinyNet, tiny_batch


def test_the_weak_view_is_confident_and_the_strong_one_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two examples the network is sure of the first one's weak view and of the second one's strong view only."""
    state = State({"teacher": Learner(TinyNet(1), Optimiser(), 10)})
    labelled = torch.zeros(5, 3).double()
    weak, strong = torch.tensor([[9.0, 0, 0], [1, 0, 0]]).double(), torch.tensor([[0.0, 1, 0], [0, 0, 9]]).double()
    weight = state.learners["teacher"].parameters[0]
    monkeypatch.setattr(fixmatch, "logits_of", lambda *_: torch.cat([labelled, weak, strong]) + 0 * weight.sum())

    metrics = fixmatch.step(state, tiny_batch(2), FixMatch(threshold=0.95))

    expected = torch.nn.functional.cross_entropy(strong[:1], torch.tensor([0])) / 2
    assert 0.5 == float(metrics["mask_rate"])
    torch.testing.assert_close(metrics["unlabelled_loss"], expected)

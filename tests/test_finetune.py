"""Finetuning over several steps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from repro.train.loop import Trainer, finetune
from tests.tiny import CPU, settings


def test_rate_of_finetuning_stays() -> None:
    """Three steps on all labels are three steps of gradient descent at one rate."""
    changes = {"finetune__steps": 3, "finetune__learning_rate": 0.05, "finetune__batch": 6}
    trainer = Trainer(settings("two_moons", {"name": "mpl"}, **changes), 0, CPU)
    other = Trainer(settings("two_moons", {"name": "mpl"}), 0, CPU).state.learners["student"].model
    optimiser = torch.optim.SGD(other.parameters(), 0.05)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(other(trainer.data.labelled), trainer.data.labels).backward()
        optimiser.step()

    torch.testing.assert_close(finetune(trainer)["weights"], other.state_dict()["weights"], rtol=0, atol=1e-6)


def test_views_of_finetuning_are_drawn_after_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are counted on from the last one of training, so that no view comes a second time."""
    changes = {"finetune__steps": 3, "finetune__batch": 6}
    trainer = Trainer(settings("digits", {"name": "mpl"}, **changes), 0, CPU)
    seen, views = [], trainer.batches.labelled_alone
    monkeypatch.setattr(
        trainer.batches, "labelled_alone", lambda index, step: seen.append((step, views(index, step))) or seen[-1][1]
    )

    finetune(trainer)

    assert [20, 21, 22] == [step for step, _ in seen]
    index = torch.arange(6)
    assert not torch.equal(views(index, 0)[0], views(index, 20)[0])

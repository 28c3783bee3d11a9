"""Finetuning over several steps."""

from __future__ import annotations

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

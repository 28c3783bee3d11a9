"""Whether a network still tells classes apart: looked at whenever weights are kept, said and recorded, never silent."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from repro.config.methods import TwoPhases
from repro.config.schema import Config, Optimiser
from repro.data.images import ImageFiles
from repro.data.sets import Source, TrainingSet
from repro.losses import cross_entropy
from repro.models.layers import frozen_statistics
from repro.optim.learner import Learner

EXAMPLES = 64
"""Labelled examples looked at, evenly spread over all: enough to tell one class from several, and little to compute."""

DIVERGED = 5.0
"""A labelled loss so many times that of a guess among all classes is no longer learning."""


def learns(config: Config, role: str, step: int) -> bool:
    """Whether this network has had a step at its full rate, and a tenth of training is over.

    Before, its running statistics may still be far from what its weights make of the images.
    """
    optimiser: Optimiser = getattr(config.optim, role)
    method = config.method
    begins = method.teacher_steps if isinstance(method, TwoPhases) and role == "student" else 0
    return step > max(begins + optimiser.wait_steps + optimiser.warmup_steps, begins + config.budget.steps // 10)


@torch.no_grad()
def complaints(learner: Learner, data: TrainingSet, source: Source[Any]) -> list[str]:
    """What is wrong with a network, as it is evaluated, on some of the labelled examples.

    Collapse: it predicts one class for all of them, though they have several. Divergence: its mean loss is more than
    `DIVERGED` times ln K.
    """
    lead = len(learner.lead)
    count = data.labels.shape[lead]
    wanted = min(count, EXAMPLES)
    index = torch.tensor([i * count // wanted for i in range(wanted)], device=data.labels.device)
    labels = data.labels.index_select(lead, index)
    some = data.labelled[index] if isinstance(data.labelled, ImageFiles) else data.labelled.index_select(lead, index)
    with frozen_statistics(learner.model):
        learner.model.eval()
        logits = learner.model(source.as_evaluated(some).to(index.device))
        learner.model.train()
    predicted = logits.argmax(dim=-1)
    several = (labels != labels[..., :1]).any(dim=-1)
    collapsed = (predicted == predicted[..., :1]).all(dim=-1) & several
    most = DIVERGED * math.log(source.classes)
    diverged = cross_entropy(logits, labels).mean(dim=-1) > most
    found = []
    if bool(collapsed.any()):
        found.append(f"predicts one class for all of {labels.shape[-1]} labelled examples{_of(collapsed)}")
    if bool(diverged.any()):
        found.append(f"has a labelled loss above {most:.1f}, {DIVERGED:.0f} times that of a "
                     f"guess{_of(diverged)}")  # fmt: skip
    return found


def _of(which: Tensor) -> str:
    return f" in {int(which.sum())} of {which.numel()} runs" if which.numel() > 1 else ""

"""What is kept along training: weights for the curves, and warnings when the network stops learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from repro.config import Config
from repro.data import source_of
from repro.data.images import ImageFiles
from repro.data.sets import Source, TrainingSet
from repro.losses import cross_entropy
from repro.methods.state import State
from repro.models.layers import frozen_statistics
from repro.optim import Learner
from repro.settings import Optimiser
from repro.train.checkpoint import Networks, Series


class Kept:
    """Snapshots of all networks, and last checkpoints of the one in this role, which counts; one process `copies`."""

    def __init__(self, config: Config, role: str, data: TrainingSet, copies: bool = True) -> None:
        self._role, self._data, self._copies = role, data, copies
        self.follow(config)
        self.series = {"snapshots": Series("snapshots"), "late": Series("late")}
        self.looks: list[dict[str, Any]] = []  # {"step": int, "found": complaints}

    def follow(self, config: Config) -> None:
        """Continues as a run of another length."""
        self._config = config
        self._marks = {*snapshot_steps(config.budget.steps, config.budget.snapshots), *{config.plant.steps} - {0}}
        self._late = set(late_steps(config.budget.steps, config.budget.late))

    def before_step(self, state: State, say: Callable[[str], None]) -> None:
        """Keeps all weights before a marked step."""
        if state.step in self._marks:
            self._snapshot(state, say)

    def after_step(self, state: State, say: Callable[[str], None]) -> None:
        """Keeps the counted weights of the last checkpoints of training, and all weights of the last step."""
        if state.step in self._late and state.step not in self.series["late"].steps:
            late = {"counted": counted(state.learners[self._role])} if self._copies else {}
            self.series["late"].append(state.step, late)
        if state.step == self._config.budget.steps:
            self._snapshot(state, say)

    def _snapshot(self, state: State, say: Callable[[str], None]) -> None:
        """Keeps all weights of this step, once, and says what is wrong with them."""
        if state.step in self.series["snapshots"].steps:
            return
        self.series["snapshots"].append(state.step, networks(state) if self._copies else {})
        if not learns(self._config, self._role, state.step):
            return
        known = len(self.warnings)
        found = complaints(state.learners[self._role], self._data, source_of(self._config.data))
        self.looks.append({"step": state.step, "found": found})
        for warning in self.warnings[known:]:
            say(f"WARNING {warning}")

    @property
    def warnings(self) -> list[str]:
        """All complaints, each at the step at which it begins."""
        before = [{"found": []}, *self.looks]
        return [
            f"step {look['step']}: {self._role} {complaint}"
            for last, look in zip(before, self.looks, strict=False)
            for complaint in look["found"]
            if complaint not in last["found"]
        ]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """Steps before which weights are kept: `count`, evenly spaced from 0; the last step's weights are kept besides."""
    return sorted({i * steps // count for i in range(count)})


def late_steps(steps: int, count: int = 20) -> list[int]:
    """Steps after which the counted weights are kept: `count`, a thousandth of training apart, up to the last.

    The field reports the median of such checkpoints (MixMatch, FixMatch, TorchSSL: the last 20 of about 1,000).
    """
    return sorted({max(1, steps - i * max(1, steps // 1000)) for i in range(count)})


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone().cpu() for k, v in weights.items()}


def counted(learner: Learner) -> dict[str, Tensor]:
    """A copy of the weights that count: the averaged ones where there are any."""
    return _copied(learner.average or learner.model.state_dict())


def networks(state: State) -> Networks:
    """A copy of every network's weights by name: roles, and `<role>_average` where weights are averaged."""
    found = {}
    for role, learner in state.learners.items():
        found[role] = _copied(learner.model.state_dict())
        if learner.average:
            found[f"{role}_average"] = _copied(learner.average)
    return found


EXAMPLES = 64
"""Labelled examples that are checked, evenly spread over all: enough to tell one class from several, and cheap."""

DIVERGED = 5.0
"""A network has diverged when its labelled loss is this many times that of a uniform guess."""


def learns(config: Config, role: str, step: int) -> bool:
    """Whether this network took a step at its full rate, and a tenth of training is over: statistics lag till then."""
    optimiser: Optimiser = getattr(config.optim, role)
    begins = config.method.fixed_teacher_steps if role == "student" else 0
    return step > max(begins + optimiser.wait_steps + optimiser.warmup_steps, begins + config.budget.steps // 10)


@torch.no_grad()
def complaints(learner: Learner, data: TrainingSet, source: Source[Any]) -> list[str]:
    """What is wrong with a network in evaluation mode, on some labelled examples: collapse to a class, divergence."""
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
    found = {f"predicts one class for all of {labels.shape[-1]} labelled examples": collapsed,
             f"has a labelled loss above {most:.1f}, {DIVERGED:.0f} times that of a guess": diverged}  # fmt: skip
    return [
        what + (f" in {int(which.sum())} of {which.numel()} runs" if which.numel() > 1 else "")
        for what, which in found.items()
        if bool(which.any())
    ]

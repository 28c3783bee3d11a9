"""What is kept of a run along its training, for the curves that evaluation draws: weights, and what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from repro.config.schema import Config
from repro.data import source_of
from repro.data.sets import TrainingSet
from repro.methods.state import State
from repro.optim.learner import Learner
from repro.train.health import complaints, learns
from repro.train.series import Networks, Series


class Kept:
    """Snapshots of all networks, and the last checkpoints of the one that counts.

    Args:
        config: of the run.
        role: of the network that counts.
        data: for a look at how that network does on the labelled examples.
        copies: whether weights are copied; of several processes with the same weights, one keeps them.
    """

    def __init__(self, config: Config, role: str, data: TrainingSet, copies: bool = True) -> None:
        self._config, self._role, self._data, self._copies = config, role, data, copies
        self._marks = set(snapshot_steps(config.budget.steps, config.budget.snapshots))
        self._late = set(late_steps(config.budget.steps))
        self.series = {"snapshots": Series("snapshots"), "late": Series("late")}
        self.looks: list[dict[str, Any]] = []  # {"step": int, "found": complaints}

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
        found = complaints(state.learners[self._role], self._data, source_of(self._config.data))
        known = len(self.warnings)
        self.looks.append({"step": state.step, "found": found})
        for warning in self.warnings[known:]:
            say(f"WARNING {warning}")

    @property
    def warnings(self) -> list[str]:
        """What was found wrong, each time it begins."""
        before = [{"found": []}, *self.looks]
        return [
            f"step {look['step']}: {self._role} {complaint}"
            for last, look in zip(before, self.looks, strict=False)
            for complaint in look["found"]
            if complaint not in last["found"]
        ]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """Steps before which weights are kept: `count` of them from 0 on, evenly; the last step's come on top."""
    return sorted({i * steps // count for i in range(count)})


def late_steps(steps: int) -> list[int]:
    """Steps after which the counted weights are kept: 20, a thousandth of training apart, up to the last.

    The field reports the median of such checkpoints (MixMatch, FixMatch, TorchSSL: the last 20 of about 1,000).
    """
    return sorted({max(1, steps - i * max(1, steps // 1000)) for i in range(20)})


def counted(learner: Learner) -> dict[str, Tensor]:
    """A copy of the weights that count: the averaged ones where there are any."""
    return {k: v.detach().clone().cpu() for k, v in (learner.average or learner.model.state_dict()).items()}


def networks(state: State) -> Networks:
    """A copy of every network's weights by name: roles, and `<role>_average` where weights are averaged."""
    found = {}
    for role, learner in state.learners.items():
        found[role] = {k: v.detach().clone().cpu() for k, v in learner.model.state_dict().items()}
        if learner.average:
            found[f"{role}_average"] = {k: v.clone().cpu() for k, v in learner.average.items()}
    return found

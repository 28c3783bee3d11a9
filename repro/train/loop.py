"""The training loop: batches and views of each step, the method's step, metrics, snapshots, saved state, finetuning."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.augment.views import labelled_view, unlabelled_views
from repro.config.read import decisive
from repro.config.schema import Config
from repro.data.training import CLASSES, training_set
from repro.engine import place
from repro.methods import METHODS
from repro.methods.state import Batch, State
from repro.models.build import build_model
from repro.seeding import Draws, Order, Streams
from repro.train.metrics import Window
from repro.train.storage import load, save

Progress = Callable[[int], None]
"""Called with the number of steps done since the last call."""

Report = Callable[[dict[str, float]], None]
"""Called with each new row of metrics."""


class OutOfTime(Exception):
    """The time budget is spent; the state is saved, and the same command goes on from it."""


class Trainer:
    """One run, or R runs stacked, from a configuration and seeds.

    Args:
        config: the settings.
        seeds: one seed, or R seeds to train side by side as one stacked model.
        device: where to train.
        source: hash of the training code; a saved state of other code is not resumed.
    """

    def __init__(self, config: Config, seeds: int | Sequence[int], device: torch.device, source: str = "") -> None:
        self.config, self.seeds, self.device, self.source = config, seeds, device, source
        self.streams = Streams(seeds, device)
        self.data = training_set(config.data, seeds).to(device)
        classes = CLASSES[config.data.name]
        self.method = METHODS[config.method.name]
        init_streams = Streams(seeds)
        self.state: State = self.method.init(
            lambda role: place(build_model(config.model, classes, init_streams, role), config.engine, device),
            config.method,
            config.optim,
            config.budget.steps,
            self.streams.lead,
        )
        self._views = self.method.views(config.method)
        budget, lead = config.budget, len(self.streams.lead)
        self._rows = torch.arange(self.streams.lead[0], device=device)[:, None] if lead else None
        self._labelled = Order(self.streams, "labelled order", self.data.labels.shape[lead], budget.labelled_batch)
        count = self.data.unlabelled.shape[lead]
        self._unlabelled = Order(self.streams, "unlabelled order", count, min(budget.unlabelled_batch, count))
        self.window = Window()
        self.rows: list[dict[str, float]] = []
        self.snapshots: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []

    def batch(self, step: int, probe: bool = False) -> Batch:
        """The batch of a step: a function of (seed, step) alone."""
        labelled, unlabelled = self._labelled.at(step), self._unlabelled.at(step)
        x_u = self.pick(self.data.unlabelled, unlabelled)
        weak, strong = unlabelled_views(x_u, self.config.data, self._views, self.streams, step)
        return Batch(
            labelled=labelled_view(self.pick(self.data.labelled, labelled), self.config.data, self.streams, step),
            labels=self.pick(self.data.labels, labelled),
            weak=weak,
            strong=strong,
            hidden_labels=self.pick(self.data.hidden_labels, unlabelled),
            draws=Draws(self.streams, step),
            probe=probe,
        )

    def pick(self, tensor: Tensor, index: Tensor) -> Tensor:
        """Entries `index` [*lead, n] of tensor [*lead, N, ...]."""
        lead = len(self.streams.lead)
        if index.shape[-1] == tensor.shape[lead]:
            return tensor  # `Order` gives a batch of all examples in their order
        return tensor[(self._rows, index)] if lead else tensor[index]

    def run(
        self,
        state_file: Path,
        progress: Progress = lambda _: None,
        deadline: float = float("inf"),
        report: Report = lambda _: None,
    ) -> None:
        """Trains to the end of the budget, from `state_file` if it is there.

        Raises:
            OutOfTime: when `deadline` (time.monotonic) passes; the state is saved first.
            NotFinite: when a metric becomes NaN or infinite.
        """
        budget = self.config.budget
        if state_file.is_file():
            self._resume(state_file)
            progress(self.state.step)
        marks, late = snapshot_steps(budget.steps, budget.snapshots), late_steps(budget.steps)
        next_save = time.monotonic() + 60 * budget.checkpoint_minutes
        while self.state.step < budget.steps:
            if self.state.step in marks and len(self.snapshots) == marks.index(self.state.step):
                self._snapshot()
            if self.advance():
                report(self.rows[-1])
            if self.state.step in late and len(self.late) == late.index(self.state.step):
                self.late.append({"step": self.state.step, "weights": self._counted_weights()})
            if self.state.step % 16 == 0:
                progress(16)
                now = time.monotonic()
                if now > deadline or now > next_save:
                    self._save(state_file)
                    next_save = now + 60 * budget.checkpoint_minutes
                    if now > deadline:
                        raise OutOfTime
        progress(budget.steps % 16)
        self._snapshot()

    def advance(self) -> bool:
        """One step; whether it completed a row of metrics."""
        budget = self.config.budget
        logs = (self.state.step + 1) % budget.log_every == 0 or self.state.step + 1 == budget.steps
        self.window.add(self.method.step(self.state, self.batch(self.state.step, probe=logs), self.config.method))
        if logs:
            self.rows.append({"step": self.state.step} | self.window.close(self.state.step))
        return logs

    def _snapshot(self) -> None:
        """Keeps the weights of this step, for the curves that evaluation draws."""
        self.snapshots.append({"step": self.state.step, "networks": networks(self.state)})

    def _counted_weights(self) -> dict[str, Tensor]:
        """A copy of the weights that count: the averaged ones where there are any."""
        learner = self.state.learners[self.method.COUNTED]
        return {k: v.detach().clone().cpu() for k, v in (learner.average or learner.model.state_dict()).items()}

    def _save(self, path: Path) -> None:
        content = {
            "made_by": self._made_by(),
            "step": self.state.step,
            "state": self.state.state_dict(),
            "window": self.window.state_dict(),
            "rows": self.rows,
            "snapshots": self.snapshots,
            "late": self.late,
        }
        save(path, content)

    def _made_by(self) -> dict[str, Any]:
        """What must be the same for a saved state to be gone on from."""
        return {"config": decisive(self.config), "seeds": self.seeds, "source": self.source}

    def _resume(self, path: Path) -> None:
        content = load(path)
        if content["made_by"] != self._made_by():
            print(f"{path} was saved by other settings or code; starting anew")
            path.unlink()
            return
        self.state.load_state_dict(content["state"], content["step"])
        self.window.load_state_dict(content["window"], self.device)
        self.rows, self.snapshots, self.late = content["rows"], content["snapshots"], content["late"]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """Steps before which weights are kept: `count` of them from 0 on, evenly; the last step's come on top."""
    return sorted({i * steps // count for i in range(count)})


def late_steps(steps: int) -> list[int]:
    """Steps after which the counted weights are kept: 20, a thousandth of training apart, up to the last.

    The field reports the median of such checkpoints (MixMatch, FixMatch, TorchSSL: the last 20 of about 1,000).
    """
    return sorted({max(1, steps - i * max(1, steps // 1000)) for i in range(20)})


def networks(state: State) -> dict[str, dict[str, Tensor]]:
    """A copy of every network's weights by name: roles, and `<role>_average` where weights are averaged."""
    found = {}
    for role, learner in state.learners.items():
        found[role] = {k: v.detach().clone().cpu() for k, v in learner.model.state_dict().items()}
        if learner.average:
            found[f"{role}_average"] = {k: v.clone().cpu() for k, v in learner.average.items()}
    return found

"""The training loop: batches, the method's step, metrics, weights kept, checkpoints; and finetuning after it."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.config import Config, laid_over
from repro.data import source_of
from repro.data.sets import Order
from repro.engine.device import place
from repro.engine.distributed import ALONE, FAULTY, Pace, World, require_same, share
from repro.losses import cross_entropy
from repro.methods import method_of
from repro.methods.state import State
from repro.models.networks import build_model
from repro.optim import Learner
from repro.seeding import Streams
from repro.train import checkpoint
from repro.train.batches import Batches
from repro.train.kept import Kept
from repro.train.recorded import Record, Steps

Progress = Callable[[int], None]  # told the number of steps done since the last call
Report = Callable[[dict[str, float]], None]  # told each new row
Say = Callable[[str], None]  # told what a person should know


_WINDOW, _FEWEST = 30.0, 5  # speed is measured over so many seconds and, at least, steps
_SLACK = 0.02  # share of the steps that are left: a smaller change is ignored


class Timetable:
    """The number of steps of training that `ends` at a time, by time.monotonic(), from the speed of its last steps."""

    def __init__(self, ends: float) -> None:
        self._ends, self._seen = ends, deque[tuple[float, int]]()

    def steps(self, done: int, planned: int, now: float) -> int:
        """The total number of steps, after `done` of the `planned` ones; at least one more than `done`."""
        self._seen.append((now, done))
        while len(self._seen) > _FEWEST and now - self._seen[1][0] > _WINDOW:
            self._seen.popleft()
        begun, first = self._seen[0]
        if now >= self._ends:
            return done + 1
        if done - first < _FEWEST - 1 or now <= begun:
            return planned
        fitting = max(done + 1, done + int((self._ends - now) * (done - first) / (now - begun)))
        return planned if abs(fitting - planned) <= _SLACK * (planned - done) else fitting


_REMEDY = "lower optim.*.learning_rate, or clip with optim.*.clip_norm"


class NotFinite(RuntimeError):
    """A metric became NaN or infinite."""


class Window:
    """Sums metrics [*lead] over steps without waiting for the device."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # names of metrics that come together -> [2, metrics, *lead]
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """One step's metrics; a metric may be absent from some steps."""
        names = tuple(metrics)
        values = torch.stack(list(metrics.values())).to(torch.float64)
        if names not in self._sums:
            self._sums[names] = values.new_zeros(2, *values.shape)
            self._counts[names] = 0
        self._sums[names][0] += values
        self._sums[names][1].addcmul_(values, values)
        self._counts[names] += 1

    def close(self, step: int) -> dict[str, float]:
        """A row: means over the window's steps and all stacked runs, and h's spread over steps. Empties the window."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for names, moments in self._sums.items():
            for i, name in enumerate(names):
                sums[name] = sums.get(name, 0) + moments[:, i]
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums, self._counts = {}, {}
        row: dict[str, float] = {}
        for name, total in sums.items():
            mean, square = total / counts[name]
            row[name] = float(mean.mean())
            if not math.isfinite(row[name]):
                raise NotFinite(f"{name} = {row[name]} within the {counts[name]} steps before step {step}; {_REMEDY}")
            if name == "feedback":
                row["feedback_spread"] = float((square - mean * mean).clamp_min(0).sqrt().mean())
                row["feedback_positive"] = float((mean > 0).to(torch.float64).mean())
        return row

    def state_dict(self) -> list[tuple[list[str], int, Tensor]]:
        """For a checkpoint in the middle of a window."""
        return [(list(names), self._counts[names], sums) for names, sums in self._sums.items()]

    def load_state_dict(self, state: list[tuple[list[str], int, Tensor]], device: torch.device) -> None:
        """The inverse of `state_dict`."""
        self._counts = {tuple(names): count for names, count, _ in state}
        self._sums = {tuple(names): sums.to(device) for names, _, sums in state}


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a NaN or an infinity.

    Each precision has a call of its own, since PyTorch takes a list of mixed ones one by one; the host waits once.
    """
    kinds: dict[torch.dtype, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            kinds.setdefault(tensor.dtype, []).append(name)
    if not kinds:
        return []
    norms = [torch._foreach_norm([tensors[name] for name in names], math.inf) for names in kinds.values()]  # noqa: SLF001
    finite = torch.cat([torch.isfinite(torch.stack(list(some))) for some in norms]).tolist()
    found = dict(zip((name for names in kinds.values() for name in names), finite, strict=True))
    return [name for name in tensors if not found.get(name, True)]


def check_finite(state: State, window: Window) -> None:
    """Raises NotFinite where weights, averages, momenta or the metrics since the last row hold a NaN or an infinity."""
    sums = {f"the mean of {', '.join(names)}": values for names, _, values in window.state_dict()}
    if names := not_finite(state.state_dict() | sums):
        others = ", ".join(names[1:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        said = f"{names[0]} is not finite after step {state.step}{f', with {others}' * bool(others)}; {_REMEDY}"
        raise NotFinite(said)


class Stopped(Exception):
    """Someone asked for an end, or the time is over; the state is saved, and the same command goes on from it."""


def initial_state(config: Config, seeds: int | Sequence[int], device: torch.device) -> State:
    """The networks of a run, or of R stacked ones, as training begins with them."""
    classes, streams = source_of(config.data).classes, Streams(seeds)
    build = lambda role: place(build_model(config.model, classes, streams, role), config.engine, device)  # noqa: E731
    found: State = method_of(config.method).init(build, config.method, config.optim, config.budget.steps, streams.lead)
    return found


class Trainer:
    """One run, or R runs stacked.

    A state is resumed by the code that saved it, of these hashes in `source`; `session`, what this process runs on, is
    kept with it. Each process of `world` has its part of every batch; all call the same methods. `record` says how
    steps are recorded; by default as settings and device allow.
    """

    def __init__(
        self, config: Config, seeds: int | Sequence[int], device: torch.device, source: Mapping[str, str] | None = None,
        session: Mapping[str, Any] | None = None, world: World = ALONE, record: Record | None = None,
    ) -> None:  # fmt: skip
        self.config, self.seeds, self.device, self.world = config, seeds, device, world
        self._asked, self._made_by = config, checkpoint.made_by(config, seeds, source or {})
        self.session = dict(session or {})
        self.method = method_of(config.method)
        self.batches = Batches(config, config.method.views, seeds, device, world)
        self.batch, self.streams, self.data = self.batches.at, self.batches.streams, self.batches.data
        self.state = initial_state(config, seeds, device)
        share(self.state.learners.values(), world, config.engine.batch_norm_processes)
        self.steps = Steps(config, self.method, self.state, self.batches, world, record)
        self.window = Window()
        self.rows: list[dict[str, float]] = []
        self.kept = Kept(config, config.method.networks[-1], self.data, copies=world.rank == 0)
        self.sessions: list[dict[str, Any]] = []

    def run(
        self, folder: Path, progress: Progress = lambda _: None, deadline: float = math.inf,
        report: Report = lambda _: None, stop: Callable[[], bool] = lambda: False, say: Say = print,
        ends: float = math.inf,
    ) -> None:  # fmt: skip
        """Trains to the end of the budget, from the checkpoint in `folder` if there is one.

        When `deadline` passes, by time.monotonic(), or `stop`, asked after each step, says so, it saves and raises
        Stopped. `progress` is told of steps done, `report` of each row, and `say` what a person should know. At `ends`,
        training ends after as many steps as fit, for a single process. `folder` has one writer.
        """
        self._resume(folder, say)
        if way := self.steps.choose(self.sessions[-1].get("way", "") if self.sessions else "", say):
            self.session["way"] = way  # a resumed run goes on in the same way
        budget, timetable = self.config.budget, Timetable(ends)
        begun, told, pace = time.monotonic(), 0, Pace(self.world)
        self.sessions.append({"from_step": self.state.step, "seconds": 0.0} | self.session)
        next_save = begun + 60 * budget.checkpoint_minutes
        check_finite(self.state, self.window)
        while self.state.step < budget.steps:
            with self._explained(folder):
                self.advance_and_keep(say, report)
            now, ended = time.monotonic(), self.state.step == budget.steps
            if ends < math.inf and not ended:
                self._lay_over(timetable.steps(self.state.step, budget.steps, now))
                budget = self.config.budget
            stops, late, due = pace.wanted([stop(), now > deadline, now > next_save], last=ended)
            if self.state.step % 16 == 0 or ended:
                progress(self.state.step - told)
                told = self.state.step
            if due or late or stops or ended:
                self.sessions[-1]["seconds"] = now - begun
                with self._explained(folder):
                    check_finite(self.state, self.window)
                self._save(folder)
                next_save = now + 60 * budget.checkpoint_minutes
            if not ended and (late or stops):
                raise Stopped
        progress(budget.steps - told)

    def _lay_over(self, steps: int) -> None:
        """Changes the run's number of steps, and with it schedule, ramps, log and snapshots."""
        if steps == self.config.budget.steps:
            return
        self.config = laid_over(self._asked, steps)
        self.steps.follow(self.config)
        self.kept.follow(self.config)
        for role, learner in self.state.learners.items():
            learner.config, learner.total_steps = getattr(self.config.optim, role), steps

    def advance_and_keep(self, say: Say, report: Report = lambda _: None) -> None:
        """One step, with the weights that are kept before and after it; checks and reports the row it completes."""
        self.kept.before_step(self.state, say)
        if self.advance():
            check_finite(self.state, self.window)
            report(self.rows[-1])
        self.kept.after_step(self.state, say)

    def advance(self) -> bool:
        """Takes a step; returns whether it completed a row of metrics, whose means must be finite."""
        budget, step = self.config.budget, self.state.step + 1
        logs = step % budget.log_every == 0 or step == budget.steps
        self.window.add(self.steps.take(self.batch, probe=logs))
        if logs:
            self.rows.append({"step": self.state.step} | self.window.close(self.state.step))
        return logs

    @contextlib.contextmanager
    def _explained(self, folder: Path) -> Iterator[None]:
        """Adds to a NotFinite from the block since which step it arose, and which state training can resume from."""
        try:
            yield
        except NotFinite as error:
            since = self.rows[-1]["step"] if self.rows else 0
            rates = {role: learner.config.learning_rate for role, learner in self.state.learners.items()}
            used = ", ".join(f"optim.{role}.learning_rate = {rate:g}" for role, rate in rates.items())
            raise NotFinite(
                f"{error}; it became so after step {since:.0f} and by step {self.state.step} ({used}); "
                f"{checkpoint.kept_in(folder)}; to start anew: rm -r {folder}"
            ) from None

    def _save(self, folder: Path) -> None:
        content: dict[str, Any] = {
            "made_by": self._made_by,
            "step": self.state.step,
            "steps": self.config.budget.steps,
            "state": self.state.state_dict(),
            "window": self.window.state_dict(),
            "rows": self.rows,
            "sessions": self.sessions,
            "looks": self.kept.looks,
        }
        require_same(self.world, content["state"], self.state.step, FAULTY)
        self.world.first(lambda: checkpoint.write(folder, self.state.step, content, self.kept.series))

    def _resume(self, folder: Path, say: Say) -> None:
        content = self.world.after_first(lambda: checkpoint.read(folder, self._made_by, say))
        require_same(self.world, {}, content["step"] if content else 0, f"all must see the files in {folder}")
        if content is None:
            return
        self._lay_over(content.get("steps", self.config.budget.steps))
        self.state.load_state_dict(content["state"], content["step"])
        self.window.load_state_dict(content["window"], self.device)
        self.rows, self.sessions = content["rows"], content["sessions"]
        self.kept.looks, self.kept.series = content["looks"], {name: content[name] for name in self.kept.series}
        for change in checkpoint.changes(self.sessions[-1] if self.sessions else {}, self.session):
            say(f"going on from step {self.state.step} with {change}: the last bits may differ from an unbroken run's")


def finetune(trainer: Trainer, stop: Callable[[], bool] = lambda: False) -> dict[str, Tensor]:
    """Weights of the counted network after plain gradient descent at a fixed rate; the trainer's own stay as they are.

    Starts from the averaged weights where there are any, in evaluation mode: running statistics, no dropout. Several
    processes each compute the same, from the whole batch. Stopped, when `stop` says so, it starts over the next time.
    """
    config, steps_before = trainer.config.finetune, trainer.config.budget.steps
    source: Learner = trainer.state.learners[trainer.config.method.networks[-1]]
    kept = {k: v.detach().clone() for k, v in source.model.state_dict().items()}
    source.model.load_state_dict(source.average or kept)
    source.model.eval()
    count = trainer.data.labels.shape[-1]
    order = Order(trainer.streams, "finetuning order", count, config.batch)
    pace = Pace(trainer.world)
    for step in range(config.steps):
        index = order.at(step)
        images, labels = trainer.batches.labelled_alone(index, steps_before + step)
        loss = cross_entropy(source.model(images), labels).mean(dim=-1)
        gradients = source.gradients(loss)
        with torch.no_grad():
            torch._foreach_add_(source.parameters, gradients, alpha=-config.learning_rate)
        if any(pace.wanted([stop()], last=step + 1 == config.steps)):
            raise Stopped
    tuned = {k: v.detach().clone().cpu() for k, v in source.model.state_dict().items()}
    source.model.load_state_dict(kept)
    source.model.train()
    if bad := not_finite(tuned):
        why = f"finetuning made {bad[0]} NaN or infinite; lower finetune.learning_rate = {config.learning_rate}"
        raise NotFinite(why)
    return tuned

"""The training of one chunk of seeds, from what is left of it to its result; by one process, or by several together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.cli.environment import environment, session
from repro.config.read import as_mapping, decisive
from repro.config.schema import Config
from repro.engine.device import choose_device, is_out_of_memory, set_up_process
from repro.engine.world import ALONE, World
from repro.seeding import seeds_label
from repro.train.calls import OutOfTime, Progress, Say, Stopped
from repro.train.checkpoint import Refused, kept_in, made_by, refuse_other
from repro.train.finetune import finetune
from repro.train.log import line
from repro.train.loop import Trainer
from repro.train.metrics import NotFinite
from repro.train.result import Result, load_result, save_result
from repro.train.storage import Damaged, OtherFormat


@dataclass(frozen=True)
class Job:
    """What all chunks of seeds of one run share."""

    name: str  # of the run
    config: Config
    state: Path  # folder
    source: dict[str, str]  # hashes of the training code's files: a state that other code saved is not resumed
    deadline: float  # time.monotonic()

    def folder(self, chunk: list[int]) -> Path:
        """Of the state of a chunk, and of its result, which waits there for the others."""
        return self.state / seeds_label(chunk)

    def training_made_by(self, chunk: list[int]) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from."""
        return made_by(self.config, chunk if self.config.budget.stack > 1 else chunk[0], self.source)

    def made_by(self, chunk: list[int]) -> dict[str, Any]:
        """What must be the same for a result to count: finetuning too."""
        training = self.training_made_by(chunk)
        return training | {"config": decisive(self.config)}


@dataclass(frozen=True)
class Listener:
    """Whom a training tells what, and whom it asks whether to go on."""

    count: Progress
    say: Say  # at once
    log: Say  # what may be left out where much is said
    stops: Callable[[], bool]


class OutOfMemory(RuntimeError):
    """An allocation failed; the message says what to change, and what is kept."""


def train_chunk(job: Job, chunk: list[int], listener: Listener, world: World = ALONE) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when it stopped before the end.

    Args:
        job: the run.
        chunk: its seeds.
        listener: told what happens, in every process.
        world: the processes that train it together; the first of them writes.

    Raises:
        OutOfMemory: when memory runs out; the checkpoints before it are kept.
    """
    try:
        return _train_chunk(job, chunk, listener, world)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{job.name} {seeds_label(chunk)}: memory ran out; {less_memory(job.config)}; "
            f"{kept_in(job.folder(chunk))}, from which other budget.workers may go on"
        ) from None


def less_memory(config: Config) -> str:
    """What to change where memory has run out, with the values that did not suffice."""
    budget = config.budget
    fewer = f"lower budget.workers = {budget.workers}, or " if budget.workers > 1 else ""
    fewer += f"lower budget.stack = {budget.stack}, or " if budget.stack > 1 else ""
    return (f"{fewer}take smaller batches (budget.labelled_batch = {budget.labelled_batch}, budget.unlabelled_batch = "
            f"{budget.unlabelled_batch})")  # fmt: skip


def _train_chunk(job: Job, chunk: list[int], listener: Listener, world: World) -> bool:
    config, folder, who = job.config, job.folder(chunk), f"{job.name} {seeds_label(chunk)}"

    def say(text: str) -> None:
        listener.say(f"{who}: {text}")

    set_up_process(config.engine.threads)
    if world.first(lambda: _is_finished(job, chunk, say)):
        listener.count(config.budget.steps)
        return True
    stacked = config.budget.stack > 1
    device = choose_device()
    here = session(device) | {"processes": world.size}
    trainer = world.each(lambda: Trainer(config, chunk if stacked else chunk[0], device, job.source, here, world))

    def report(row: dict[str, float]) -> None:
        listener.log(line(who, row, config.budget.steps))

    try:
        trainer.run(folder, listener.count, job.deadline, report, listener.stops, say)
        tuned = finetune(trainer, listener.stops) if config.finetune.steps else {}
    except (OutOfTime, Stopped):
        return False
    except NotFinite as error:
        raise NotFinite(f"{who}: {error}") from None
    world.first(lambda: save_result(folder, _result(job, chunk, trainer, tuned)))
    return True


def _result(job: Job, chunk: list[int], trainer: Trainer, tuned: dict[str, Tensor]) -> Result:
    facts = environment(trainer.device, trainer.sessions, job.source) | {"warnings": trainer.kept.warnings}
    if trainer.world.size > 1:
        facts["processes"] = trainer.world.size
    return Result(
        as_mapping(job.config), chunk, job.config.budget.stack > 1, trainer.method.COUNTED, facts,
        trainer.rows, trainer.kept.series["snapshots"], trainer.kept.series["late"], tuned, job.made_by(chunk),
    )  # fmt: skip


def _is_finished(job: Job, chunk: list[int], say: Say) -> bool:
    """Whether the result of this chunk is there and whole; a damaged one is made again from the last checkpoint.

    Raises:
        Refused: when it was made otherwise.
    """
    folder = job.folder(chunk)
    try:
        finished = load_result(folder)
    except Damaged as error:
        say(f"{error}; making it again from the last checkpoint")
        return False
    except OtherFormat as error:
        raise Refused(f"{error}; check that version out, or start anew: rm -r {folder}") from None
    if finished:
        said = {"made_by": finished.made_by, "step": job.config.budget.steps, "sessions": []}
        refuse_other(said, job.made_by(chunk), folder, job.state)
    return finished is not None

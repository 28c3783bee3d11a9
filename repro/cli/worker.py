"""What a worker process of a training does: one chunk of seeds after another, stopping when the flag is up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.cli.environment import environment, session
from repro.cli.lock import only_writer
from repro.cli.stopping import Flags, Stopping, die_with_parent
from repro.config.read import as_mapping, decisive
from repro.config.schema import Config
from repro.engine.device import choose_device, set_up_process
from repro.engine.memory import is_out_of_memory
from repro.seeding import seeds_label
from repro.train.alarm import Bands
from repro.train.calls import OutOfTime, Stopped
from repro.train.checkpoint import Refused, kept_in, made_by, refuse_other
from repro.train.finetune import finetune
from repro.train.log import line
from repro.train.loop import Trainer
from repro.train.metrics import NotFinite
from repro.train.remedies import names_of_settings
from repro.train.result import Result, load_result, save_result
from repro.train.storage import Damaged, OtherFormat

SECONDS_BETWEEN_LINES = 30.0  # of the log, for each worker

_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: what all share, the counters, the flags and the pipe of log lines; and whether it is at work."""


@dataclass(frozen=True)
class Job:
    """What all chunks of seeds of one run share."""

    name: str  # of the run
    config: Config
    state: Path  # folder
    source: dict[str, str]  # hashes of the training code's files: a state that other code saved is not resumed
    deadline: float  # time.monotonic()
    bands: Bands | None  # of recorded seeds, for the early alarm

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


class OutOfMemory(RuntimeError):
    """An allocation failed; the message says what to change, and what is kept."""


def start_worker(done: Any, lines: Any, flags: Flags) -> None:
    """A worker stops when the flag is up, whoever raised it, and dies with its parent."""
    _worker.update(done=done, lines=lines, flags=flags, busy=False, began=False, last_line=time.monotonic())
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def train_chunk(job: Job, number: int, chunk: list[int]) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when it stopped before the end."""
    _worker["busy"] = True
    try:
        late = time.monotonic() > job.deadline and _worker["began"]  # some step is always made
        _worker["began"] = True
        if late or _stops():
            return False
        with only_writer(f"{job.name}.{seeds_label(chunk)}", f"{job.name} {seeds_label(chunk)}"):
            return _train(job, number, chunk)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{job.name} {seeds_label(chunk)}: memory ran out; {names_of_settings(job.config)}; "
            f"{kept_in(job.folder(chunk))}, and is gone on from with other budget.workers and engine.recompute"
        ) from None
    finally:
        _worker["busy"] = False


def _stops() -> bool:
    return bool(_worker["flags"].stops)


def _train(job: Job, number: int, chunk: list[int]) -> bool:
    config, folder, who = job.config, job.folder(chunk), f"{job.name} {seeds_label(chunk)}"

    def count(steps: int) -> None:
        _worker["done"][number] += steps

    def say(text: str) -> None:
        _put(f"{who}: {text}")

    set_up_process(config.engine.threads)
    finished = _finished(folder, say)
    if finished:
        said = {"made_by": finished.made_by, "step": config.budget.steps, "sessions": []}
        refuse_other(said, job.made_by(chunk), folder, job.state)
        count(config.budget.steps)
        return True
    stacked = config.budget.stack > 1
    bands = None if stacked else job.bands
    device = choose_device()
    trainer = Trainer(config, chunk if stacked else chunk[0], device, job.source, session(device))

    def report(row: dict[str, float]) -> None:
        for alarm in bands.outside([row]) if bands else []:
            _put(f"ALARM {who}: {alarm}")
        _say(line(who, row, config.budget.steps))

    try:
        trainer.run(folder, count, job.deadline, report, _stops, say)
        tuned = finetune(trainer, _stops) if config.finetune.steps else {}
    except (OutOfTime, Stopped):
        return False
    except NotFinite as error:
        raise NotFinite(f"{who}: {error}") from None
    facts = environment(trainer.device, trainer.sessions, job.source) | {"warnings": trainer.kept.warnings}
    facts["alarms"] = bands.outside(trainer.rows) if bands else None  # None: nothing to compare with
    result = Result(
        as_mapping(config), chunk, stacked, trainer.method.COUNTED, facts,
        trainer.rows, trainer.kept.series["snapshots"], trainer.kept.series["late"], tuned, job.made_by(chunk),
    )  # fmt: skip
    save_result(folder, result)
    return True


def _finished(folder: Path, say: Callable[[str], None]) -> Result | None:
    """The result of this chunk, where it is there and whole; a damaged one is made again from the last checkpoint."""
    try:
        return load_result(folder)
    except Damaged as error:
        say(f"{error}; making it again from the last checkpoint")
        return None
    except OtherFormat as error:
        raise Refused(f"{error}; check that version out, or start anew: rm -r {folder}") from None


def _say(text: str) -> None:
    """A line for the reader, unless the last one was just now."""
    now = time.monotonic()
    if now - _worker["last_line"] >= SECONDS_BETWEEN_LINES:
        _worker["last_line"] = now
        _put(text)


def _put(text: str) -> None:
    """A line for the reader: in one write, which needs no lock that a killed worker would hold for ever."""
    with contextlib.suppress(BlockingIOError):  # nobody reads any more
        os.write(_worker["lines"].fileno(), f"{text[:_LONGEST]}\n".encode()[: 4 * _LONGEST])

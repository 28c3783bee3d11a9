"""What a worker process of a training does: one chunk of seeds after another, stopping when the flag is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.cli.environment import environment, session
from repro.cli.stopping import SAVE_AND_END, Stopping, die_with_parent
from repro.config.read import as_mapping
from repro.config.schema import Config
from repro.engine import choose_device, set_up_process
from repro.seeding import seeds_label
from repro.train.alarm import Bands
from repro.train.checkpoint import Refused, refuse_other
from repro.train.finetune import finetune
from repro.train.log import line
from repro.train.loop import OutOfTime, Stopped, Trainer
from repro.train.result import Result, load_result, save_result
from repro.train.storage import Damaged, OtherFormat

SECONDS_BETWEEN_LINES = 30.0  # of the log, for each worker

_worker: dict[str, Any] = {}
"""Of a worker process: what all share, the counter, the flag and the queue of log lines; and whether it is at work."""


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


def start_worker(done: Any, lines: Any, flag: Any) -> None:
    """A worker stops when the flag is up, whoever raised it, and dies with its parent."""
    _worker.update(done=done, lines=lines, flag=flag, busy=False, last_line=time.monotonic())
    Stopping.in_worker(flag)
    die_with_parent(or_when=lambda: flag.value == SAVE_AND_END and not _worker["busy"])


def _stops() -> bool:
    return bool(_worker["flag"].value)


def train_chunk(job: Job, chunk: list[int]) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when it stopped before the end."""
    _worker["busy"] = True
    try:
        return _train(job, chunk)
    finally:
        _worker["busy"] = False


def _train(job: Job, chunk: list[int]) -> bool:
    config, folder, who = job.config, job.folder(chunk), f"{job.name} {seeds_label(chunk)}"
    if _stops():
        return False
    set_up_process(config.engine.threads)
    stacked = config.budget.stack > 1
    bands = None if stacked else job.bands

    def say(text: str) -> None:
        _worker["lines"].put(f"{who}: {text}")

    trainer = Trainer(config, chunk if stacked else chunk[0], choose_device(), job.source, session(choose_device()))
    finished = _finished(folder, say)
    if finished:
        made_by = {"made_by": finished.made_by, "step": config.budget.steps, "sessions": []}
        refuse_other(made_by, trainer.made_by(), folder)
        _count(config.budget.steps)
        return True

    def report(row: dict[str, float]) -> None:
        for alarm in bands.outside([row]) if bands else []:
            _worker["lines"].put(f"ALARM {who}: {alarm}")
        _say(line(who, row, config.budget.steps))

    try:
        trainer.run(folder, _count, job.deadline, report, _stops, say)
        tuned = finetune(trainer, _stops) if config.finetune.steps else {}
    except (OutOfTime, Stopped):
        return False
    facts = environment(trainer.device, trainer.sessions, job.source) | {"warnings": trainer.kept.warnings}
    facts["alarms"] = bands.outside(trainer.rows) if bands else None  # None: nothing to compare with
    result = Result(
        as_mapping(config), chunk, stacked, trainer.method.COUNTED, facts,
        trainer.rows, trainer.kept.series["snapshots"], trainer.kept.series["late"], tuned, trainer.made_by(),
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
        _worker["lines"].put(text)


def _count(steps: int) -> None:
    """Counts steps for the progress bar."""
    with _worker["done"].get_lock():
        _worker["done"].value += steps

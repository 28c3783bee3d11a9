"""Trains one run of the plan with all its seeds, side by side in worker processes.

    python -m repro.cli.train <run> --seeds 0-4

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.cli.entry import EXIT_OUT_OF_TIME, run
from repro.cli.environment import environment, source_hash
from repro.cli.progress import Progress
from repro.config.compose import parse_seeds
from repro.config.departures import departures
from repro.config.read import ConfigError, as_mapping, decisive, read_config, read_config_file
from repro.config.schema import Config
from repro.data.training import training_hash
from repro.engine import choose_device, set_up_process, worker_pool
from repro.seeding import seeds_label
from repro.train.alarm import Bands, bands_for
from repro.train.finetune import finetune
from repro.train.log import line
from repro.train.loop import OutOfTime, Trainer
from repro.train.result import Result, load_results, save_result

CONFIGS, RUNS, STATE = Path("artifacts/configs"), Path("artifacts/runs"), Path("state")

SECONDS_BETWEEN_LINES = 30.0  # of the log, for each worker

_worker: dict[str, Any] = {}
"""Of a worker process: the counter and the queue of log lines that all share, and the parent's process number."""


def main() -> int:
    """Trains what is missing; exits with 75 when the time budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of the plan")
    parser.add_argument("--seeds", required=True, help="such as 0-4 or 0,2,5")
    arguments = parser.parse_args()
    seeds = list(parse_seeds(arguments.seeds))
    config = read_config_file(CONFIGS / f"{arguments.run}.yaml")
    if training_hash(config.data, seeds) != config.data_hash:
        raise ConfigError(
            f"{arguments.run}: the data are not the prepared ones for seeds {arguments.seeds}; run: dvc repro prepare"
        )
    for departure in departures(config):
        kind = "open in" if departure.open else "departs from"
        print(f"  {kind} {config.recipe.name}: {departure.key} = {departure.here} ({departure.prescribed})")
    set_up_process(config.engine.threads)
    bands = bands_for(config)
    job = Job(arguments.run, config, STATE / arguments.run, source_hash(), _deadline(config.budget.max_minutes), bands)
    chunks = [seeds[i : i + config.budget.stack] for i in range(0, len(seeds), config.budget.stack)]
    if not _train_all(job, chunks):
        minutes = config.budget.max_minutes
        print(f"{arguments.run}: budget.max_minutes = {minutes} are over; the state is saved, run again to go on")
        return EXIT_OUT_OF_TIME
    (RUNS / arguments.run).mkdir(parents=True, exist_ok=True)
    for chunk in chunks:
        shutil.move(job.finished(chunk), RUNS / arguments.run / f"{seeds_label(chunk)}.pt")
    shutil.rmtree(job.state)
    return 0


@dataclass(frozen=True)
class Job:
    """What all chunks of seeds of one run share."""

    name: str  # of the run
    config: Config
    state: Path  # folder
    source: str  # hash of the training code: a saved state of other code is not resumed
    deadline: float  # time.monotonic()
    bands: Bands | None  # of recorded seeds, for the early alarm

    def finished(self, chunk: list[int]) -> Path:
        """Where the result of a chunk waits for the others."""
        return self.state / "finished" / f"{seeds_label(chunk)}.pt"


def _deadline(minutes: float) -> float:
    return time.monotonic() + 60 * minutes if minutes else math.inf


def _train_all(job: Job, chunks: list[list[int]]) -> bool:
    """Trains all chunks of seeds; False when the deadline passed first."""
    workers, context = worker_pool(min(job.config.budget.workers, len(chunks)))
    done, lines = context.Value("q", 0), context.SimpleQueue()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (done, lines, os.getpid()))
    complete = True
    with Progress(job.name, len(chunks) * job.config.budget.steps) as progress, pool:
        waiting = {pool.submit(_train_chunk, job, chunk) for chunk in chunks}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            progress.show(done.value)
            while not lines.empty():
                progress.say(lines.get())
            for future in finished:
                complete &= _outcome(job.name, future)
    return complete


def _outcome(name: str, future: Future[bool]) -> bool:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            f"{name}: a worker process was killed; if memory ran out, lower budget.workers or budget.stack; "
            "run the same command again to go on from the last saved state"
        ) from None


def _start_worker(done: Any, lines: Any, parent: int) -> None:
    """Workers die with an interrupt, without a trace each; the parent says what happened."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _worker.update(done=done, lines=lines, parent=parent, last_line=time.monotonic())


def _train_chunk(job: Job, chunk: list[int]) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when out of time."""
    config, finished = job.config, job.finished(chunk)
    set_up_process(config.engine.threads)
    if finished.is_file():
        for result in load_results(finished.parent):
            same = decisive(read_config(result.config)) == decisive(config)
            if same and result.seeds == chunk and result.environment["source"] == job.source:
                _count(config.budget.steps)
                return True
        finished.unlink()
    stacked = config.budget.stack > 1
    trainer = Trainer(config, chunk if stacked else chunk[0], choose_device(), job.source)
    started = time.monotonic()

    who = f"{job.name} {seeds_label(chunk)}"
    bands = None if stacked else job.bands

    def report(row: dict[str, float]) -> None:
        for alarm in bands.outside([row]) if bands else []:
            _worker["lines"].put(f"ALARM {who}: {alarm}")
        _say(line(who, row, config.budget.steps))

    try:
        trainer.run(job.state / f"{seeds_label(chunk)}.pt", _count, job.deadline, report)
    except OutOfTime:
        return False
    tuned = finetune(trainer) if config.finetune.steps else {}
    facts = environment(trainer.device, time.monotonic() - started) | {"source": job.source}
    facts["alarms"] = bands.outside(trainer.rows) if bands else None  # None: nothing to compare with
    result = Result(
        as_mapping(config), chunk, stacked, trainer.method.COUNTED, facts,
        trainer.rows, trainer.snapshots, trainer.late, tuned,
    )  # fmt: skip
    save_result(finished.parent, result)
    return True


def _say(text: str) -> None:
    """A line for the reader, unless the last one was just now."""
    now = time.monotonic()
    if now - _worker["last_line"] >= SECONDS_BETWEEN_LINES:
        _worker["last_line"] = now
        _worker["lines"].put(text)


def _count(steps: int) -> None:
    """Counts steps for the progress bar; ends a worker whose parent is gone, so that no two write one state."""
    if os.getppid() != _worker["parent"]:
        os._exit(1)
    with _worker["done"].get_lock():
        _worker["done"].value += steps


if __name__ == "__main__":
    run(main)

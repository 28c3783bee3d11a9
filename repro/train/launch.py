"""Trains one run of the plan with all its seeds, in worker processes.

    repro train <run> --seeds 0-4
    torchrun --nproc-per-node 4 -m repro train <run> --seeds 0-4    # four processes share every batch of each seed

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was. Seeds that a shorter plan trained in the same way
stay as they are. SIGTERM and SIGHUP, Ctrl-C, and the end of `budget.max_minutes` save first, and exit with a status of
their own: 85, 130 and 75.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from repro.config import Config, departures, read_config_file
from repro.data import source_of
from repro.engine.device import set_up_process, worker_pool
from repro.engine.distributed import World, connected
from repro.files import only_writer, partly, remove_folder
from repro.seeding import seeds_label, seeds_listed
from repro.settings import ConfigError, parse_seeds
from repro.train.checkpoint import Refused, is_published, publish, refuse_newest
from repro.train.job import Job, Listener, less_memory, source_hashes, take_over, train_chunk
from repro.train.stopping import EXIT_OUT_OF_TIME, Flags, Progress, Stopping, die_with_parent

CONFIGS, RUNS, STATE = Path("artifacts/configs"), Path("artifacts/runs"), Path("state")


def train(arguments: argparse.Namespace) -> int:
    """Trains what is missing; exits with a status of its own when it stopped before the end."""
    set_up_process()  # threads that were started before workers are forked would be missing in them
    try:
        with connected() as world, one_voice(world):
            return _train(arguments.run, arguments.seeds, world)
    except Unsaid:
        return 2


def _train(run: str, seeds_text: str, world: World) -> int:
    config, seeds = world.each(lambda: _prepared(run, seeds_text))
    for departure in departures(config) if world.rank == 0 else []:
        kind = "open in" if departure.open else "departs from"
        print(f"  {kind} {config.recipe.name}: {departure.key} = {departure.here} ({departure.prescribed})")
    with first_writes(world, run, f"run {run}"):
        chunks = [seeds[i : i + config.budget.stack] for i in range(0, len(seeds), config.budget.stack)]
        job = Job(run, config, STATE / run, source_hashes(), deadline_of(config))
        if world.first(lambda: _finished_already(job, chunks)):
            return 0
        world.first(lambda: take_over(job, chunks, RUNS / job.name, print))
        status = train_all(job, chunks) if world.size == 1 else train_together(job, chunks, world)
        if not status:
            world.first(lambda: _publish(job, chunks))
    return status


def _prepared(run: str, seeds_text: str) -> tuple[Config, list[int]]:
    """Settings and seeds of a run.

    Raises:
        ConfigError: when they are not the prepared ones.
    """
    seeds = list(parse_seeds(seeds_text))
    if Path(run).name != run:
        raise ConfigError(f"{run!r} is no run of a plan: it names a folder, so has no slash")
    config = read_config_file(CONFIGS / f"{run}.yaml")
    if config.planned_seeds and seeds_listed(seeds) != config.planned_seeds:
        raise ConfigError(
            f"{run}: seeds {seeds_text} are not the planned {config.planned_seeds}; name those, or "
            "change the plan and prepare it again: dvc repro prepare"
        )
    if source_of(config.data).training_hash(seeds) != config.data_hash:
        raise ConfigError(f"{run}: the data are not the prepared ones for seeds {seeds_text}; run: dvc repro prepare")
    return config, seeds


def _finished_already(job: Job, chunks: list[list[int]]) -> bool:
    """Whether there is nothing to train.

    Raises:
        Refused: when something that is left of this run was made otherwise.
    """
    refuse_other_states(job, chunks)
    if not is_published(RUNS / job.name, [job.made_by(chunk) for chunk in chunks]):
        return False
    print(f"{job.name}: finished already, nothing to train; to train it again: rm -r {RUNS / job.name}")
    remove_folder(job.state)
    return True


def _publish(job: Job, chunks: list[list[int]]) -> None:
    """Puts what is trained where evaluation finds it; the state goes."""
    with only_writer(f"{job.name}.weights", f"what is trained of {job.name}"):
        publish([job.folder(chunk) for chunk in chunks], RUNS / job.name)
    remove_folder(job.state)


def refuse_other_states(job: Job, chunks: list[list[int]]) -> None:
    """Before any work, looks at all that is left of this run.

    Raises:
        Refused: when something of it was made otherwise, or is of other seeds or another stack.
    """
    partly(job.state)  # what a kill left of its removal
    other = {path.name for path in job.state.glob("seed*")} - {job.folder(chunk).name for chunk in chunks}
    if other:
        raise Refused(
            f"{job.state} holds {', '.join(sorted(other))}, which is not among the seeds to train, stacked by "
            f"budget.stack = {job.config.budget.stack}; undo the difference to go on, or start anew: rm -r {job.state}"
        )
    for chunk in chunks:
        refuse_newest(job.folder(chunk), job.training_made_by(chunk), job.state)


def deadline_of(config: Config) -> float:
    """When `budget.max_minutes` are over, by time.monotonic()."""
    minutes = config.budget.max_minutes
    return time.monotonic() + 60 * minutes if minutes else math.inf


def train_all(job: Job, chunks: list[list[int]]) -> int:
    """Trains all chunks of seeds in worker processes; the exit status of what came before the end, else 0."""
    workers, context = worker_pool(min(job.config.budget.workers, len(chunks)))
    done = context.Array("q", len(chunks), lock=False)  # without locks, which a killed worker would hold for ever
    flags = Flags(context.Array("b", 2, lock=False))
    heard, lines = context.Pipe(duplex=False)
    os.set_blocking(lines.fileno(), False)
    complete = True
    with (
        Stopping(flags) as stopping,
        Progress(job.name, len(chunks) * job.config.budget.steps, ends=job.ends) as progress,
        ProcessPoolExecutor(workers, context, start_worker, (done, lines, flags)) as pool,
        _others_stop_too(job, flags) as waiting,
    ):
        with stopping.held_back():
            waiting.update(pool.submit(work, job, number, chunk) for number, chunk in enumerate(chunks))
        while waiting:
            finished = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).done
            waiting.difference_update(finished)
            progress.show(sum(done))
            while heard.poll():
                for line in os.read(heard.fileno(), 1 << 16).decode(errors="replace").splitlines():
                    progress.say(line)
            complete &= min(future.result() for future in finished) if finished else True
    if complete:
        return 0
    limit = f"budget.max_minutes = {job.config.budget.max_minutes} are over"
    why = f"stopped by {stopping.name}" if stopping.status else limit
    print(f"{job.name}: {why}; the state is saved, run again to go on")
    return stopping.status or EXIT_OUT_OF_TIME


@contextlib.contextmanager
def _others_stop_too(job: Job, flags: Flags) -> Iterator[set[Future[bool]]]:
    """When one worker fails, the others save and stop, rather than train on for days before anyone is told.

    Gives a set for the futures that are still waited for. A broken pool ends no idle worker, so the flag must.
    """
    waiting: set[Future[bool]] = set()
    try:
        yield waiting
    except BrokenProcessPool:
        flags.end()
        raise RuntimeError(
            f"{job.name}: a worker process was killed; if memory ran out, {less_memory(job.config)}; "
            "run the same command again to go on from the last saved state"
        ) from None
    except BaseException:
        flags.stop()
        if any(isinstance(future.exception(), BrokenProcessPool) for future in wait(waiting).done):
            flags.end()
        raise


_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: what all share, the counters, the flags and the pipe of log lines; and whether it is at work."""


def start_worker(done: Any, lines: Any, flags: Flags) -> None:
    """A worker stops when the flag is up, whoever raised it, and dies with its parent."""
    _worker.update(done=done, lines=lines, flags=flags, busy=False, began=False, last_line=time.monotonic())
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def work(job: Job, number: int, chunk: list[int]) -> bool:
    """Trains this chunk of seeds unless it is finished; False when it stopped before the end.

    Args:
        job: the run.
        number: of the chunk among all of the run.
        chunk: its seeds.
    """
    late = time.monotonic() > job.deadline and _worker["began"]  # some step is always made
    _worker.update(busy=True, began=True)
    try:
        if late or _stops():
            return False
        with only_writer(f"{job.name}.{seeds_label(chunk)}", f"{job.name} {seeds_label(chunk)}"):
            return train_chunk(job, chunk, Listener(partial(_count, number), _put, _say, _stops))
    finally:
        _worker["busy"] = False


def _count(number: int, steps: int) -> None:
    _worker["done"][number] += steps


def _stops() -> bool:
    return bool(_worker["flags"].stops)


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


SECONDS_BETWEEN_LINES = 30.0  # of the log


class Unsaid(Exception):
    """Something went wrong that another process has said."""


@contextlib.contextmanager
def one_voice(world: World) -> Iterator[None]:
    """What goes wrong within the block is said by one process.

    Raises:
        Unsaid: in the others.
    """
    try:
        yield
    except Exception as error:
        if not world.says(error):
            raise Unsaid from error
        raise


@contextlib.contextmanager
def first_writes(world: World, name: str, what: str) -> Iterator[None]:
    """The first process holds the lock `name` for the block; all raise what it meets."""
    with ExitStack() as held:
        world.first(lambda: held.enter_context(only_writer(name, what)))
        yield


def train_together(job: Job, chunks: list[list[int]], world: World) -> int:
    """Trains all chunks of seeds; the exit status of what came before the end, else 0."""
    flags = Flags([0, 0])
    with ExitStack() as block:
        stopping = block.enter_context(Stopping(flags))
        listener = _listener(job, len(chunks), flags, block, world)
        block.callback(_stop_with_launcher(flags).set)
        complete = all(_train_one(job, chunk, listener, world, is_first=chunk == chunks[0]) for chunk in chunks)
    if complete:
        return 0
    status, name = max(world.all_of((stopping.status, stopping.name)))
    if world.rank == 0:
        limit = f"budget.max_minutes = {job.config.budget.max_minutes} are over"
        why = f"stopped by {name}" if status else "its launcher is gone" if flags.stops else limit
        print(f"{job.name}: {why}; the state is saved, run again to go on", flush=True)
    return status or EXIT_OUT_OF_TIME


def _train_one(job: Job, chunk: list[int], listener: Listener, world: World, is_first: bool) -> bool:
    """Whether this chunk is finished; some step is always made of the first."""
    late = time.monotonic() > job.deadline and not is_first
    if any(world.most([late, listener.stops()])):
        return False
    who = f"{job.name} {seeds_label(chunk)}"
    with first_writes(world, f"{job.name}.{seeds_label(chunk)}", who):
        return train_chunk(job, chunk, listener, world)


def _listener(job: Job, chunks: int, flags: Flags, block: ExitStack, world: World) -> Listener:
    """The first process speaks."""
    if world.rank:
        return Listener(_hear_nothing, _hear_nothing, _hear_nothing, lambda: flags.stops)
    progress = block.enter_context(Progress(job.name, chunks * job.config.budget.steps))
    done, last = 0, time.monotonic()

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        progress.show(done)

    def log(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            progress.say(text)

    return Listener(count, progress.say, log, lambda: flags.stops)


def _hear_nothing(_: object) -> None:
    pass


def _stop_with_launcher(flags: Flags) -> threading.Event:
    """Saves and stops when `torchrun` is gone, however it went; other launchers may leave their processes on purpose.

    The event that is returned, once set, ends the watch.
    """
    over, launcher = threading.Event(), os.getppid()

    def watch() -> None:
        while not over.wait(0.5):
            if os.getppid() != launcher:
                flags.stop()
                return

    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=watch, daemon=True).start()
    return over

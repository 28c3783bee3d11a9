"""Trains runs of the plan in worker processes: on CPUs so many as `budget.workers` says, on GPUs one each.

    repro train <run> --seeds 0-4
    repro train <run> --seeds 3                                     # one of the planned seeds, as a job of a cluster
    torchrun --nproc-per-node 4 -m repro train <run> --seeds 0-4    # four processes share every batch of each seed

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was. Seeds that a shorter plan trained in the same way
stay as they are. SIGTERM and SIGHUP, Ctrl-C, and the end of `budget.max_minutes` save first, and exit with a status of
their own: 85, 130 and 75.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from repro.config import Config, departures, read_config_file
from repro.data import source_of
from repro.engine.device import set_up_process, visible_gpus
from repro.engine.distributed import ALONE, World, connected
from repro.files import only_writer, partly, remove_folder
from repro.seeding import seeds_label, seeds_listed
from repro.settings import ConfigError, parse_seeds
from repro.train.checkpoint import Refused, is_published, publish, refuse_newest
from repro.train.job import Job, Listener, less_memory, source_hashes, take_over, train_chunk
from repro.train.stopping import EXIT_OUT_OF_TIME, Flags, Progress, Stopping, die_with_parent

CONFIGS, RUNS, STATE = Path("artifacts/configs"), Path("artifacts/runs"), Path("state")
NOTE = "progress.json"


def train(arguments: argparse.Namespace) -> int:
    """Trains what is missing; exits with a status of its own when it stopped before the end."""
    set_up_process()  # threads that were started before workers are forked would be missing in them
    try:
        with connected() as world, one_voice(world):
            one = open_run(arguments.run, arguments.seeds, world)
            with one.lock:
                how = train_all if world.size == 1 else partial(train_together, world=world)
                status = how(one.job, one.chunks) if one.chunks else 0
                if not status:
                    world.first(lambda: close_run(one))
            return status
    except Unsaid:
        return 2


@dataclass
class Opened:
    """A run that is being trained."""

    job: Job
    chunks: list[list[int]]  # of seeds that train together; none where all planned ones are finished
    whole: bool  # they are all the planned ones, so that their results are joined
    lock: ExitStack


def open_run(run: str, seeds_text: str, world: World = ALONE) -> Opened:
    """What to train of a run, looked at before any work; its lock is held where all planned seeds are to be trained.

    Some of the planned seeds are a job of several that train the run on other machines: no lock reaches those, and the
    results wait in the seeds' own folders for the one process that joins them.
    """
    config, planned, seeds = world.each(lambda: _prepared(run, seeds_text))
    for departure in departures(config) if world.rank == 0 else []:
        kind = "open in" if departure.open else "departs from"
        print(f"  {kind} {config.recipe.name}: {departure.key} = {departure.here} ({departure.prescribed})")
    job = Job(run, config, STATE / run, source_hashes(), deadline_of(config))
    every = stacked(planned, config)
    chunks = [chunk for chunk in every if set(chunk) <= set(seeds)]
    with ExitStack() as lock:
        if chunks == every:
            lock.enter_context(first_writes(world, run, f"run {run}"))
        if world.first(lambda: finished_already(job, every, chunks)):
            chunks = []
        world.first(lambda: take_over(job, chunks, RUNS / job.name, print))
        return Opened(job, chunks, seeds == planned, lock.pop_all())


def stacked(seeds: list[int], config: Config) -> list[list[int]]:
    """The seeds that train as one, of all of them."""
    return [seeds[i : i + config.budget.stack] for i in range(0, len(seeds), config.budget.stack)]


def train_runs(wanted: Iterable[tuple[str, str]], label: str, steps: int, workers: int) -> int:
    """Trains runs in one pool of workers, each opened when its first seed is next; the exit status, 0 when all is done.

    Args:
        wanted: names of runs, each with its planned seeds.
        label: of the whole.
        steps: of the whole.
        workers: side by side, at most; on GPUs, one each.
    """
    under_way: dict[str, tuple[Opened, list[list[int]]]] = {}

    def parts() -> Iterator[tuple[Job, list[int]]]:
        for run, seeds in wanted:
            one = open_run(run, seeds)
            under_way[run] = one, list(one.chunks)
            yield from ((one.job, chunk) for chunk in one.chunks)
            if not one.chunks:
                done(one.job, None)

    def done(job: Job, chunk: list[int] | None) -> None:
        one, left = under_way[job.name]
        if chunk:
            left.remove(chunk)
        if not left:
            with one.lock:
                close_run(one)
            del under_way[job.name]

    try:
        return train_parts(parts(), label, steps, workers, done)
    finally:
        for one, _ in under_way.values():
            one.lock.close()


def _prepared(run: str, seeds_text: str) -> tuple[Config, list[int], list[int]]:
    """Settings, planned seeds, and those to train now.

    Raises:
        ConfigError: when they are not the prepared ones.
    """
    seeds = list(parse_seeds(seeds_text))
    if Path(run).name != run:
        raise ConfigError(f"{run!r} is no run of a plan: it names a folder, so has no slash")
    config = read_config_file(CONFIGS / f"{run}.yaml")
    planned = list(parse_seeds(config.planned_seeds)) if config.planned_seeds else seeds
    split = [chunk for chunk in stacked(planned, config) if 0 < len(set(chunk) & set(seeds)) < len(chunk)]
    if split or not set(seeds) <= set(planned) or seeds != sorted(seeds, key=planned.index):
        raise ConfigError(
            f"{run}: seeds {seeds_text} are not the planned {config.planned_seeds}"
            + (f", of which {seeds_listed(split[0])} train as one" if split else "")
            + "; name those, or change the plan and prepare it again: dvc repro prepare"
        )
    if source_of(config.data).training_hash(planned) != config.data_hash:
        raise ConfigError(f"{run}: the data are not the prepared ones for seeds {seeds_text}; run: dvc repro prepare")
    return config, planned, seeds


def finished_already(job: Job, every: list[list[int]], chunks: list[list[int]]) -> bool:
    """Whether there is nothing to train.

    Args:
        job: the run.
        every: chunk of its planned seeds.
        chunks: of them, that are to be trained here.

    Raises:
        Refused: when something that is left of this run was made otherwise.
    """
    refuse_other_states(job, every, chunks)
    if not is_published(RUNS / job.name, [job.made_by(chunk) for chunk in every]):
        return False
    print(f"{job.name}: finished already, nothing to train; to train it again: rm -r {RUNS / job.name}")
    if chunks == every:
        remove_folder(job.state)
    return True


def close_run(one: Opened) -> None:
    """Puts what is trained where evaluation finds it, and the state goes; of some seeds, their state stays."""
    if one.chunks and one.whole:
        with only_writer(f"{one.job.name}.weights", f"what is trained of {one.job.name}"):
            publish([one.job.folder(chunk) for chunk in one.chunks], RUNS / one.job.name)
        remove_folder(one.job.state)
    elif one.chunks:
        labels = ", ".join(map(seeds_label, one.chunks))
        print(f"{one.job.name}: {labels} trained, of seeds {one.job.config.planned_seeds}; to join what all of them "
              f"left: repro train {one.job.name} --seeds {one.job.config.planned_seeds}")  # fmt: skip


def refuse_other_states(job: Job, every: list[list[int]], chunks: list[list[int]] | None = None) -> None:
    """Before any work, looks at all that is left of `chunks` (by default of all), and of seeds that are in no chunk.

    Raises:
        Refused: when something of it was made otherwise, or is of other seeds or another stack.
    """
    partly(job.state)  # what a kill left of its removal
    other = {path.name for path in job.state.glob("seed*")} - {job.folder(chunk).name for chunk in every}
    if other:
        raise Refused(
            f"{job.state} holds {', '.join(sorted(other))}, which is not among the seeds to train, stacked by "
            f"budget.stack = {job.config.budget.stack}; undo the difference to go on, or start anew: rm -r {job.state}"
        )
    for chunk in every if chunks is None else chunks:
        refuse_newest(job.folder(chunk), job.training_made_by(chunk), job.state)


def deadline_of(config: Config) -> float:
    """When `budget.max_minutes` are over, by time.monotonic()."""
    minutes = config.budget.max_minutes
    return time.monotonic() + 60 * minutes if minutes else math.inf


def train_all(job: Job, chunks: list[list[int]]) -> int:
    """Trains all chunks of seeds in worker processes; the exit status of what came before the end, else 0."""
    budget = job.config.budget
    parts = ((job, chunk) for chunk in chunks)
    return train_parts(parts, job.name, len(chunks) * budget.steps, min(budget.workers, len(chunks)), ends=job.ends)


def train_parts(
    parts: Iterator[tuple[Job, list[int]]], label: str, steps: int, workers: int,
    done: Callable[[Job, list[int]], object] = lambda *_: None, ends: float = math.inf,
) -> int:  # fmt: skip
    """Trains chunks of seeds, of one run or several; the exit status of what came before the end, else 0.

    Args:
        parts: a run and some seeds of it, taken when a worker is about to be free.
        label: of the whole.
        steps: of the whole.
        workers: side by side, at most; on GPUs, one each.
        done: told of each part that is finished.
        ends: when the whole shall end, by time.monotonic(), in as many steps as fit.
    """
    gpus = visible_gpus()
    workers, context = (len(gpus), get_context("spawn")) if gpus else (workers, get_context("fork"))
    counts = context.Array("q", workers, lock=False)  # without locks, which a killed worker would hold for ever
    flags = Flags(context.Array("b", 2, lock=False))
    places = context.SimpleQueue()
    for place in enumerate(gpus or [""] * workers):
        places.put(place)
    heard, lines = context.Pipe(duplex=False)
    os.set_blocking(lines.fileno(), False)
    late: list[Job] = []
    with (
        Stopping(flags) as stopping,
        Progress(label, steps, ends=ends) as progress,
        ProcessPoolExecutor(workers, context, start_worker, (places, counts, lines, flags)) as pool,
        _others_stop_too(label, flags) as waiting,
    ):
        while True:
            while len(waiting) < 2 * workers and not (late or flags.stops) and (part := next(parts, None)):
                with stopping.held_back():
                    waiting[pool.submit(work, *part)] = part
            if not waiting:
                break
            finished = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).done
            progress.show(sum(counts))
            while heard.poll():
                for line in os.read(heard.fileno(), 1 << 16).decode(errors="replace").splitlines():
                    progress.say(line)
            for future in finished:
                job, chunk = waiting[future]
                if future.result():
                    done(job, chunk)
                else:
                    late.append(job)
                del waiting[future]
    if not late and not flags.stops:
        return 0
    limit = f"budget.max_minutes = {late[0].config.budget.max_minutes} are over" if late else ""
    why = f"stopped by {stopping.name}" if stopping.status else limit
    print(f"{label}: {why}; the state is saved, run again to go on")
    return stopping.status or EXIT_OUT_OF_TIME


Parts = dict[Future[bool], tuple[Job, list[int]]]


@contextlib.contextmanager
def _others_stop_too(label: str, flags: Flags) -> Iterator[Parts]:
    """When one worker fails, the others save and stop, rather than train on for days before anyone is told.

    Gives a dictionary for the futures that are still waited for. A broken pool ends no idle worker, so the flag must.
    """
    waiting: Parts = {}
    try:
        yield waiting
    except BrokenProcessPool:
        flags.end()
        config = next(job.config for job, _ in waiting.values())
        raise RuntimeError(
            f"{label}: a worker process was killed; if memory ran out, {less_memory(config)}; "
            "run the same command again to go on from the last saved state"
        ) from None
    except BaseException:
        flags.stop()
        if any(isinstance(future.exception(), BrokenProcessPool) for future in wait(waiting).done):
            flags.end()
        raise


_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: its number, what all share, counts, flags and the pipe of lines; and whether it is at work."""


def start_worker(places: Any, counts: Any, lines: Any, flags: Flags) -> None:
    """A worker sees its own GPU alone, stops when the flag is up, whoever raised it, and dies with its parent."""
    number, gpu = places.get()
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _worker.update(number=number, counts=counts, lines=lines, flags=flags, busy=False, began=False,
                   last_line=time.monotonic())  # fmt: skip
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def work(job: Job, chunk: list[int]) -> bool:
    """Trains this chunk of seeds unless it is finished; False when it stopped before the end."""
    late = time.monotonic() > job.deadline and _worker["began"]  # some step is always made
    _worker.update(busy=True, began=True)
    try:
        if late or _stops():
            return False
        with only_writer(lock_of(job, chunk), f"{job.name} {seeds_label(chunk)}"):
            return train_chunk(job, chunk, Listener(noted(job, chunk, _count), _put, _say, _stops))
    finally:
        _worker["busy"] = False


def lock_of(job: Job, chunk: list[int]) -> str:
    """Of one seed on this machine; on others the batch system alone keeps a second process away."""
    return f"{job.name}.{seeds_label(chunk)}.{platform.node()}"


SECONDS_BETWEEN_NOTES = 10.0


def noted(job: Job, chunk: list[int], count: Callable[[int], None]) -> Callable[[int], None]:
    """`count` that also notes in the seed's folder, for `repro status`, how far it is, how fast, and where."""
    note, here = job.folder(chunk) / NOTE, 0
    since, before, last = 0.0, 0, 0.0  # when the first steps were done, and how many; when it noted last

    def counted(steps: int) -> None:
        nonlocal here, since, before, last
        count(steps)
        here, now = here + steps, time.monotonic()
        if not since:
            since, before = now, here  # what a checkpoint brought, or the first steps
        if now - last < SECONDS_BETWEEN_NOTES:
            return
        last = now
        rate = (here - before) / (now - since) if now > since else 0.0
        with contextlib.suppress(OSError):  # a courtesy, for which a full disk need have no room
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"step": here, "steps": job.config.budget.steps, "rate": round(rate, 3),
                                        "node": os.environ.get("SLURMD_NODENAME") or platform.node()}))  # fmt: skip

    return counted


def _count(steps: int) -> None:
    _worker["counts"][_worker["number"]] += steps


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
    with first_writes(world, lock_of(job, chunk), f"{job.name} {seeds_label(chunk)}"):
        if world.rank == 0:
            listener = replace(listener, count=noted(job, chunk, listener.count))
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

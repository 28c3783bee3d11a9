"""Trains runs in worker processes: `budget.workers` of them on a CPU, one for each GPU.

    repro train <run> --seeds 0-4
    repro train <run> --seeds 3                                     # one of the planned seeds, as a job of a cluster
    torchrun --nproc-per-node 4 -m repro train <run> --seeds 0-4    # four processes share every batch of each seed

Reads artifacts/configs/<run>.yaml, writes artifacts/runs/<run>/. The state stays in state/<run>/ until all seeds are
done: after an interruption, the same command resumes from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from multiprocessing import RawArray
from multiprocessing.connection import Connection
from typing import Any

from repro.config import departures, read_config_file
from repro.data import source_of
from repro.engine.device import set_up_process, visible_gpus, worker_pool
from repro.engine.distributed import ALONE, World, connected
from repro.files import (
    CONFIGS,
    NOTE,
    STATE,
    TRAINED,
    only_writer,
    partly,
    refuse_other_settings,
    refuse_path,
    remove_folder,
)
from repro.seeding import seeds_listed
from repro.settings import ConfigError, parse_seeds
from repro.train.checkpoint import Refused, is_published, publish, refuse_newest
from repro.train.job import Job, Listener, is_finished, jobs_of, less_memory, take_over, train_job
from repro.train.stopping import EXIT_OUT_OF_TIME, Flags, Progress, Stopping, die_with_parent


def train(run: str, seeds: str) -> int:
    """Trains the missing seeds of a run; returns the exit status, 0 when all are done."""
    set_up_process()  # no thread may start before the fork of the workers, which would lack it
    world = ALONE
    try:
        with connected() as world, opened(run, seeds, world) as jobs:
            return train_all(jobs, world)
    except Exception as error:
        if world.says(error):
            raise
        return 2  # another process has said it


def train_plan(runs: Mapping[str, Mapping[str, Any]], label: str, workers: int) -> int:
    """Trains the missing seeds of a plan, laid out as `runs`, in one pool; returns the exit status.

    A run is opened when its first seed is next. 0 `workers` are as many as the smallest `budget.workers` of the runs.
    """
    under_way: dict[str, tuple[ExitStack, list[Job]]] = {}

    def jobs() -> Iterator[Job]:
        for run, planned in runs.items():
            block = ExitStack()
            refuse_other_settings(run, planned["settings"])
            found = block.enter_context(opened(run, planned["seeds"]))
            under_way[run] = block, list(found)
            yield from found
            if not found:
                block.close()

    def done(job: Job) -> None:
        block, left = under_way[job.run]
        left.remove(job)
        if not left:
            block.close()

    steps = sum(one["steps"] * len(one["jobs"]) for one in runs.values())
    try:
        return train_jobs(jobs(), label, steps, workers or min(one["workers"] for one in runs.values()), done)
    finally:
        for block, _ in under_way.values():
            block.close()


@contextlib.contextmanager
def opened(run: str, seeds_text: str, world: World = ALONE) -> Iterator[list[Job]]:
    """Checks a run and gives its jobs to train; at the end publishes the results for evaluation.

    To train only some of the planned seeds, it takes no lock of the run: other machines may train the rest, and no lock
    reaches them. The results then stay in the seeds' own folders until one process joins them.
    """
    every, jobs = world.each(lambda: _prepared(run, seeds_text))
    config, whole = every[0].config, jobs == every
    for departure in departures(config) if world.rank == 0 else []:
        kind = "open in" if departure.open else "departs from"
        print(f"  {kind} {config.recipe.name}: {departure.key} = {departure.here} ({departure.prescribed})")
    with first_writes(world, run, f"run {run}") if whole else contextlib.nullcontext():
        if world.first(lambda: finished_already(every, jobs)):
            jobs = []
        world.first(lambda: take_over(jobs, TRAINED / run))
        yield jobs
        world.first(lambda: _close(jobs, whole))


def _close(jobs: list[Job], whole: bool) -> None:
    """Publishes a run that is finished as a whole and removes its state; the state of only some seeds stays."""
    if not jobs or not all(is_finished(job, print) for job in jobs):
        return
    run, planned = jobs[0].run, jobs[0].config.planned_seeds
    if whole:
        with only_writer(f"{run}.weights", f"what is trained of {run}"):
            publish([job.folder for job in jobs], TRAINED / run)
        remove_folder(jobs[0].state)
    else:
        trained = ", ".join(job.folder.name for job in jobs)
        print(f"{run}: {trained} trained, of seeds {planned}; to join what all of them left: repro train {run} "
              f"--seeds {planned}")  # fmt: skip


def _prepared(run: str, seeds_text: str) -> tuple[list[Job], list[Job]]:
    """The jobs of all planned seeds, and those of them to train now; ConfigError where they are not as prepared."""
    seeds = list(parse_seeds(seeds_text))
    refuse_path(run)
    config = read_config_file(CONFIGS / f"{run}.yaml")
    planned = list(parse_seeds(config.planned_seeds)) if config.planned_seeds else seeds
    every = jobs_of(run, config, STATE / run, planned)
    jobs = [job for job in every if set(job.seeds) <= set(seeds)]
    if [seed for job in jobs for seed in job.seeds] != seeds:
        split = [job.seeds for job in every if 0 < len(set(job.seeds) & set(seeds)) < len(job.seeds)]
        raise ConfigError(
            f"{run}: seeds {seeds_text} are not the planned {config.planned_seeds}"
            + (f", of which {seeds_listed(split[0])} train as one" if split else "")
            + "; name those, or change the plan and prepare it again: dvc repro prepare"
        )
    if source_of(config.data).training_hash(planned) != config.data_hash:
        raise ConfigError(f"{run}: the data are not the prepared ones for seeds {seeds_text}; run: dvc repro prepare")
    return every, jobs


def finished_already(every: list[Job], jobs: list[Job]) -> bool:
    """Whether all planned jobs of a run are finished; refuses what other settings, data or code left of it."""
    refuse_other_states(every, jobs)
    run, state = every[0].run, every[0].state
    if not is_published(TRAINED / run, [job.made_by for job in every]):
        return False
    print(f"{run}: finished already, nothing to train; to train it again: rm -r {TRAINED / run}")
    if jobs == every:
        remove_folder(state)
    return True


def refuse_other_states(every: list[Job], jobs: list[Job]) -> None:
    """Refuses, before any work, states that other settings, data or code left, or that are of other seeds."""
    state, stack = every[0].state, every[0].config.budget.stack
    partly(state)  # what a kill left of its removal
    other = {path.name for path in state.glob("seed*")} - {job.folder.name for job in every}
    if other:
        raise Refused(
            f"{state} holds {', '.join(sorted(other))}, which is not among the seeds to train, stacked by "
            f"budget.stack = {stack}; undo the difference to go on, or start anew: rm -r {state}"
        )
    for job in jobs:
        refuse_newest(job.folder, job.training_made_by, state)


def train_all(jobs: list[Job], world: World = ALONE) -> int:
    """Trains jobs of one run; returns 0 when all are done, else the exit status of what stopped them."""
    if not jobs:
        return 0
    budget, steps = jobs[0].config.budget, len(jobs) * jobs[0].config.budget.steps
    return train_jobs(iter(jobs), jobs[0].run, steps, min(budget.workers, len(jobs)), world=world)


def train_jobs(
    jobs: Iterator[Job], label: str, steps: int, workers: int, done: Callable[[Job], object] = lambda _: None,
    world: World = ALONE,
) -> int:  # fmt: skip
    """Trains jobs of one run or several; returns 0 when all are done, else the exit status of what stopped them.

    Each job, all of which have so many `steps`, is taken shortly before one of at most `workers` is free; on GPUs it is
    one each. `done` is called with each finished job; the first error is raised once the others have ended. The
    processes of `world` train each job together, without workers. `label` is for messages.
    """
    first = next(jobs, None)
    if first is None:
        return 0
    jobs, flags = chain([first], jobs), Flags()
    try:
        with Stopping(flags) as stopping, Progress(label, steps, ends=first.ends, silent=world.rank > 0) as progress:
            if world.size > 1:
                late, failed = _train_together(jobs, progress, flags, world)
            else:
                late, failed = _train_by_workers(jobs, workers, progress, flags, done)
    except BrokenProcessPool:
        raise RuntimeError(
            f"{label}: a worker process was killed; if memory ran out, {less_memory(first.config)}; "
            "run the same command again to go on from the last saved state"
        ) from None
    if failed:
        raise failed[0]
    status, name, stopped = max(world.all_of((stopping.status, stopping.name, flags.stops)))
    if not late and not stopped:
        return 0
    if world.rank == 0:
        outside = "its launcher is gone" if world.size > 1 else "a worker was told to stop"
        limit = outside if stopped else f"budget.max_minutes = {late[0].config.budget.max_minutes} are over"
        why = f"stopped by {name}" if status else limit
        print(f"{label}: {why}; the state is saved, run again to go on", flush=True)
    return status or EXIT_OUT_OF_TIME


def _train_by_workers(
    jobs: Iterator[Job], workers: int, progress: Progress, flags: Flags, done: Callable[[Job], object]
) -> tuple[list[Job], list[Exception]]:
    """Trains jobs in worker processes; returns the jobs that stopped before their end, and the errors of others."""
    gpus = visible_gpus() or [""] * workers
    counts, context = RawArray("q", len(gpus)), worker_pool(workers)[1]
    places = context.SimpleQueue()
    for place in enumerate(gpus):
        places.put(place)
    heard, lines = context.Pipe(duplex=False)
    os.set_blocking(lines.fileno(), False)
    waiting: dict[Future[bool | Exception], Job] = {}
    late: list[Job] = []
    failed: list[Exception] = []
    with ProcessPoolExecutor(len(gpus), context, _start_worker, (places, counts, lines, flags)) as pool:
        try:
            while True:
                while len(waiting) < 2 * len(gpus) and not (late or flags.stops) and (job := next(jobs, None)):
                    with Stopping.held_back():
                        waiting[pool.submit(_work, job)] = job
                if not waiting:
                    return late, failed
                finished = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).done
                progress.show(sum(counts))
                _say_what_is_heard(heard, progress)
                for future in finished:
                    outcome, job = future.result(), waiting.pop(future)
                    if isinstance(outcome, Exception):
                        failed.append(outcome)
                        if waiting:
                            progress.say(f"{job.name} failed: {outcome}; the others go on")
                    elif outcome:
                        done(job)
                    else:
                        late.append(job)
        except BaseException:
            flags.end()  # a broken pool ends no idle worker
            raise


def _say_what_is_heard(heard: Connection, progress: Progress) -> None:
    while heard.poll():
        for line in os.read(heard.fileno(), 1 << 16).decode(errors="replace").splitlines():
            progress.say(line)


_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: its listener, whether it is busy, and whether it has begun a job."""


def _start_worker(places: Any, counts: Any, lines: Any, flags: Flags) -> None:
    """Sets up a worker: it sees only its own GPU, stops when the flag is raised, and dies with its parent."""
    number, gpu = places.get()
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu

    def count(steps: int) -> None:
        counts[number] += steps

    def say(text: str) -> None:
        """In one write, which needs no lock: a killed worker would hold a lock for ever."""
        with contextlib.suppress(BlockingIOError):  # nobody reads any more
            os.write(lines.fileno(), f"{text[:_LONGEST]}\n".encode()[: 4 * _LONGEST])

    _worker.update(listener=Listener(count, say, lambda: flags.stops), busy=False, began=False)
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def _work(job: Job) -> bool | Exception:
    """Whether the job is finished, or an error that its user can mend."""
    began = _worker["began"]
    _worker.update(busy=True, began=True)
    try:
        return _train_one(job, _worker["listener"], began)
    except (ValueError, RuntimeError, OSError) as error:
        return error
    finally:
        _worker["busy"] = False


def _train_together(
    jobs: Iterator[Job], progress: Progress, flags: Flags, world: World
) -> tuple[list[Job], list[Exception]]:
    """Trains jobs in this process, on its part of each batch; returns a job that stopped before its end."""
    steps_done, parent = 0, os.getppid()

    def count(steps: int) -> None:
        nonlocal steps_done
        steps_done += steps
        progress.show(steps_done)

    def stop_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        flags.stop()

    if "TORCHELASTIC_RUN_ID" in os.environ:  # other launchers may leave their processes on purpose
        threading.Thread(target=stop_with_parent, daemon=True).start()
    listener = Listener(count, progress.say, lambda: flags.stops)
    for number, job in enumerate(jobs):
        if not _train_one(job, listener, number > 0, world):
            return [job], []
    return [], []


def _train_one(job: Job, listener: Listener, began: bool, world: World = ALONE) -> bool:
    """Trains a job; returns whether it is finished. A late job is not begun, except the first, which takes some step.

    The lock holds on this machine; on others only the batch system keeps a second process away.
    """
    if any(world.most([began and time.monotonic() > job.deadline, listener.stops()])):
        return False
    with first_writes(world, f"{job.run}.{job.folder.name}.{platform.node()}", job.name):
        return train_job(job, _noting(job, listener) if world.rank == 0 else listener, world)


SECONDS_BETWEEN_NOTES = 10.0


def _noting(job: Job, listener: Listener) -> Listener:
    """The same listener, which also writes step, speed and node into the job's folder, for `repro status`."""
    note, here = job.folder / NOTE, 0
    since, before, last = 0.0, 0, 0.0  # when the first steps were done, and how many; when it noted last

    def count(steps: int) -> None:
        nonlocal here, since, before, last
        listener.count(steps)
        here, now = here + steps, time.monotonic()
        if not since:
            since, before = now, here  # the steps of a checkpoint, or the first steps
        if now - last < SECONDS_BETWEEN_NOTES:
            return
        last = now
        rate = (here - before) / (now - since) if now > since else 0.0
        with contextlib.suppress(OSError):  # a full disk must not stop training for this note
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"step": here, "steps": job.config.budget.steps, "rate": round(rate, 3),
                                        "node": os.environ.get("SLURMD_NODENAME") or platform.node()}))  # fmt: skip

    return replace(listener, count=count)


@contextlib.contextmanager
def first_writes(world: World, name: str, what: str) -> Iterator[None]:
    """The first process holds the lock `name` during the block; if it cannot, all processes raise its error."""
    with ExitStack() as held:
        world.first(lambda: held.enter_context(only_writer(name, what)))
        yield

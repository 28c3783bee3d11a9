"""Training by processes that were started together (`torchrun`): chunks of seeds one after another, in lock-step."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from repro.cli.chunk import Job, Listener, train_chunk
from repro.cli.lock import only_writer
from repro.cli.progress import Progress
from repro.cli.stopping import EXIT_OUT_OF_TIME, Flags, Stopping
from repro.engine.world import World
from repro.seeding import seeds_label

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

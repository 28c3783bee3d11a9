"""Trains one run of the plan with all its seeds, in worker processes.

    python -m repro.cli.train <run> --seeds 0-4
    torchrun --nproc-per-node 4 -m repro.cli.train <run> --seeds 0-4    # four processes share every batch of each seed

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was. Seeds that a shorter plan trained in the same way
stay as they are. SIGTERM, SIGHUP, Ctrl-C and the end of
`budget.max_minutes` save first, and exit with a status of their own: 85, 130 and 75.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from repro.cli.chunk import Job, less_memory
from repro.cli.entry import EXIT_USER_ERROR, run
from repro.cli.environment import source_hashes
from repro.cli.lock import only_writer
from repro.cli.more_seeds import take_over
from repro.cli.progress import Progress
from repro.cli.ranks import Unsaid, first_writes, one_voice, train_together
from repro.cli.stopping import EXIT_OUT_OF_TIME, Flags, Stopping
from repro.cli.worker import start_worker, work
from repro.config.compose import parse_seeds
from repro.config.departures import departures
from repro.config.read import ConfigError, read_config_file
from repro.config.schema import Config
from repro.data import source_of
from repro.engine.connect import connected
from repro.engine.device import set_up_process, worker_pool
from repro.engine.world import World
from repro.files import partly, remove_folder
from repro.seeding import seeds_listed
from repro.train.checkpoint import Refused, refuse_newest
from repro.train.result import is_published, publish

CONFIGS, RUNS, STATE = Path("artifacts/configs"), Path("artifacts/runs"), Path("state")


def main() -> int:
    """Trains what is missing; exits with a status of its own when it stopped before the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of the plan")
    parser.add_argument("--seeds", required=True, help="such as 0-4 or 0,2,5")
    arguments = parser.parse_args()
    set_up_process()  # threads that were started before workers are forked would be missing in them
    try:
        with connected() as world, one_voice(world):
            return _train(arguments.run, arguments.seeds, world)
    except Unsaid:
        return EXIT_USER_ERROR


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
        Progress(job.name, len(chunks) * job.config.budget.steps) as progress,
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


if __name__ == "__main__":
    run(main)

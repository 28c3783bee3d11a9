"""Trains one run of the plan with all its seeds, side by side in worker processes.

    python -m repro.cli.train <run> --seeds 0-4

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was. SIGTERM, SIGHUP, Ctrl-C and the end of
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

from repro.cli.entry import run
from repro.cli.environment import source_hashes
from repro.cli.lock import only_writer
from repro.cli.progress import Progress
from repro.cli.stopping import EXIT_OUT_OF_TIME, Flags, Stopping
from repro.cli.worker import Job, start_worker, train_chunk
from repro.config.compose import parse_seeds
from repro.config.departures import departures
from repro.config.read import ConfigError, read_config_file
from repro.config.schema import Config
from repro.data.training import training_hash
from repro.engine.device import set_up_process, worker_pool
from repro.files import partly, remove_folder
from repro.seeding import seeds_listed
from repro.train.alarm import bands_for
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
    seeds = list(parse_seeds(arguments.seeds))
    if Path(arguments.run).name != arguments.run:
        raise ConfigError(f"{arguments.run!r} is no run of a plan: it names a folder, so has no slash")
    config = read_config_file(CONFIGS / f"{arguments.run}.yaml")
    if config.planned_seeds and seeds_listed(seeds) != config.planned_seeds:
        raise ConfigError(
            f"{arguments.run}: seeds {arguments.seeds} are not the planned {config.planned_seeds}; name those, or "
            "change the plan and prepare it again: dvc repro prepare"
        )
    if training_hash(config.data, seeds) != config.data_hash:
        raise ConfigError(
            f"{arguments.run}: the data are not the prepared ones for seeds {arguments.seeds}; run: dvc repro prepare"
        )
    for departure in departures(config):
        kind = "open in" if departure.open else "departs from"
        print(f"  {kind} {config.recipe.name}: {departure.key} = {departure.here} ({departure.prescribed})")
    with only_writer(arguments.run, f"run {arguments.run}"):
        chunks = [seeds[i : i + config.budget.stack] for i in range(0, len(seeds), config.budget.stack)]
        job = Job(arguments.run, config, STATE / arguments.run, source_hashes(), deadline_of(config), bands_for(config))
        refuse_other_states(job, chunks)
        if is_published(RUNS / job.name, [job.made_by(chunk) for chunk in chunks]):
            print(f"{job.name}: finished already, nothing to train; to train it again: rm -r {RUNS / job.name}")
            remove_folder(job.state)
            return 0
        status = train_all(job, chunks)
        if status:
            return status
        with only_writer(f"{job.name}.weights", f"what is trained of {job.name}"):
            publish([job.folder(chunk) for chunk in chunks], RUNS / job.name)
        remove_folder(job.state)
    return 0


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
    """Trains all chunks of seeds; the exit status of what came before the end, else 0."""
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
        _others_stop_too(job.name, flags) as waiting,
    ):
        with stopping.held_back():
            waiting.update(pool.submit(train_chunk, job, number, chunk) for number, chunk in enumerate(chunks))
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
def _others_stop_too(name: str, flags: Flags) -> Iterator[set[Future[bool]]]:
    """When one worker fails, the others save and stop, rather than train on for days before anyone is told.

    Gives a set for the futures that are still waited for. A broken pool ends no idle worker, so the flag must.
    """
    waiting: set[Future[bool]] = set()
    try:
        yield waiting
    except BrokenProcessPool:
        flags.end()
        raise RuntimeError(
            f"{name}: a worker process was killed; if memory ran out, lower budget.workers or budget.stack; "
            "run the same command again to go on from the last saved state"
        ) from None
    except BaseException:
        flags.stop()
        if any(isinstance(future.exception(), BrokenProcessPool) for future in wait(waiting).done):
            flags.end()
        raise


if __name__ == "__main__":
    run(main)

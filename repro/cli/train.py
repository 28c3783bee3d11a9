"""Trains one run of the plan with all its seeds, side by side in worker processes.

    python -m repro.cli.train <run> --seeds 0-4

Reads artifacts/configs/<run>.yaml, leaves artifacts/runs/<run>/. Its state is kept in state/<run>/ until all seeds are
done: started again after an interruption, it goes on where it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from repro.cli.entry import EXIT_OUT_OF_TIME, run
from repro.cli.environment import environment
from repro.cli.progress import Progress
from repro.config.compose import parse_seeds
from repro.config.departures import departures
from repro.config.read import ConfigError, as_mapping, read_config_file
from repro.config.schema import Config
from repro.data.training import training_hash
from repro.engine import choose_device, set_up_process
from repro.train.finetune import finetune
from repro.train.loop import OutOfTime, Trainer
from repro.train.result import Result, folder_name, load_results, save_result

CONFIGS, RUNS, STATE = Path("artifacts/configs"), Path("artifacts/runs"), Path("state")

_done: Any = None  # a counter shared by the worker processes: steps done by all of them


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
    set_up_process()
    state, budget = STATE / arguments.run, config.budget
    deadline = time.monotonic() + 60 * budget.max_minutes if budget.max_minutes else float("inf")
    chunks = [seeds[i : i + budget.stack] for i in range(0, len(seeds), budget.stack)]
    if not _train_all(arguments.run, config, chunks, state, deadline):
        print(
            f"{arguments.run}: budget.max_minutes = {budget.max_minutes} are over; the state is saved, run again to go on"
        )
        return EXIT_OUT_OF_TIME
    for chunk in chunks:
        RUNS.joinpath(arguments.run).mkdir(parents=True, exist_ok=True)
        shutil.move(_finished(state, chunk), RUNS / arguments.run / f"{folder_name(chunk)}.pt")
    shutil.rmtree(state)
    return 0


def _finished(state: Path, chunk: list[int]) -> Path:
    return state / "finished" / f"{folder_name(chunk)}.pt"


def _train_all(name: str, config: Config, chunks: list[list[int]], state: Path, deadline: float) -> bool:
    """Trains all chunks of seeds; False when the deadline passed first."""
    global _done
    _done = multiprocessing.Value("q", 0)
    workers = min(config.budget.workers, len(chunks)) if choose_device().type == "cpu" else 1
    complete = True
    with Progress(name, len(chunks) * config.budget.steps) as progress:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            waiting = {pool.submit(_train_chunk, config, chunk, state, deadline) for chunk in chunks}
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                progress.show(_done.value)
                for future in finished:
                    complete &= future.result()
    return complete


def _train_chunk(config: Config, chunk: list[int], state: Path, deadline: float) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when out of time."""
    set_up_process()
    stacked = config.budget.stack > 1
    finished = _finished(state, chunk)
    if finished.is_file():
        if any(r.seeds == chunk and r.config == as_mapping(config) for r in load_results(finished.parent)):
            _count(config.budget.steps)
            return True
        finished.unlink()
    trainer = Trainer(config, chunk if stacked else chunk[0], choose_device())
    started = time.monotonic()
    try:
        trainer.run(state / f"{folder_name(chunk)}.pt", _count, deadline)
    except OutOfTime:
        return False
    tuned = finetune(trainer) if config.finetune.steps else {}
    seconds = time.monotonic() - started
    save_result(
        finished.parent,
        Result(as_mapping(config), chunk, stacked, trainer.method.COUNTED, environment(trainer.device, seconds),
               trainer.rows, trainer.snapshots, tuned),
    )  # fmt: skip
    return True


def _count(steps: int) -> None:
    with _done.get_lock():
        _done.value += steps


if __name__ == "__main__":
    run(main)

"""Trains seeds of a plan on one GPU, several at once, and records each as soon as it is evaluated.

    python experiments/gpu/seeds.py PLAN [RUN[:SEEDS] ...] [--at-once 4] [--processes 4] [--minutes 6]
    python experiments/gpu/seeds.py cifar10_small cifar10_small_mpl:5-12 cifar10_small_supervised

A small network leaves most of a GPU idle: each of the seeds at once has recorded steps on a stream of its own, and each
process has its own seeds. A seed's record is `results/gpu/seeds/<run>/seed-<n>/<run>/`; once all are there,
they are the run's record in results/runs. A recorded seed is not trained again. Nothing is saved on the way.
The plan is prepared before: repro prepare --plan PLAN. Exits with 75 where time was up before all had begun.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from repro.config import as_mapping, read_config_file, unrecordable
from repro.engine.device import choose_device, finish, set_up_process
from repro.evaluate.evaluate import evaluate, with_seeds_seen
from repro.files import CONFIGS, STATE, plan_path
from repro.plan import read_plan
from repro.results import joined, read_run, with_record_hashes, write_run
from repro.seeding import seeds_label
from repro.settings import parse_seeds
from repro.train.checkpoint import Result
from repro.train.job import Job, result_of, session, source_hashes
from repro.train.loop import Trainer, finetune
from repro.train.recorded import CudaGraph
from repro.train.stopping import EXIT_OUT_OF_TIME

RECORDS = Path("results/gpu/seeds")


@dataclass(frozen=True)
class Group:
    """Seeds of a run that train at once."""

    run: str
    seeds: list[int]
    ends: float  # time.time(), after which it does not begin

    def record(self, seed: int) -> Path:
        """Where a seed is recorded."""
        return RECORDS / self.run / f"seed-{seed}"

    def missing(self) -> list[int]:
        """Its seeds that are not recorded.

        Raises:
            ValueError: where one is recorded with other settings than are prepared.
        """
        found = []
        for seed in self.seeds:
            place = self.record(seed) / self.run
            if not (place / "seeds.csv").exists():
                found.append(seed)
            elif read_run(place).config != as_mapping(read_config_file(CONFIGS / f"{self.run}.yaml")):
                raise ValueError(f"{place}: was recorded with other settings than those in {CONFIGS}; put them back "
                                 f"and prepare the plan again, or train the seed anew: rm -r {place}")  # fmt: skip
        return found


def train(group: Group) -> list[Result]:
    """All its seeds, in turns of one step."""
    config, device, source = read_config_file(CONFIGS / f"{group.run}.yaml"), choose_device(), source_hashes()
    if config.budget.stack > 1:
        raise ValueError(
            f"budget.stack = {config.budget.stack} trains seeds as one; train it by: repro train {group.run}"
        )
    gpu = device.type == "cuda"
    record = CudaGraph if gpu and not unrecordable(config) else None
    streams = [own_stream() if gpu else contextlib.nullcontext() for _ in group.seeds]
    begun, trainers = time.monotonic(), list[Trainer]()
    for seed, stream in zip(group.seeds, streams, strict=True):
        with stream:
            trainers.append(Trainer(config, seed, device, source, session(device), record=record))
    for _ in range(config.budget.steps):
        for trainer, stream in zip(trainers, streams, strict=True):
            with stream:
                trainer.advance_and_keep(print)
    finish(device)
    seconds = (time.monotonic() - begun) / len(trainers)
    way, found = f"{'recorded' if record else 'taken one by one'}, {len(trainers)} at once", []
    for seed, trainer in zip(group.seeds, trainers, strict=True):
        tuned = finetune(trainer) if config.finetune.steps else {}
        trainer.sessions.append({"from_step": 0, "seconds": seconds} | trainer.session)
        result = result_of(Job(group.run, [seed], config, STATE / group.run, source), trainer, tuned)
        found.append(replace(result, environment=result.environment | {"way": way}))
    return found


def own_stream() -> contextlib.AbstractContextManager[Any]:
    """A block whose work goes to a new stream; entered again and again."""
    return torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]


def train_and_record(group: Group) -> str:
    """All of a group; a line of what was done."""
    if time.time() > group.ends:
        return f"{group.run} {seeds_label(group.seeds)}: not begun, time is up"
    set_up_process()
    begun = time.monotonic()
    results = train(group)
    trained = time.monotonic() - begun
    for seed, result in zip(group.seeds, results, strict=True):
        write_run(evaluate(group.run, result), group.record(seed))
    return (f"{group.run} {seeds_label(group.seeds)}: trained in {trained:.1f} s, "
            f"evaluated in {time.monotonic() - begun - trained:.1f} s")  # fmt: skip


def main(words: Sequence[str]) -> int:
    """All groups of the plan, run after run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="file, or name of one in experiments/plan")
    parser.add_argument("runs", nargs="*", help="these in this order, all seeds or some of those that the plan names")
    parser.add_argument("--at-once", type=int, default=4, help="seeds in a process")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=60.0, help="after which none begins")
    arguments = parser.parse_args(words)
    if min(arguments.at_once, arguments.processes) < 1:
        parser.error("--at-once and --processes: want 1 or more")
    planned = {run.name: list(run.seeds) for run in read_plan(Path(plan_path(arguments.plan))).runs}
    ends, asked, groups = time.time() + 60 * arguments.minutes, list[Group](), list[Group]()
    for named in arguments.runs or planned:
        run, _, some = named.partition(":")
        wanted = list(parse_seeds(some)) if some else planned.get(run, [])
        if not wanted or not set(wanted) <= set(planned.get(run, [])):
            raise ValueError(f"{named}: is not in the plan; its runs and seeds: repro plan {arguments.plan}")
        asked.append(one := Group(run, wanted, ends))
        missing = one.missing()
        groups += [replace(one, seeds=missing[i : i + arguments.at_once])
                   for i in range(0, len(missing), arguments.at_once)]  # fmt: skip
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        waiting, failed = {pool.submit(train_and_record, group): group for group in groups}, 0
        for done in as_completed(waiting):
            if error := done.exception():
                failed += 1
                print(f"error: {waiting[done].run} {seeds_label(waiting[done].seeds)}: {error}", flush=True)
            else:
                print(done.result(), flush=True)
    for run in dict.fromkeys(one.run for one in asked):
        every = Group(run, planned[run], ends)
        if not every.missing():
            whole = joined([read_run(every.record(seed) / run) for seed in every.seeds])
            write_run(with_record_hashes(with_seeds_seen(whole)))
    return 1 if failed else EXIT_OUT_OF_TIME if any(group.missing() for group in groups) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

"""All runs of a plan: on this machine, or as jobs of a cluster; and how far each seed is.

    repro run digits                                                      here: a worker for each GPU, else `workers`
    repro run digits --on slurm --slurm partition=gpu gpus=1 time=8h      a job for each seed that is not finished
    repro status digits
    repro cancel digits

state/.plans/<plan>/ says what is to be trained (plan.json), and has a folder for each submission to the cluster. What a
seed leaves lies in a folder of its own, and its result says that it is done: no process needs another one's lock. The
command that drives a cluster imports no PyTorch; what does is a process apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from repro import slurm
from repro.files import LOCKS, Held, only_writer, write_whole
from repro.plan import plan_path
from repro.settings import ConfigError

PLANS, STATE, RUNS = Path("state/.plans"), Path("state"), Path("artifacts/runs")
_PLAN, _CANCELLED, _RESULT, _NOTE = "plan.json", "cancelled", "result.pt", "progress.json"
_DEATHS = 3  # of a seed's jobs, after which it is given up; a requeued job has not died
_POLL = 5.0  # seconds
_SILENCE = 30.0  # seconds between lines of progress
Seed = tuple[str, str]
"""A run, and the label of one seed of it, or of several that train as one."""


def run(arguments: argparse.Namespace) -> int:
    """Trains the plan, or watches another process that does; the exit status."""
    path = Path(plan_path(arguments.run))
    if not path.is_file():
        raise ConfigError(f"no plan at {path}")
    if arguments.slurm and not arguments.on:
        raise ConfigError("--slurm says how jobs go out, which --on slurm asks for; add it")
    if arguments.on:
        slurm.options(arguments.slurm, arguments.gpus_per_run)  # refused before anything is prepared
    if arguments.dry_run:
        return _dry_run(path, arguments)
    place, said, watched = PLANS / path.stem, _Said(), False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(only_writer(f"plan.{path.stem}", f"plan {path.stem}"))
                break
            except Held as other:
                if not watched:
                    print(f"{other}; this command watches, and goes on where that one ends", flush=True)
                watched = True
                said.show(lambda: counted(place) if (place / _PLAN).is_file() else "")
                time.sleep(_POLL)
        if watched and (place / _CANCELLED).exists():  # while this command watched
            print(f"{path.stem}: was cancelled; the state is saved, run again to go on")
            return 2
        (place / _CANCELLED).unlink(missing_ok=True)
        return _drive(path, place, arguments) if arguments.on else _here(path, arguments)


def _here(path: Path, arguments: argparse.Namespace) -> int:
    from repro.engine.device import set_up_process
    from repro.train.launch import train_runs

    set_up_process()  # before workers are forked
    runs = lay_out(path)["runs"]
    steps = sum(one["steps"] * len(one["chunks"]) for one in runs.values())
    workers = arguments.workers or min(one["workers"] for one in runs.values())
    status = train_runs(((name, one["seeds"]) for name, one in runs.items()), path.stem, steps, workers)
    if not status:
        print(_next(path.stem))
    return status


def _next(name: str) -> str:
    return f"{name}: every seed is trained; to evaluate and judge them: repro reproduce {name}"


def lay_out(path: Path) -> dict[str, Any]:
    """Prepares the plan and notes what it trains, what is finished, and of which code and data."""
    from repro.train import job as training
    from repro.train.launch import finished_already, stacked
    from repro.train.prepare import CONFIGS, prepare

    source, runs = training.source_hashes(), {}
    for name, config in prepare(path).items():
        one = training.Job(name, config, STATE / name, source, 0.0)
        seeds = [int(seed) for seed in config.planned_seeds.split(",")]
        every = stacked(seeds, config)
        finished = finished_already(one, every, [])
        if not finished:
            training.take_over(one, every, RUNS / name, print)
            for chunk in every:
                if (one.folder(chunk) / _RESULT).is_file() and not training.is_finished(one, chunk, print):
                    (one.folder(chunk) / _RESULT).unlink()  # damaged
        runs[name] = {
            "seeds": config.planned_seeds,
            "chunks": {one.folder(chunk).name: ",".join(map(str, chunk)) for chunk in every},
            "steps": config.budget.steps,
            "workers": config.budget.workers,
            "settings": hashlib.sha256((CONFIGS / f"{name}.yaml").read_bytes()).hexdigest(),
            "before": 0 if finished or not (RUNS / name).is_dir() else (RUNS / name).stat().st_mtime_ns,
        }
    plan = {"code": slurm.code_of(source), "revision": training.revision(), "runs": runs}
    write_whole(PLANS / path.stem / _PLAN, json.dumps(plan).encode())
    return plan


def join(name: str) -> None:
    """Puts the results of each run whose seeds are all done where evaluation finds them."""
    from repro.train.job import is_finished
    from repro.train.launch import close_run, open_run

    for run, one in read(PLANS / name)["runs"].items():
        if not _joined(run, one) and all(_done(run, one, label) for label in one["chunks"]):
            opened = open_run(run, one["seeds"])
            with opened.lock:
                if all(is_finished(opened.job, chunk, print) for chunk in opened.chunks):
                    close_run(opened)


def read(place: Path) -> dict[str, Any]:
    """What was noted of a plan.

    Raises:
        ConfigError: when it was never started here.
    """
    if not (place / _PLAN).is_file():
        raise ConfigError(f"plan {place.name} was never started in this folder; start it: repro run {place.name}")
    found: dict[str, Any] = json.loads((place / _PLAN).read_text())
    return found


def _joined(run: str, one: dict[str, Any]) -> bool:
    return (RUNS / run).is_dir() and (RUNS / run).stat().st_mtime_ns != one["before"]


def _done(run: str, one: dict[str, Any], label: str) -> bool:
    return (STATE / run / label / _RESULT).is_file() or _joined(run, one)


def _missing(plan: dict[str, Any]) -> list[Seed]:
    """Seeds that are not finished."""
    open_ = {run: one for run, one in plan["runs"].items() if not _joined(run, one)}
    return [(run, label) for run, one in open_.items() for label in one["chunks"] if not _done(run, one, label)]


class _Said:
    """Lines of progress: at most one in so many seconds, and none twice."""

    def __init__(self) -> None:
        self.last, self._when = "", 0.0

    def show(self, line: Callable[[], str]) -> None:
        if time.monotonic() - self._when < _SILENCE:
            return
        self._when = time.monotonic()
        if (text := line()) != self.last:
            print(text, flush=True)
            self.last = text or self.last


def _drive(path: Path, place: Path, arguments: argparse.Namespace) -> int:
    """Sends out jobs for what is missing, again for those that die, and joins what they leave."""
    try:
        slurm.present()
        apart(lay_out, path)
        status = _watch(place, arguments)
        apart(join, path.stem)
    except KeyboardInterrupt:
        again = shlex.join(["repro", *sys.argv[1:]])
        print(f"\nThe jobs go on without this command. To come back: {again}; to see how far they are: repro status "
              f"{path.stem}; to end them: repro cancel {path.stem}", file=sys.stderr)  # fmt: skip
        return 130
    if not status:
        print(_next(path.stem))
    return status


def _watch(place: Path, arguments: argparse.Namespace) -> int:
    plan, said = read(place), _Said()
    deaths: Counter[Seed] = Counter()
    unseen: Counter[Seed] = Counter()  # polls in a row that did not show a seed's job
    sent: set[Seed] = set()
    while missing := _missing(plan):
        if (place / _CANCELLED).exists():
            print(f"{place.name}: was cancelled; the state is saved, run again to go on")
            return 2
        try:
            at_work = slurm.jobs(place)
        except slurm.Unreachable as error:
            said.show(lambda error=error: f"{error}; jobs that run go on, and this command waits")  # type: ignore[misc]
            time.sleep(_POLL)
            continue
        sent |= at_work.keys()  # by a command that was killed
        for seed in missing:
            unseen[seed] = 0 if seed in at_work else unseen[seed] + 1
            if seed in sent and unseen[seed] == 2:  # one poll may fall between a job's end and sight of its result
                sent.remove(seed)
                deaths[seed] += 1
        wanted = [seed for seed in missing if seed not in at_work and seed not in sent and deaths[seed] < _DEATHS]
        if wanted:
            sent |= set(wanted)
            unseen.clear()
            slurm.submit(place, plan, wanted, arguments)
        elif all(deaths[seed] >= _DEATHS for seed in missing):
            break
        said.show(lambda: counted(place))
        time.sleep(_POLL)
    print(counted(place), flush=True)
    for run, label in missing:
        line, log = slurm.last_words(place, (run, label))
        print(f"error: {run} {label} died {_DEATHS} times: {line} ({log})", file=sys.stderr)
    return 2 if missing else 0


def apart(task: Callable[[Any], Any], what: Any) -> None:
    """Calls `task` in a process of its own, whose memory goes with it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(task, what).result()


def states(place: Path) -> Iterator[tuple[Seed, str, dict[str, Any]]]:
    """Each seed with its state and what it noted; the state is that of its job where there is one.

    Raises:
        slurm.Unreachable: when the queue cannot be asked.
    """
    plan, at_work = read(place), slurm.jobs(place)
    here = _driver(place.name) and not at_work
    for run, one in plan["runs"].items():
        joined = _joined(run, one)
        for label in one["chunks"]:
            folder, note = STATE / run / label, {"steps": one["steps"]}
            if joined or (folder / _RESULT).is_file():
                yield (run, label), "done", note
                continue
            try:
                note |= json.loads((folder / _NOTE).read_text())
                fresh = time.time() - (folder / _NOTE).stat().st_mtime < 2 * _SILENCE
            except (OSError, ValueError):
                fresh = False
            if job := at_work.get((run, label)):
                yield (run, label), job[0], note | {"node": job[1]}
            elif here:
                yield (run, label), "running" if fresh else "waiting", note
            else:
                yield (run, label), "stopped" if slurm.log_of(place, (run, label)) else "not running", note


def counted(place: Path) -> str:
    """How many seeds are in each state, in one line."""
    try:
        found = Counter(state for _, state, _ in states(place))
    except slurm.Unreachable as error:
        return str(error)
    return f"{place.name}: {found.total()} seeds: {', '.join(f'{count} {state}' for state, count in found.items())}"


def status(arguments: argparse.Namespace) -> None:
    """Prints a line for each seed."""
    place = PLANS / Path(plan_path(arguments.plan)).stem
    print(f"{'run and seed':44} {'state':12} {'step':>17} {'a second':>9} {'left':>9}  node")
    total: Counter[str] = Counter()
    for seed, state, note in states(place):
        total[state] += 1
        step, rate = note["steps"] if state == "done" else note.get("step", 0), note.get("rate", 0.0)
        running = state == "running" and rate
        left = f"{(note['steps'] - step) / rate / 60:.0f} min" if running else ""
        far, pace = f"{step:,}/{note['steps']:,}", f"{rate:.1f}" if running else ""
        print(f"{' '.join(seed):44} {state:12} {far:>17} {pace:>9} {left:>9}  {note.get('node', '')}")
        if state == "stopped":
            line, log = slurm.last_words(place, seed)
            print(f"  {line} ({log})")
    print(f"{place.name}: {', '.join(f'{count} {state}' for state, count in total.items())}")


def cancel(arguments: argparse.Namespace) -> None:
    """Ends the jobs of a plan, or the process that trains it here; what they saved stays."""
    place = PLANS / Path(plan_path(arguments.plan)).stem
    read(place)
    at_work = slurm.jobs(place)
    driver = _driver(place.name)
    if not at_work and not driver:
        print(f"{place.name}: nothing of it is at work")
        return
    (place / _CANCELLED).touch()
    if at_work:
        slurm.cancel(place)
    elif driver:
        os.kill(driver, signal.SIGTERM)
    whom = f"jobs of {len(at_work)} seeds were" if at_work else f"process {driver} was"
    print(f"{place.name}: {whom} told to save and stop; to go on: repro run {place.name}")


def _driver(name: str) -> int:
    """The process on this machine that drives the plan; 0 where there is none."""
    try:
        words = (LOCKS / f"plan.{name}.lock").read_text().split()
    except OSError:
        return 0
    alive = len(words) > 3 and words[3] == platform.node() and Path(f"/proc/{words[1]}").exists()
    return int(words[1]) if alive else 0


def _dry_run(path: Path, arguments: argparse.Namespace) -> int:
    """Prints jobs, hours and options; sends nothing out."""
    from repro.cost import hours

    plan = lay_out(path)
    missing = _missing(plan)
    jobs = slurm.grouped(missing, arguments.seeds_per_job)
    print(f"{path.stem}: {len(missing)} of {sum(len(one['chunks']) for one in plan['runs'].values())} seeds are not "
          f"finished: {len(jobs)} jobs")  # fmt: skip
    if arguments.on:
        print(f"sbatch {slurm.in_words(slurm.options(arguments.slurm, arguments.gpus_per_run), len(jobs))}")
    hours(path, Counter(run for run, _ in missing))
    return 0

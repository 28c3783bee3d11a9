"""All runs of a plan: on this machine, or as jobs of a cluster; and how far each seed is.

    repro run digits                                                      here: a worker for each GPU, else `workers`
    repro run digits --on slurm --slurm partition=gpu gpus=1 time=8h      a job for each seed that is not finished
    repro status digits
    repro cancel digits

state/.plans/<plan>/ says what is to be trained (runs.json), and has a folder for each array of jobs that submitit sent
out. It queues a job again whose time is over; Slurm does where one is preempted, or its node lost. A seed's result lies
in a folder of its own: no process needs another one's lock. What drives or shows a plan of a cluster loads no PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from repro import slurm
from repro.files import (
    LOCKS,
    NOTE,
    RESULT,
    STATE,
    TRAINED,
    Held,
    only_writer,
    plan_path,
    refuse_other_settings,
    write_whole,
)
from repro.slurm import Seed
from repro.train.stopping import Stopping

PLANS = STATE / ".plans"
_PLAN, _CANCELLED = "runs.json", "cancelled"
_DEATHS = 3  # of a seed's jobs, after which it is given up; a requeued job has not died
_POLL, _SILENCE = 5.0, 30.0  # seconds between looks at the queue, and between lines of progress


def run(arguments: argparse.Namespace) -> int:
    """Trains the plan, or watches another process that does; the exit status."""
    path = Path(plan_path(arguments.run))
    if not path.is_file():
        raise ValueError(f"no plan at {path}; name its file, or one of those that repro plan --list names")
    jobs = {"--slurm": arguments.slurm, "--seeds-per-job": arguments.seeds_per_job > 1,
            "--gpus-per-run": arguments.gpus_per_run > 1}  # fmt: skip
    if alone := [] if arguments.on else [option for option, given in jobs.items() if given]:
        raise ValueError(f"{alone[0]} says how jobs go out, which --on slurm asks for; add it")
    if arguments.on:
        slurm.options(arguments.slurm, arguments.gpus_per_run)  # refused before anything is prepared
    place = _place(arguments.run)
    if arguments.dry_run:
        return _dry_run(path, arguments)
    with ExitStack() as lock:
        if not _mine(place, lock):
            return _cancelled(place)
        if arguments.on:
            status = _drive(path, place, arguments)
        else:
            from repro.engine.device import set_up_process
            from repro.train.launch import train_plan

            set_up_process()  # before workers are forked
            status = train_plan(lay_out(path)["runs"], path.stem, arguments.workers or 0)
    if not status:
        print(f"{path.stem}: every seed is trained; to evaluate and judge them: repro reproduce {path.stem}")
    return status


def _cancelled(place: Path) -> int:
    print(f"{place.name}: was cancelled; the state is saved, run again to go on")
    return 2


def _mine(place: Path, lock: ExitStack) -> bool:
    """Takes the plan's lock, for which it watches another process; False when the plan is cancelled meanwhile."""
    watched, begun, mark = False, time.time(), place / _CANCELLED
    while True:
        try:
            lock.enter_context(only_writer(f"plan.{place.name}", f"plan {place.name}"))
        except Held as other:
            if not watched:
                print(f"{other}; this command watches, and goes on where that one ends", flush=True)
            watched = True
            if (place / _PLAN).is_file():
                print(counted(place), flush=True)
            time.sleep(2 * _POLL)
        else:
            cancelled = watched and mark.exists() and mark.stat().st_mtime > begun
            mark.unlink(missing_ok=True)
            return not cancelled


def lay_out(path: Path, gpus: bool | None = None, processes: int = 1) -> dict[str, Any]:
    """Prepares the plan and notes what it trains, here or as jobs, with `gpus` or without, and what shares a batch."""
    from repro.train.prepare import lay_out as laid_out

    plan = {"file": os.path.relpath(path)} | laid_out(path, gpus, processes)
    write_whole(PLANS / path.stem / _PLAN, json.dumps(plan).encode())
    return plan


def join(place: Path) -> None:
    """Puts the results of each run whose seeds are all done where evaluation finds them."""
    from repro.train.launch import opened

    for run, one in read(place)["runs"].items():
        if not _joined(run, one) and not _missing({run: one}):
            with opened(run, one["seeds"]):
                pass  # its end joins what is finished


def read(place: Path) -> dict[str, Any]:
    """What was noted of a plan, which must have been started here."""
    if not (place / _PLAN).is_file():
        known = Path(plan_path(place.name)).is_file()
        remedy = f"start it: repro run {place.name}" if known else "all plans: repro plan --list"
        raise ValueError(f"plan {place.name} was never started in this folder; {remedy}")
    return slurm.noted(place / _PLAN, _plan, f"rm {place / _PLAN}")  # type: ignore[no-any-return]


def _plan(content: Any) -> dict[str, Any]:
    runs = {name: {"seeds": str(one["seeds"]), "jobs": {str(k): str(v) for k, v in one["jobs"].items()},
                   "settings": str(one["settings"])} | {key: int(one[key]) for key in ("steps", "workers", "before")}
            for name, one in content["runs"].items()}  # fmt: skip
    return {key: str(content[key]) for key in ("file", "code", "revision")} | {"runs": runs}


def _place(plan: str) -> Path:
    """Where it is noted what is trained of a plan; refused where that is of another file, whose jobs look the same."""
    path = Path(plan_path(plan))
    place = PLANS / path.stem
    if path.is_file() and (place / _PLAN).is_file() and (other := read(place)["file"]) != os.path.relpath(path):
        raise ValueError(f"{path}: a plan of that name was started from {other}; call this one otherwise, or give the "
                         f"other one up: repro cancel {other}; rm -r {place}")  # fmt: skip
    return place


def _joined(run: str, one: dict[str, Any]) -> bool:
    return (TRAINED / run).is_dir() and (TRAINED / run).stat().st_mtime_ns != one["before"]


def _missing(runs: Mapping[str, dict[str, Any]]) -> list[Seed]:
    """Seeds that are not finished; refused where somebody has prepared a run with other settings meanwhile."""
    for run, one in runs.items():
        refuse_other_settings(run, one["settings"])
    every = ((run, label) for run, one in runs.items() if not _joined(run, one) for label in one["jobs"])
    return [seed for seed in every if not Path(STATE, *seed, RESULT).is_file()]


def _drive(path: Path, place: Path, arguments: argparse.Namespace) -> int:
    """Sends out jobs for what is missing, again for those that die, and joins what they leave."""
    try:
        slurm.present()
        gpus = slurm.wants_gpus(slurm.options(arguments.slurm, arguments.gpus_per_run))
        apart(partial(lay_out, gpus=gpus, processes=arguments.gpus_per_run), path)
        status = _watch(place, arguments)
        apart(join, place)
    except KeyboardInterrupt:
        with contextlib.suppress(slurm.Unreachable):
            if not slurm.queued(place):
                raise
        again, plan = shlex.join(["repro", *sys.argv[1:]]), path.stem
        print(f"\nThe jobs go on without this command. To come back: {again}; to look: repro status {plan}; to end "
              f"them: repro cancel {plan}", file=sys.stderr)  # fmt: skip
        return 130
    return status


def apart(task: Callable[[Path], object], path: Path) -> None:
    """Calls `task` in a process of its own, whose memory goes with it, and which Ctrl-C ends without a word."""
    with ProcessPoolExecutor(1, get_context("spawn"), _listen_to_ctrl_c) as pool:
        with Stopping.held_back():
            future = pool.submit(task, path)
        future.result()


def _listen_to_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _watch(place: Path, arguments: argparse.Namespace) -> int:
    plan, spoken = read(place), 0.0
    deaths: Counter[Seed] = Counter()
    unseen: Counter[Seed] = Counter()  # looks in a row that did not show a seed's job
    sent: set[Seed] = set()
    while missing := _missing(plan["runs"]):
        if (place / _CANCELLED).exists():
            return _cancelled(place)
        if time.monotonic() - spoken > _SILENCE:
            spoken = time.monotonic()
            print(counted(place), flush=True)
        try:
            at_work = slurm.queued(place)
        except slurm.Unreachable:  # which `counted` says; jobs that run go on
            time.sleep(_POLL)
            continue
        sent |= at_work.keys()  # by a command that was killed
        for seed in missing:
            unseen[seed] = 0 if seed in at_work else unseen[seed] + 1
            if seed in sent and unseen[seed] == 2:  # one look may fall between a job's end and sight of its result
                sent.remove(seed)
                deaths[seed] += 1
        wanted = [seed for seed in missing if seed not in sent and deaths[seed] < _DEATHS]
        if wanted:
            sent |= set(wanted)
            unseen.clear()
            slurm.submit(place, plan, wanted, arguments)
        elif all(deaths[seed] >= _DEATHS for seed in missing):
            break
        time.sleep(_POLL)
    print(counted(place), flush=True)
    logs = slurm.logs_of(place)
    for seed in missing:
        said = slurm.last_words(place, logs.get(seed))
        print(f"error: {' '.join(seed)} died {_DEATHS} times: {said}", file=sys.stderr)
    return 2 if missing else 0


def states(place: Path, begun: Container[Seed] = ()) -> Iterator[tuple[Seed, str, dict[str, Any]]]:
    """Each seed with its state, which is that of its job where there is one, and what it noted; `begun` have a log."""
    here = _driver(place.name)
    at_work = slurm.queued(place, here)
    here = 0 if at_work else here
    for run, one in read(place)["runs"].items():
        joined = _joined(run, one)
        for label in one["jobs"]:
            seed, folder, note = (run, label), STATE / run / label, {"steps": one["steps"]}
            if joined or (folder / RESULT).is_file():
                yield seed, "done", note
                continue
            try:
                said, kinds = json.loads((folder / NOTE).read_bytes()), {"step": int, "rate": float, "node": str}
                note |= {key: kind(said[key]) for key, kind in kinds.items() if key in said}
                fresh = time.time() - (folder / NOTE).stat().st_mtime < 2 * _SILENCE
            except (OSError, *slurm.DAMAGE):
                fresh = False
            if job := at_work.get(seed):
                yield seed, job[0], note | {"node": job[1]}
            elif here:
                yield seed, "running" if fresh else "waiting", note
            else:
                yield seed, "stopped" if seed in begun else "not running", note


def counted(place: Path) -> str:
    """How many seeds are in each state, in one line."""
    try:
        return _total(place, [state for _, state, _ in states(place, slurm.logs_of(place))])
    except slurm.Unreachable as error:
        return str(error)


def _total(place: Path, found: Sequence[str]) -> str:
    return f"{place.name}: {', '.join(f'{count} {state}' for state, count in Counter(found).items())}"


def status(arguments: argparse.Namespace) -> None:
    """Prints a line for each seed."""
    place = _place(arguments.plan)
    logs = slurm.logs_of(place)
    found = list(states(place, logs))
    print(f"{'run and seed':44} {'state':12} {'step':>17} {'a second':>9} {'left':>9}  node")
    for seed, state, note in found:
        step, rate = note["steps"] if state == "done" else note.get("step", 0), note.get("rate", 0.0)
        running = state == "running" and rate
        left = f"{(note['steps'] - step) / rate / 60:.0f} min" if running else ""
        far, pace = f"{step:,}/{note['steps']:,}", f"{rate:.1f}" if running else ""
        print(f"{' '.join(seed):44} {state:12} {far:>17} {pace:>9} {left:>9}  {note.get('node', '')}")
        if state == "stopped":
            print(f"  {slurm.last_words(place, logs[seed])}")
    print(_total(place, [state for _, state, _ in found]))


def cancel(arguments: argparse.Namespace) -> None:
    """Ends the jobs of a plan, or the process that trains it here; what they saved stays."""
    place = _place(arguments.plan)
    file = read(place)["file"]
    driver = _driver(place.name)
    at_work = slurm.queued(place, driver)
    if not at_work and not driver:
        print(f"{place.name}: nothing of it is at work")
        return
    (place / _CANCELLED).touch()
    if at_work:
        subprocess.run(["scancel", *{number for _, _, number in at_work.values()}], check=True)  # noqa: S603, S607
    else:
        os.kill(driver, signal.SIGTERM)
    whom = f"jobs of {len(at_work)} seeds were" if at_work else f"process {driver} was"
    again = f"repro run {file}" + " --on slurm --slurm ..." * bool(at_work)
    print(f"{place.name}: {whom} told to save and stop; to go on: {again}")


def _driver(name: str) -> int:
    """The process on this machine that drives the plan; 0 where there is none."""
    lock = LOCKS / f"plan.{name}.lock"
    words = lock.read_text().split() if lock.is_file() else []
    return int(words[1]) if words[3:4] == [platform.node()] and Path("/proc", words[1]).exists() else 0


def _dry_run(path: Path, arguments: argparse.Namespace) -> int:
    """Prints jobs, hours and options; sends nothing out."""
    from repro.cost import hours
    from repro.plan import read_plan

    found = slurm.options(arguments.slurm, arguments.gpus_per_run) if arguments.on else None
    runs = lay_out(path, not found or slurm.wants_gpus(found), arguments.gpus_per_run)["runs"]
    missing, total = _missing(runs), sum(len(one["jobs"]) for one in runs.values())
    jobs = len(slurm.grouped(missing, arguments.seeds_per_job))
    print(f"{path.stem}: {len(missing)} of {total} seeds, or stacks of them, are not finished: {jobs} jobs")
    if found:
        print(f"sbatch {slurm.in_words(found, jobs)}")
    hours(path, Counter(run for run, _ in missing), slurm.wants_gpus(found) if found else read_plan(path).needs_gpu)
    return 0

"""All runs of a plan: on this machine, or as jobs of a cluster; and how far each seed is.

    repro run digits                                                      here: a worker for each GPU, else `workers`
    repro run digits --on slurm --slurm partition=gpu gpus=1 time=8h      a job for each seed that is not finished
    repro status digits
    repro cancel digits

state/.plans/<plan>/ says what is to be trained (plan.json), and has a folder for each submission, which is one array of
jobs by submitit. A job is named <plan>-<hash of the folder>.<submission>, so that the queue itself says which seeds are
at work, whoever sent them out. A job whose time is over is queued again by submitit; one that is preempted, or whose
node is lost, by Slurm. A seed's result lies in a folder of its own and says that it is done: no process needs another
one's lock. The command that drives a cluster imports no PyTorch; what does is a process apart.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from repro.files import LOCKS, Held, only_writer, write_whole
from repro.plan import plan_path
from repro.sbatch import in_words, options
from repro.settings import ConfigError
from repro.train.stopping import EXIT_OUT_OF_TIME, Flags, Stopping

PLANS, STATE, RUNS = Path("state/.plans"), Path("state"), Path("artifacts/runs")
_PLAN, _CANCELLED, _RESULT, _NOTE, _TASKS = "plan.json", "cancelled", "result.pt", "progress.json", "tasks.json"
_DEATHS = 3  # of a seed's jobs, after which it is given up; a requeued job has not died
_POLL, _SILENCE = 5.0, 30.0  # seconds between looks at the queue, and between lines of progress
_AT_ONCE = 1000  # tasks of one array: Slurm's own limit is 1,001 unless it is raised
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
Seed = tuple[str, str]
"""A run, and the label of one seed of it, or of several that train as one."""


class Unreachable(RuntimeError):
    """Slurm's controller does not answer."""


def run(arguments: argparse.Namespace) -> int:
    """Trains the plan, or watches another process that does; the exit status."""
    path = Path(plan_path(arguments.run))
    if not path.is_file():
        raise ConfigError(f"no plan at {path}")
    if arguments.slurm and not arguments.on:
        raise ConfigError("--slurm says how jobs go out, which --on slurm asks for; add it")
    if arguments.on:
        options(arguments.slurm, arguments.gpus_per_run)  # refused before anything is prepared
    place = _place(arguments.run)
    if arguments.dry_run:
        return _dry_run(path, arguments)
    with ExitStack() as lock:
        if not _mine(place, lock):
            print(f"{place.name}: was cancelled; the state is saved, run again to go on")
            return 2
        status = _drive(path, place, arguments) if arguments.on else _here(path, arguments)
    if not status:
        print(f"{path.stem}: every seed is trained; to evaluate and judge them: repro reproduce {path.stem}")
    return status


def _mine(place: Path, lock: ExitStack) -> bool:
    """Takes the plan's lock, for which it watches another process; False when the plan is cancelled meanwhile."""
    watched = False
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
            cancelled = watched and (place / _CANCELLED).exists()
            (place / _CANCELLED).unlink(missing_ok=True)
            return not cancelled


def _here(path: Path, arguments: argparse.Namespace) -> int:
    from repro.engine.device import set_up_process
    from repro.train.launch import train_runs

    set_up_process()  # before workers are forked
    runs = lay_out(path)["runs"]
    steps = sum(one["steps"] * len(one["chunks"]) for one in runs.values())
    workers = arguments.workers or min(one["workers"] for one in runs.values())
    return train_runs(((name, one["seeds"]) for name, one in runs.items()), path.stem, steps, workers)


def lay_out(path: Path) -> dict[str, Any]:
    """Prepares the plan and notes what it trains."""
    from repro.train.prepare import lay_out as laid_out

    plan = {"file": os.path.relpath(path)} | laid_out(path)
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
    """What was noted of a plan, which must have been started here."""
    if not (place / _PLAN).is_file():
        raise ConfigError(f"plan {place.name} was never started in this folder; start it: repro run {place.name}")
    return _checked(place / _PLAN, _Plan)  # type: ignore[no-any-return]


_One = TypedDict("_One", {"seeds": str, "chunks": dict[str, str], "steps": int, "workers": int, "settings": str,  # noqa: UP013
                          "before": int})  # fmt: skip
_Plan = TypedDict("_Plan", {"file": str, "code": str, "revision": str, "runs": dict[str, _One]})  # noqa: UP013
_Noted = TypedDict("_Noted", {"step": int, "rate": float, "node": str}, total=False)  # noqa: UP013


def _checked(path: Path, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError:
        raise ConfigError(f"{path}: is damaged; remove the folder {path.parent}, and start the plan again: repro run"
                          ) from None  # fmt: skip


def _place(what: str) -> Path:
    """Where it is noted what is trained of the plan of this name or file.

    Raises:
        ConfigError: when it is noted of another file of that name: their jobs could not be told apart.
    """
    path = Path(plan_path(what))
    place = PLANS / path.stem
    if path.is_file() and (place / _PLAN).is_file() and (other := read(place)["file"]) != os.path.relpath(path):
        raise ConfigError(f"{path}: a plan of that name was started from {other}; call this one otherwise, or give the "
                          f"other one up: repro cancel {other}; rm -r {place}")  # fmt: skip
    return place


def _joined(run: str, one: dict[str, Any]) -> bool:
    return (RUNS / run).is_dir() and (RUNS / run).stat().st_mtime_ns != one["before"]


def _done(run: str, one: dict[str, Any], label: str) -> bool:
    return (STATE / run / label / _RESULT).is_file() or _joined(run, one)


def _missing(plan: dict[str, Any]) -> list[Seed]:
    """Seeds that are not finished."""
    under_way = ((run, one) for run, one in plan["runs"].items() if not _joined(run, one))
    return [(run, label) for run, one in under_way for label in one["chunks"] if not _done(run, one, label)]


def _drive(path: Path, place: Path, arguments: argparse.Namespace) -> int:
    """Sends out jobs for what is missing, again for those that die, and joins what they leave."""
    try:
        present()
        apart(lay_out, path)
        status = _watch(place, arguments)
        apart(join, path.stem)
    except KeyboardInterrupt:
        again = shlex.join(["repro", *sys.argv[1:]])
        print(f"\nThe jobs go on without this command. To come back: {again}; to see how far they are: repro status "
              f"{path.stem}; to end them: repro cancel {path.stem}", file=sys.stderr)  # fmt: skip
        return 130
    return status


def apart(task: Callable[[Any], Any], what: Any) -> None:
    """Calls `task` in a process of its own, whose memory goes with it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(task, what).result()


def _watch(place: Path, arguments: argparse.Namespace) -> int:
    plan, spoken = read(place), 0.0
    deaths: Counter[Seed] = Counter()
    unseen: Counter[Seed] = Counter()  # looks in a row that did not show a seed's job
    sent: set[Seed] = set()
    while missing := _missing(plan):
        if (place / _CANCELLED).exists():
            print(f"{place.name}: was cancelled; the state is saved, run again to go on")
            return 2
        if time.monotonic() - spoken > _SILENCE:
            spoken = time.monotonic()
            print(counted(place), flush=True)
        try:
            at_work = queued(place)
        except Unreachable:  # which `counted` says; jobs that run go on
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
            submit(place, plan, wanted, arguments)
        elif all(deaths[seed] >= _DEATHS for seed in missing):
            break
        time.sleep(_POLL)
    print(counted(place), flush=True)
    for seed in missing:
        print(f"error: {' '.join(seed)} died {_DEATHS} times: {last_words(place, seed)}", file=sys.stderr)
    return 2 if missing else 0


def states(place: Path) -> Iterator[tuple[Seed, str, dict[str, Any]]]:
    """Each seed with its state, which is that of its job where there is one, and what it noted."""
    plan, at_work = read(place), queued(place)
    here = _driver(place.name) and not at_work
    for run, one in plan["runs"].items():
        joined = _joined(run, one)
        for label in one["chunks"]:
            folder, note = STATE / run / label, {"steps": one["steps"]}
            if joined or (folder / _RESULT).is_file():
                yield (run, label), "done", note
                continue
            try:
                note |= TypeAdapter(_Noted).validate_json((folder / _NOTE).read_bytes())
                fresh = time.time() - (folder / _NOTE).stat().st_mtime < 2 * _SILENCE
            except (OSError, ValueError):
                fresh = False
            if job := at_work.get((run, label)):
                yield (run, label), job[0], note | {"node": job[1]}
            elif here:
                yield (run, label), "running" if fresh else "waiting", note
            else:
                yield (run, label), "stopped" if log_of(place, (run, label)) else "not running", note


def counted(place: Path) -> str:
    """How many seeds are in each state, in one line."""
    try:
        found = Counter(state for _, state, _ in states(place))
    except Unreachable as error:
        return str(error)
    return f"{place.name}: {found.total()} seeds: {', '.join(f'{count} {state}' for state, count in found.items())}"


def status(arguments: argparse.Namespace) -> None:
    """Prints a line for each seed."""
    place = _place(arguments.plan)
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
            print(f"  {last_words(place, seed)}")
    print(f"{place.name}: {', '.join(f'{count} {state}' for state, count in total.items())}")


def cancel(arguments: argparse.Namespace) -> None:
    """Ends the jobs of a plan, or the process that trains it here; what they saved stays."""
    read(place := _place(arguments.plan))
    at_work, driver = queued(place), _driver(place.name)
    if not at_work and not driver:
        print(f"{place.name}: nothing of it is at work")
        return
    (place / _CANCELLED).touch()
    if at_work:
        subprocess.run(["scancel", *{number for _, _, number in at_work.values()}], check=True)  # noqa: S603, S607
    else:
        os.kill(driver, signal.SIGTERM)
    whom = f"jobs of {len(at_work)} seeds were" if at_work else f"process {driver} was"
    print(f"{place.name}: {whom} told to save and stop; to go on: repro run {place.name}")


def _driver(name: str) -> int:
    """The process on this machine that drives the plan; 0 where there is none."""
    lock = LOCKS / f"plan.{name}.lock"
    words = lock.read_text().split() if lock.is_file() else []
    alive = len(words) > 3 and words[3] == platform.node() and Path(f"/proc/{words[1]}").exists()
    return int(words[1]) if alive else 0


def _dry_run(path: Path, arguments: argparse.Namespace) -> int:
    """Prints jobs, hours and options; sends nothing out."""
    from repro.cost import hours

    plan = lay_out(path)
    missing = _missing(plan)
    jobs = grouped(missing, arguments.seeds_per_job)
    print(f"{path.stem}: {len(missing)} of {sum(len(one['chunks']) for one in plan['runs'].values())} seeds are not "
          f"finished: {len(jobs)} jobs")  # fmt: skip
    if arguments.on:
        print(f"sbatch {in_words(options(arguments.slurm, arguments.gpus_per_run), len(jobs))}")
    hours(path, Counter(run for run, _ in missing))
    return 0


def present() -> None:
    """Refuses to go on without Slurm and submitit."""
    if not all(map(shutil.which, ("sbatch", "squeue", "srun"))):
        raise ConfigError("--on slurm: sbatch, squeue and srun are not here; start it where jobs are sent out from, or "
                          "leave --on away to train on this machine")  # fmt: skip
    if not importlib.util.find_spec("submitit"):
        raise ConfigError("--on slurm: wants the package submitit; install it: uv pip install -e '.[cluster]'")


def grouped(seeds: Sequence[Seed], count: int) -> list[list[Seed]]:
    """At most `count` seeds a job, all of one run; those of a run stand together."""
    by_run = [list(some) for _, some in groupby(seeds, lambda seed: seed[0])]
    return [some[i : i + count] for some in by_run for i in range(0, len(some), count)]


def _name(place: Path) -> str:
    return f"{place.name}-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:8]}"


def submit(place: Path, plan: Mapping[str, Any], seeds: Sequence[Seed], arguments: argparse.Namespace) -> None:
    """Sends out jobs for these seeds; where Slurm refuses them, the error has its words."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    jobs, found = grouped(seeds, arguments.seeds_per_job), options(arguments.slurm, arguments.gpus_per_run)
    for some in (jobs[i : i + _AT_ONCE] for i in range(0, len(jobs), _AT_ONCE)):
        number = 1 + max((int(path.name) for path in place.glob("[0-9]*")), default=0)
        folder = place / str(number)
        write_whole(folder / _TASKS, json.dumps(some).encode())
        executor = SlurmExecutor(folder, max_num_timeout=100_000)  # requeues for want of time
        executor.update_parameters(**({"array_parallelism": len(some)} | found), job_name=f"{_name(place)}.{number}")
        tasks = []
        for group in some:
            one = plan["runs"][run := group[0][0]]
            text = ",".join(one["chunks"][label] for _, label in group)
            tasks.append(Task(run, text, one["settings"], plan["code"], plan["revision"], arguments.gpus_per_run))
        try:
            sent = executor.map_array(Train(), tasks)
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder)
            said = ": ".join(re.findall("sbatch: error: (.*)", str(error))) or error
            raise ConfigError(f"Slurm refuses the jobs: {said}; asked for: {in_words(found, len(some))}") from None
        print(f"{place.name}: {len(some)} jobs for {sum(map(len, some))} seeds sent out as "
              f"{sent[0].job_id.split('_')[0]}", flush=True)  # fmt: skip


def queued(place: Path) -> dict[Seed, tuple[str, str, str]]:
    """Each seed that a job of the plan is to train: "running" or "waiting", its node, and the job's number."""
    if not any(place.glob(f"[0-9]*/{_TASKS}")):
        return {}
    try:
        command = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%j|%K|%T|%N|%F"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Unreachable(f"Slurm does not answer ({said[-1] if said else 'squeue failed'}); jobs go on") from None
    at_work, mine = {}, f"{_name(place)}."
    for line in found.splitlines():
        if line.startswith(mine):
            number, index, state, node, job = line.removeprefix(mine).split("|")
            for seed in _sent(place / number)[int(index) if index.isdigit() else 0]:
                at_work[seed] = ("waiting" if state in _WAITING else "running", node, job)
    return at_work


@cache
def _sent(folder: Path) -> list[list[Seed]]:
    return _checked(folder / _TASKS, list[list[Seed]])  # type: ignore[no-any-return]


def log_of(place: Path, seed: Seed) -> Path | None:
    """Of the last job of this seed that has begun."""
    for folder in sorted(place.glob("[0-9]*"), key=lambda path: -int(path.name)):
        for index, group in enumerate(_sent(folder) if (folder / _TASKS).is_file() else []):
            if seed in group:
                logs = list(folder.glob(f"*_{index}_0_log.out" if len(_sent(folder)) > 1 else "*_0_log.out"))
                if logs:
                    return max(logs, key=lambda path: path.stat().st_mtime)
    return None


def last_words(place: Path, seed: Seed) -> str:
    """What a seed's last job said at its end, and its log."""
    log = log_of(place, seed)
    if not log:
        return f"its job never began; do the nodes see {place}?"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "slurmstepd: error: "))]
    return f"{([*lines, *errors] or ['nothing'])[-1][:300]} ({log})"


@dataclass(frozen=True)
class Task:
    """Some seeds of one run, and of which settings, data and code their plan was."""

    run: str
    seeds: str
    settings: str  # SHA-256 of the prepared settings, which hold the hash of the data
    code: str
    revision: str
    processes: int  # that share the run's batches, a GPU each


class Train:
    """What a job does."""

    def __call__(self, task: Task) -> None:
        """Trains as `repro train` does; a time that is over puts the job into the queue again."""
        if why := refusal(task):
            print(f"error: {why}", flush=True)
            sys.exit(2)
        status = _train(task)
        if status == EXIT_OUT_OF_TIME:
            os.kill(os.getpid(), signal.SIGUSR2)  # to submitit, which listens again
        if status:
            sys.exit(status)

    def checkpoint(self, task: Task) -> Any:
        """What submitit starts when the job comes back."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


def refusal(task: Task) -> str:
    """Why a job must not train: another revision, other code or other settings and data than the plan's; or nothing."""
    from repro.train.job import revision
    from repro.train.launch import CONFIGS
    from repro.train.prepare import code, digest

    if revision() != task.revision or code() != task.code:
        return (f"{task.run}: the code here is revision {revision()[:12]}, not as the plan was sent out ("
                f"{task.revision[:12]}); put it back, or send the plan out again: repro run")  # fmt: skip
    if digest(path := CONFIGS / f"{task.run}.yaml") != task.settings:
        return f"{task.run}: {path} is not as the plan was sent out; send it out again: repro run"
    return ""


def _train(task: Task) -> int:
    from repro.train import launch

    if task.processes > 1:
        return _together(["train", task.run, "--seeds", task.seeds], task.processes)
    try:
        return launch.train(argparse.Namespace(run=task.run, seeds=task.seeds))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", flush=True)
        return 2


def _together(words: list[str], processes: int) -> int:
    """By torchrun; waits for its processes, which save, when a signal ends torchrun itself."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m",
               "repro", *words]  # fmt: skip
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with Stopping(Flags([0, 0])) as stopping, subprocess.Popen(command, **pipe) as launcher:  # type: ignore[call-overload] # noqa: S603
        for line in launcher.stdout or ():  # until the last of them is gone
            print(line, end="", flush=True)
    return stopping.status or launcher.returncode

"""Jobs on Slurm, by submitit: what a person asks sbatch for, sending seeds out, the queue, and what a job does.

Each submission has a folder in the plan's, with the seeds of its jobs (sent.json), and a name that starts with the
plan's, so that the queue says which seeds are at work, whoever sent them out.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from repro.files import refuse_other_settings, write_whole
from repro.train.stopping import EXIT_OUT_OF_TIME, Flags, Stopping

_SIGNAL = 90  # seconds before a job's time is over, in which it saves
_OURS = {"job-name", "output", "error", "open-mode", "signal", "wrap", "chdir", "requeue", "no-requeue", "nodes",
         "ntasks", "ntasks-per-node", "array-parallelism", "gpus-per-node"}  # fmt: skip
"""Options of sbatch by which jobs are told apart, saved in time and queued again: a person's own would undo that."""

_SENT = "sent.json"
_AT_ONCE = 1000  # tasks of one array: Slurm's own limit is 1,001 unless it is raised
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
Seed = tuple[str, str]
"""A run, and the label of one seed of it, or of several that train as one."""


class Unreachable(RuntimeError):
    """Slurm's controller does not answer."""


def options(words: Sequence[str], gpus_per_run: int = 1) -> dict[str, Any]:
    """`partition=gpu gpus=1 time=8h array=64` as submitit has it; what it does not know goes to sbatch as it is."""
    given = _given(words)
    found: dict[str, Any] = {"additional_parameters": {"requeue": True, "open-mode": "append"}}
    if gpus_per_run > 1 and given.setdefault("gpus", str(gpus_per_run)) == "0":
        raise ValueError(f"--slurm gpus=0 and --gpus-per-run {gpus_per_run} contradict each other; leave one out")
    for key, value in given.items():
        if key == "time":
            match = re.fullmatch(r"([1-9]\d*)([mhd])", value)
            if not match:
                raise ValueError(f"--slurm time={value}: wants a whole number of minutes, hours or days: 30m, 8h, 2d")
            found["time"] = int(match[1]) * {"m": 1, "h": 60, "d": 1440}[match[2]]
        elif key in {"gpus", "array"}:
            if not value.isdecimal() or (key == "array" and not int(value)):
                raise ValueError(f"--slurm {key}={value}: wants a whole number, of jobs from 1 on")
            if int(value):
                found[{"gpus": "gpus_per_node", "array": "array_parallelism"}[key]] = int(value)
        else:
            found["additional_parameters"][key.replace("_", "-")] = value
    if "time" not in found:
        raise ValueError("--slurm has no time=, a job's limit, such as time=8h; one that needs more is queued again")
    return found | {"signal_delay_s": min(_SIGNAL, 60 * found["time"] // 4), "stderr_to_stdout": True}


def wants_gpus(found: Mapping[str, Any]) -> bool:
    """Whether these options ask Slurm for a GPU."""
    more = found["additional_parameters"]
    return "gpus_per_node" in found or any(key.startswith("gpus") or key == "gres" for key in more)


def _given(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for key, _, value in (word.partition("=") for word in words):
        if not re.fullmatch(r"[!-~]+", value) or not re.fullmatch(r"[a-z][a-z_-]*", key):
            raise ValueError(f"--slurm {key}: wants key=value without blanks, such as partition=gpu")
        if key.replace("_", "-") in _OURS:
            raise ValueError(f"--slurm {key}={value}: is set for each job here; leave it out")
        if given.setdefault(key, value) != value:
            raise ValueError(f"--slurm {key}={given[key]} and {key}={value} contradict each other; leave one out")
    return given


def in_words(found: Mapping[str, Any], jobs: int) -> str:
    """The options as sbatch has them."""
    most = min(found.get("array_parallelism", jobs), jobs)
    gpus = f"--gpus-per-node={found['gpus_per_node']} " if "gpus_per_node" in found else ""
    more = (f"--{key}" + f"={value}" * (value is not True) for key, value in found["additional_parameters"].items())
    return (f"--array=0-{jobs - 1}%{most} --time={found['time']} {gpus}--signal=USR2@{found['signal_delay_s']} "
            f"{' '.join(more)}")  # fmt: skip


def present() -> None:
    """Refuses to go on without Slurm and submitit."""
    if not all(map(shutil.which, ("sbatch", "squeue", "srun"))):
        raise ValueError("--on slurm: sbatch, squeue and srun are not here; start it where jobs are sent out from, or "
                         "leave --on away to train on this machine")  # fmt: skip
    if not importlib.util.find_spec("submitit"):
        raise ValueError("--on slurm: wants the package submitit; install it: uv pip install -e '.[cluster]'")


DAMAGE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What a damaged file of notes may lead to."""


def noted(path: Path, part: Callable[[Any], Any], remedy: str) -> Any:
    """What a file of notes holds, checked without pydantic, whose loading takes half a second."""
    try:
        return part(json.loads(path.read_bytes()))
    except (FileNotFoundError, *DAMAGE):
        raise damaged(path, remedy) from None


def damaged(path: Path, remedy: str) -> ValueError:
    """Of a file of notes, with the commands that put it away."""
    return ValueError(f"{path}: is damaged; put it away, and start the plan again: {remedy}; repro run")


def grouped(seeds: Sequence[Seed], count: int) -> list[list[Seed]]:
    """At most `count` seeds a job, all of one run; those of a run stand together."""
    by_run = (list(some) for _, some in groupby(seeds, lambda seed: seed[0]))
    return [some[i : i + count] for some in by_run for i in range(0, len(some), count)]


def _name(place: Path, number: object = "") -> str:
    """Of the jobs of a submission, or how all of them begin."""
    return f"{place.name}-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:8]}.{number}"


def submit(place: Path, plan: Mapping[str, Any], seeds: Sequence[Seed], arguments: argparse.Namespace) -> None:
    """Sends out jobs for these seeds; where Slurm refuses them, the error has its words."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    jobs, found = grouped(seeds, arguments.seeds_per_job), options(arguments.slurm, arguments.gpus_per_run)
    for some in (jobs[i : i + _AT_ONCE] for i in range(0, len(jobs), _AT_ONCE)):
        number = 1 + max((int(path.name) for path in _submissions(place)), default=0)
        folder = place / str(number)
        write_whole(folder / _SENT, json.dumps(some).encode())
        executor = SlurmExecutor(folder, max_num_timeout=100_000)  # requeues for want of time
        executor.update_parameters(**({"array_parallelism": len(some)} | found), job_name=_name(place, number))
        tasks = []
        for group in some:
            one = plan["runs"][run := group[0][0]]
            text = ",".join(one["jobs"][label] for _, label in group)
            tasks.append(Task(run, text, one["settings"], plan["code"], plan["revision"], arguments.gpus_per_run))
        try:
            with executor.batch():
                sent = [executor.submit(task) for task in tasks]
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder)
            said = ": ".join(re.findall("sbatch: error: (.*)", str(error))) or error
            raise ValueError(f"Slurm refuses the jobs: {said}; asked for: {in_words(found, len(some))}") from None
        print(f"{place.name}: {len(some)} jobs for {sum(map(len, some))} seeds sent out as "
              f"{sent[0].job_id.split('_')[0]}", flush=True)  # fmt: skip


def queued(place: Path, driver: int = 0) -> dict[Seed, tuple[str, str, str]]:
    """Each seed that a job of the plan is to train: "running" or "waiting", its node, and the job's number.

    Where Slurm is not here, a process that drives the plan here, `driver`, trains it itself, and there are no jobs.
    """
    submissions, slurm = _submissions(place), shutil.which("squeue")
    if not submissions or (driver and not slurm):
        return {}
    if not slurm:
        ends = "; ".join(f"rm -r {folder}" for folder in submissions)
        raise Unreachable(f"{place.name} was sent out to Slurm, and squeue is not here; ask where it is, or, if those "
                          f"jobs are gone, forget them: {ends}")  # fmt: skip
    try:
        command = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%j|%K|%T|%N|%F"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Unreachable(f"Slurm does not answer ({said[-1] if said else 'squeue failed'}); jobs go on") from None
    at_work, mine = {}, _name(place)
    for line in found.splitlines():
        if line.startswith(mine):
            number, index, state, node, job = line.removeprefix(mine).split("|")
            for seed in _of(place / number, index):
                at_work[seed] = ("waiting" if state in _WAITING else "running", node, job)
    return at_work


def _submissions(place: Path) -> list[Path]:
    """Their folders, in order."""
    return sorted((path for path in place.glob("[0-9]*") if path.name.isdecimal()), key=lambda path: int(path.name))


@cache
def _sent(folder: Path) -> list[list[Seed]]:
    def seeds(jobs: Any) -> list[list[Seed]]:
        return [[(str(run), str(label)) for run, label in group] for group in jobs]

    return noted(folder / _SENT, seeds, _end(folder))  # type: ignore[no-any-return]


def _end(folder: Path) -> str:
    """The commands that end the jobs of a submission, and forget it."""
    return f"scancel --name={_name(folder.parent, folder.name)}; rm -r {folder}"


def _of(folder: Path, index: str) -> list[Seed]:
    """The seeds of a job, by its index in its array; a single one has none."""
    jobs, number = _sent(folder), int(index) if index.isdecimal() else 0
    if number >= len(jobs):
        raise damaged(folder / _SENT, _end(folder))
    return jobs[number]


def logs_of(place: Path) -> dict[Seed, Path]:
    """The log of each seed's last job that has begun."""
    found: dict[Seed, Path] = {}
    for folder in _submissions(place):
        for log in folder.glob("*_log.out"):  # <job>_<index>_0_log.out, or <job>_0_log.out where there is one job
            found |= dict.fromkeys(_of(folder, log.name.split("_")[1]), log)
    return found


def last_words(place: Path, log: Path | None) -> str:
    """What a seed's last job said at its end, and its log."""
    if not log:
        return f"its job never began; do the nodes see {place}?"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "slurmstepd: error: "))]
    return f"{([*lines, *errors] or ['nothing'])[-1][:300]} ({log})"


@dataclass(frozen=True)
class Task:
    """What a job does: trains some seeds of one run, of settings, data and code that must be as they were sent out."""

    run: str
    seeds: str
    settings: str  # SHA-256 of the prepared settings, which hold the hash of the data
    code: str
    revision: str
    processes: int  # that share the run's batches, a GPU each

    def __call__(self) -> None:
        """Trains as `repro train` does; a time that is over puts the job into the queue again."""
        try:
            refuse_other_code_or_data(self)
            status = self._train()
        except (ValueError, RuntimeError, OSError) as error:
            print(f"error: {error}", flush=True)
            status = 2
        if status == EXIT_OUT_OF_TIME:
            os.kill(os.getpid(), signal.SIGUSR2)  # to submitit, which listens again
        if status:
            sys.exit(status)

    def _train(self) -> int:
        """By torchrun where several processes share the run, whom a signal to it tells to save."""
        if self.processes == 1:
            from repro.train.launch import train

            return train(self.run, self.seeds)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                   str(self.processes), "-m", "repro", "train", self.run, "--seeds", self.seeds]  # fmt: skip
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with Stopping(Flags()) as stopping, subprocess.Popen(command, **pipe) as launcher:  # type: ignore[call-overload] # noqa: S603
            for line in launcher.stdout or ():  # until the last of them is gone
                print(line, end="", flush=True)
        return stopping.status or launcher.returncode

    def checkpoint(self) -> Any:
        """What submitit starts when the job comes back."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def refuse_other_code_or_data(task: Task) -> None:
    """A job trains by the revision and code, and with the settings and data, of its plan, or not at all."""
    from repro.train.job import hash_of, revision, source_hashes

    if revision() != task.revision or hash_of(source_hashes()) != task.code:
        raise ValueError(f"{task.run}: the code here is revision {revision()[:12]}, not as the plan was sent out ("
                         f"{task.revision[:12]}); put it back, or send the plan out again: repro run")  # fmt: skip
    refuse_other_settings(task.run, task.settings)

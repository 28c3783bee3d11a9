"""Jobs of a plan on Slurm, by submitit: one array for each submission, a task for some seeds of one run.

A job is named <plan>-<hash of the folder>.<submission>, so that the queue itself says which seeds are at work, whoever
sent them out and whatever became of that process. A job whose time is over saves and is queued again, by submitit; one
that is preempted saves and is queued again, as one of a lost node, by Slurm.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from repro.files import write_whole
from repro.settings import ConfigError

_TASKS, _AT_ONCE = "tasks.json", 1000  # tasks of one array: Slurm's own limit is 1,001 unless it is raised
_REQUEUES = 100_000  # for want of time
_SIGNAL = 90  # seconds before a job's time is over, in which it saves
_UNITS = {"m": 1, "h": 60, "d": 1440}
Seed = tuple[str, str]


class Unreachable(RuntimeError):
    """Slurm's controller does not answer."""


def options(words: Sequence[str], gpus_per_run: int = 1) -> dict[str, Any]:
    """`partition=gpu gpus=1 time=8h array=64` as submitit has it; what it does not know goes to sbatch as it is.

    Raises:
        ConfigError: for what is no option, and without a time.
    """
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    found: dict[str, Any] = {"additional_parameters": {"requeue": True, "open-mode": "append"}}
    if gpus_per_run > 1:
        given.setdefault("gpus", str(gpus_per_run))
    for key, value in given.items():
        if not value or not re.fullmatch(r"[a-z][a-z_-]*", key):
            raise ConfigError(f"--slurm {key}: wants key=value, such as partition=gpu, as sbatch has it")
        if key == "time":
            found["time"] = _minutes(value)
        elif key in {"gpus", "array"}:
            if not value.isdigit():
                raise ConfigError(f"--slurm {key}={value}: wants a number")
            if int(value):
                found[{"gpus": "gpus_per_node", "array": "array_parallelism"}[key]] = int(value)
        else:
            found["additional_parameters"][key.replace("_", "-")] = value
    if "time" not in found:
        raise ConfigError(
            "--slurm has no time=, a job's limit such as time=8h; a job that needs longer is queued again"
        )
    return found | {"signal_delay_s": min(_SIGNAL, 60 * found["time"] // 4), "stderr_to_stdout": True}


def _minutes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if not match or int(match[1]) == 0:
        raise ConfigError(f"--slurm time={text}: wants a whole number of minutes, hours or days: 30m, 8h, 2d")
    return int(match[1]) * _UNITS[match[2]]


def in_words(found: Mapping[str, Any], jobs: int) -> str:
    """The options as sbatch has them."""
    most = min(found.get("array_parallelism", jobs), jobs)
    gpus = f"--gpus-per-node={found['gpus_per_node']} " if "gpus_per_node" in found else ""
    more = (
        f"--{key}" + ("" if value is True else f"={value}") for key, value in found["additional_parameters"].items()
    )
    return (f"--array=0-{jobs - 1}%{most} --time={found['time']} {gpus}--signal=USR2@{found['signal_delay_s']} "
            f"{' '.join(more)}")  # fmt: skip


def present() -> None:
    """Looks for Slurm and submitit.

    Raises:
        ConfigError: when one is not there.
    """
    if not all(map(shutil.which, ("sbatch", "squeue", "srun"))):
        raise ConfigError("--on slurm: sbatch, squeue and srun are not here; start it where jobs are sent out from, or "
                          "leave --on away to train on this machine")  # fmt: skip
    if not importlib.util.find_spec("submitit"):
        raise ConfigError("--on slurm: wants the package submitit; install it: uv pip install -e '.[cluster]'")


def grouped(seeds: Sequence[Seed], count: int) -> list[list[Seed]]:
    """At most `count` seeds a job, all of one run."""
    by_run: dict[str, list[Seed]] = {}
    for seed in seeds:
        by_run.setdefault(seed[0], []).append(seed)
    return [some[i : i + count] for some in by_run.values() for i in range(0, len(some), count)]


def _name(place: Path) -> str:
    return f"{place.name}-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:8]}"


def submit(place: Path, plan: Mapping[str, Any], seeds: Sequence[Seed], arguments: argparse.Namespace) -> None:
    """Sends out jobs for these seeds.

    Raises:
        ConfigError: in Slurm's words, when it refuses them.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    jobs, found = grouped(seeds, arguments.seeds_per_job), options(arguments.slurm, arguments.gpus_per_run)
    for some in (jobs[i : i + _AT_ONCE] for i in range(0, len(jobs), _AT_ONCE)):
        number = 1 + max((int(path.name) for path in place.glob("[0-9]*")), default=0)
        folder = place / str(number)
        write_whole(folder / _TASKS, json.dumps(some).encode())
        executor = SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(**({"array_parallelism": len(some)} | found), job_name=f"{_name(place)}.{number}")
        tasks = []
        for group in some:
            one = plan["runs"][group[0][0]]
            text = ",".join(one["chunks"][label] for _, label in group)
            tasks.append(
                Task(group[0][0], text, one["settings"], plan["code"], plan["revision"], arguments.gpus_per_run)
            )
        try:
            sent = executor.map_array(Train(), tasks)
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder)
            said = [
                line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if "sbatch: error:" in line
            ]
            raise ConfigError(f"Slurm refuses the jobs: {': '.join(said) or error}; asked for: "
                              f"{in_words(found, len(some))}") from None  # fmt: skip
        print(f"{place.name}: {len(some)} jobs for {sum(map(len, some))} seeds sent out as "
              f"{sent[0].job_id.split('_')[0]}", flush=True)  # fmt: skip


def _queue(place: Path) -> list[list[str]]:
    """Submission, index, state, nodes and number of each job of the plan; nothing where it sent out none.

    Raises:
        Unreachable: when the queue cannot be asked.
    """
    if not any(place.glob(f"[0-9]*/{_TASKS}")):
        return []
    try:
        command = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%j|%K|%T|%N|%F"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Unreachable(f"Slurm does not answer ({said[-1] if said else 'squeue failed'})") from None
    mine = f"{_name(place)}."
    return [line.removeprefix(mine).split("|") for line in found.splitlines() if line.startswith(mine)]


_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}


def jobs(place: Path) -> dict[Seed, tuple[str, str]]:
    """Each seed that a job of the plan is to train: "running" or "waiting", and its node."""
    found = {}
    for number, index, state, node, _ in _queue(place):
        for seed in _sent(place / number)[int(index) if index.isdigit() else 0]:
            found[seed] = ("waiting" if state in _WAITING else "running", node)
    return found


@cache
def _sent(folder: Path) -> list[list[Seed]]:
    return [[(run, label) for run, label in group] for group in json.loads((folder / _TASKS).read_text())]


def cancel(place: Path) -> None:
    """Ends all jobs of the plan, which save first."""
    numbers = sorted({job for *_, job in _queue(place)})
    subprocess.run(["scancel", *numbers], check=True)  # noqa: S603, S607


def log_of(place: Path, seed: Seed) -> Path | None:
    """Of the last job of this seed that has begun."""
    for folder in sorted(place.glob("[0-9]*"), key=lambda path: -int(path.name)):
        for index, group in enumerate(_sent(folder) if (folder / _TASKS).is_file() else []):
            if seed in group:
                logs = list(folder.glob(f"*_{index}_0_log.out" if len(_sent(folder)) > 1 else "*_0_log.out"))
                if logs:
                    return max(logs, key=lambda path: path.stat().st_mtime)
    return None


def last_words(place: Path, seed: Seed) -> tuple[str, Path | str]:
    """What a seed's last job said at its end, and its log."""
    log = log_of(place, seed)
    if not log:
        return "its job never began", f"{place}; nodes must see this folder"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "slurmstepd: error: "))]
    return ([*lines, *errors] or ["nothing"])[-1][:300], log


def code_of(source: Mapping[str, str]) -> str:
    """One hash of all files that decide what training computes."""
    return hashlib.sha256(repr(sorted(source.items())).encode()).hexdigest()


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


EXIT_OUT_OF_TIME = 75  # of repro.train.stopping


def refusal(task: Task) -> str:
    """Why a job must not train: another revision, other code or other settings and data than the plan's; or nothing."""
    from repro.train.job import revision, source_hashes

    path = Path(f"artifacts/configs/{task.run}.yaml")
    if revision() != task.revision or code_of(source_hashes()) != task.code:
        return (f"{task.run}: the code here is revision {revision()[:12]}, not as the plan was sent out ("
                f"{task.revision[:12]}); put it back, or send the plan out again: repro run")  # fmt: skip
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != task.settings:
        return f"{task.run}: {path} is not as the plan was sent out; send it out again: repro run"
    return ""


def _train(task: Task) -> int:
    words = ["train", task.run, "--seeds", task.seeds]
    if task.processes > 1:
        return _together(words, task.processes)
    from repro.__main__ import main

    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _together(words: list[str], processes: int) -> int:
    """By torchrun; waits for its processes, which save, when a signal ends torchrun itself."""
    from repro.train.stopping import Flags, Stopping

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m",
               "repro", *words]  # fmt: skip
    with (
        Stopping(Flags([0, 0])) as stopping,
        subprocess.Popen(  # noqa: S603 - our own
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as launcher,
    ):
        for line in launcher.stdout or ():  # until the last of them is gone
            print(line, end="", flush=True)
    return stopping.status or launcher.returncode

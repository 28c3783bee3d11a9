"""What a person asks sbatch for, as submitit has it: which options there are, and which ones would undo a job's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SIGNAL = 90  # seconds before a job's time is over, in which it saves
_OURS = {"job-name", "output", "error", "open-mode", "signal", "wrap", "chdir", "requeue", "no-requeue", "nodes",
         "ntasks", "ntasks-per-node", "array-parallelism", "gpus-per-node"}  # fmt: skip
"""Options of sbatch by which jobs are told apart, saved in time and queued again: a person's own would undo that."""


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

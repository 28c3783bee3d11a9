"""A folder in which small trainings run, are struck down and started again; and what they leave, as one hash.

The entry points run as they are, in processes forked from this one, so that a start costs no import of PyTorch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from repro.cli import prepare
from repro.cli.entry import run
from repro.evaluate import evaluate
from repro.evaluate.run import predictions_hash
from repro.records.runs import read_runs
from repro.train.checkpoint import load_results

ROOT = Path(__file__).parents[2]

_SHORT = ["budget.steps=60", "budget.log_every=7", "budget.snapshots=5", "budget.checkpoint_minutes=0.001"]
_DIGITS = [*_SHORT, "optim.average_decay=0.9", "finetune.steps=6", "finetune.learning_rate=0.01", "finetune.batch=20",
           "model.width=2", "budget.unlabelled_batch=32", "budget.labelled_batch=10"]  # fmt: skip
_MOONS = [*_SHORT, "budget.steps=150", "budget.stack=2", "optim.average_decay=0.9", "data.points=200"]

WORKLOADS: dict[str, dict[str, Any]] = {
    "supervised": {"experiment": "digits_supervised", "overrides": _DIGITS},
    "pseudo_label": {"experiment": "digits_pseudo_label", "overrides": [*_DIGITS, "method.teacher_steps=25"]},
    "uda": {"experiment": "digits_uda", "overrides": _DIGITS},
    "fixmatch": {"experiment": "digits_fixmatch", "overrides": _DIGITS},
    "mpl": {"experiment": "digits_mpl", "overrides": [*_DIGITS, "method.baseline=moving_average"]},
    "mpl_shuffled": {"experiment": "digits_mpl_shuffled", "overrides": [*_DIGITS, "method.shuffle_window=9"]},
    "mpl_stacked": {"experiment": "moons_tuned_mpl", "overrides": _MOONS},
}
"""Small runs of every method, with everything that a state holds: averages, finetuning, memory of h, stacked seeds."""

SEEDS = {name: "0-3" if name == "mpl_stacked" else "0-1" for name in WORKLOADS}


@dataclass(frozen=True)
class Process:
    """A started entry point, the leader of its own group."""

    pid: int

    def workers(self) -> list[int]:
        """Its worker processes, as far as they live."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    def send(self, number: signal.Signals) -> None:
        """A signal to the leader alone."""
        os.kill(self.pid, number)

    def send_all(self, number: signal.Signals) -> None:
        """A signal to leader and workers at once."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.pid, number)

    def wait(self, seconds: float = 120.0) -> int | None:
        """Its exit status, negative for the signal that ended it; None when it still runs after so long."""
        until = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until:
                return None
            time.sleep(0.002)


def start(
    place: Path, main: Callable[[], int | None], *arguments: str, spoil: Callable[[], None] | None = None
) -> Process:
    """Forks an entry point that works in `place`; what it prints is added to `place`/log.

    Args:
        place: the working directory.
        main: of the entry point.
        arguments: on its command line.
        spoil: called first in the new process.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Process(pid)
    status = 99
    try:
        os.setsid()
        torch.set_num_threads(1)  # of several, this process would have but the one that forked it
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which this process may ignore, as under nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(place)
        log = os.open("log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = [main.__module__, *arguments]
        if spoil:
            spoil()
        run(main)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent reads it in the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def training(place: Path, name: str, spoil: Callable[[], None] | None = None) -> Process:
    """Starts training a workload."""
    return start(place, train.main, name, "--seeds", SEEDS[name], spoil=spoil)


def evaluation(place: Path, name: str, spoil: Callable[[], None] | None = None) -> Process:
    """Starts evaluating a workload."""
    return start(place, evaluate.main, name, spoil=spoil)


def prepared(place: Path, names: Iterable[str] = tuple(WORKLOADS)) -> Path:
    """A folder with everything that training needs."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "experiments").symlink_to(ROOT / "experiments")
    plan = {"runs": {name: WORKLOADS[name] | {"seeds": SEEDS[name]} for name in names}}
    (place / "params.yaml").write_text(yaml.safe_dump(plan))
    finished(start(place, prepare.main), place)
    return place


def finished(process: Process, place: Path) -> None:
    """Waits for a process that must end well.

    Raises:
        AssertionError: with the end of the log, when it does not.
    """
    status = process.wait()
    if status is None:
        process.send_all(signal.SIGKILL)
    if status != 0:
        raise AssertionError(f"exit status {status}: {printed(place)[-2000:]}")


def printed(place: Path) -> str:
    """All that was printed in `place`."""
    return (place / "log").read_text() if (place / "log").exists() else ""


def outcome(place: Path, name: str) -> str:
    """A hash over all that a run leaves: weights along training and at its end, the log, predictions and curves."""
    digest = hashlib.sha256()

    def add(label: str, value: Tensor | np.ndarray) -> None:
        array = value.numpy() if isinstance(value, Tensor) else value
        digest.update(f"{label}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())

    for result in load_results(place / "artifacts/runs" / name):
        digest.update(repr((result.seeds, result.rows, result.config)).encode())
        digest.update(repr(result.environment["warnings"]).encode())
        for series in (result.snapshots, result.late, [{"step": -1, "networks": {"finetuned": result.finetuned}}]):
            for entry in series:
                for network, weights in sorted(entry["networks"].items()):
                    for key, tensor in sorted(weights.items()):
                        add(f"{entry['step']}{network}{key}", tensor)
    for folder in read_runs(place / "results/runs").get(name, []):
        digest.update(repr((folder.seeds, folder.accuracy, predictions_hash(folder.predictions))).encode())
        digest.update(folder.metrics.to_csv().encode())
        digest.update(repr(folder.data).encode())
        for key, values in sorted((folder.curve | folder.boundary).items()):
            add(key, values)
    return digest.hexdigest()


def quiet() -> None:
    """One thread, since every process here is forked."""
    torch.set_num_threads(1)

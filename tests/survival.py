"""Strikes small trainings down at random moments, starts them again, and compares all that they leave, bit for bit.

    python -m tests.survival [<run> ...] [--each 3] [--seed 0]

Exits with 1 when anything did not survive. `repro` runs as it is, in processes forked from this one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from repro.__main__ import main as repro
from repro.results import predictions_hash, read_run
from repro.train.checkpoint import load_results
from repro.train.stopping import EXIT_INTERRUPTED, EXIT_STOPPED

ROOT = Path(__file__).parents[1]
_SHORT = ["budget.steps=60", "budget.log_every=7", "budget.snapshots=5", "budget.checkpoint_minutes=0.001",
          "optim.average_decay=0.9"]  # fmt: skip
_DIGITS = [*_SHORT, "finetune.steps=6", "finetune.learning_rate=0.01", "finetune.batch=20", "model.width=2",
           "budget.unlabelled_batch=32", "budget.labelled_batch=10"]  # fmt: skip
_FAST = ["engine.precision=bfloat16", "engine.channels_last=true", "engine.cuda_graph=true", "engine.compile=true",
         "engine.fastest=true"]  # fmt: skip
RUNS: dict[str, list[str]] = {
    **dict.fromkeys(("digits_supervised", "digits_uda"), _DIGITS),
    "digits_fixmatch": [*_DIGITS, *_FAST],
    "digits_pseudo_label": [*_DIGITS, "method.teacher_steps=25"],
    "digits_mpl": [*_DIGITS, "method.baseline=moving_average"],
    "digits_mpl_shuffled": [*_DIGITS, "method.shuffle_window=9"],
    "moons_tuned_mpl": [*_SHORT, "budget.steps=150", "budget.stack=2", "data.points=200"],
}
"""Changes to runs of every method, with all that a state holds: averages, finetuning, memory of h, stacked seeds;
one is executed in every way that trades speed against rounding."""


def seeds_of(run: str) -> str:
    """Two chunks of them."""
    return "0-3" if run.startswith("moons") else "0-1"


@dataclass(frozen=True)
class Process:
    """The leader of its own group of processes."""

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


def start(place: Path, do: Callable[[], object]) -> Process:
    """Forks a process that calls `do` in the folder `place`; what it prints is added to `place`/log."""
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
        for number in (1, 2):
            os.dup2(log, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        do()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent reads it in the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def training(place: Path, run: str) -> Process:
    """Starts training."""
    return start(place, partial(repro, ["train", run, "--seeds", seeds_of(run)]))


def finished(process: Process, place: Path) -> None:
    """Waits for a process that must end well; otherwise the error has the end of the log."""
    status = process.wait()
    if status is None:
        process.send_all(signal.SIGKILL)
    assert status == 0, f"exit status {status}: {printed(place)[-2000:]}"


def printed(place: Path) -> str:
    """All that was printed in `place`."""
    return (place / "log").read_text() if (place / "log").exists() else ""


def prepared(place: Path, runs: Iterable[str]) -> Path:
    """A folder with all that training these runs needs."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "experiments").symlink_to(ROOT / "experiments")
    plan = {"runs": {run: {"overrides": RUNS[run], "seeds": seeds_of(run)} for run in runs}}
    (place / "params.yaml").write_text(yaml.safe_dump(plan))
    finished(start(place, partial(repro, ["prepare"])), place)
    return place


def copied(place: Path, label: str) -> Path:
    """A copy of a folder, beside it."""
    target = place.parent / label
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(place, target, symlinks=True)


def outcome(place: Path, run: str) -> str:
    """A hash over all that a run leaves: weights along training and at its end, the log, predictions and curves."""
    digest = hashlib.sha256()

    def add(label: str, array: Any) -> None:
        digest.update(f"{label}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())

    for result in load_results(place / "artifacts/runs" / run):
        digest.update(repr((result.seeds, result.rows, result.config, result.environment["warnings"])).encode())
        for series in (result.snapshots, result.late, [{"step": -1, "networks": {"finetuned": result.finetuned}}]):
            for entry in series:
                for network, weights in sorted(entry["networks"].items()):
                    for key, tensor in sorted(weights.items()):
                        add(f"{entry['step']}{network}{key}", tensor.numpy())
    if (place / "results/runs" / run).is_dir():
        record = read_run(place / "results/runs" / run)
        digest.update(predictions_hash({name: record.predictions(name) for name in record.networks}).encode())
        digest.update(record.metrics.to_csv().encode() + record.seeds.filter(like="accuracy.").to_csv().encode())
        for key, array in sorted(record.arrays.items()):
            add(key, array)
    return digest.hexdigest()


def strike(kind: str, process: Process, chance: random.Random) -> set[int]:
    """Strikes a training down; the exit statuses that it may end with, besides 0 when it was done."""
    whom, _, name = kind.rpartition(" ")
    number = signal.Signals[name]
    if whom == "worker":
        for pid in chance.sample(workers := process.workers(), min(1, len(workers))):
            os.kill(pid, number)
        return {2}  # the main process tells what to do
    if whom.startswith("leader"):
        process.send(number)
    if whom != "leader":
        process.send_all(number)
    if whom.endswith("save"):
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_all(signal.SIGKILL)
        return {EXIT_STOPPED, -number, -signal.SIGKILL}
    return {EXIT_INTERRUPTED} if name == "SIGINT" else {-number, EXIT_STOPPED if name != "SIGKILL" else -number}


STRIKES = ("all SIGKILL", "leader SIGKILL", "worker SIGKILL", "leader SIGTERM", "all SIGTERM",
           "leader, then all SIGTERM", "all, and SIGKILL while they save SIGTERM", "all SIGHUP",
           "all SIGINT")  # fmt: skip
"""Who gets which signal: power failures, ends of memory, batch systems, closed terminals and Ctrl-C."""


def trial(place: Path, run: str, kind: str, seconds: float, expected: str, chance: random.Random) -> tuple[int, str]:
    """Trains, in a copy of `place`, with up to three strikes, each followed by the same command; then evaluates.

    Gives how many strikes met a running process, and what went wrong; empty when nothing did.
    """
    place, met = copied(place, f"{run}-struck"), 0
    for _ in range(chance.randint(1, 3)):
        process, wanted = training(place, run), {0}
        status = process.wait(chance.uniform(0.0, 1.1 * seconds))
        if status is None:
            wanted |= strike(kind, process, chance)
            status = process.wait()
            met += status != 0
        if status not in wanted:
            return met, f"{run}: exit status {status} after {kind}: {printed(place)[-500:]}"
    finished(training(place, run), place)
    finished(start(place, partial(repro, ["evaluate", run])), place)
    left = [path.name for path in place.rglob(".*") if path.name.startswith((".partly", ".replaced"))]
    left += [path.name for path in (place / "state").glob("[!.]*")]  # locks stay
    if left:
        return met, f"{run}: left behind: {', '.join(left)}"
    return met, "" if outcome(place, run) == expected else f"{run}: not what the uninterrupted run leaves"


def trials(place: Path, run: str, kinds: Iterable[str], each: int, chance: random.Random) -> dict[str, list[Any]]:
    """For each kind of strike, what `trial` gives, `each` times; in folders beside `place`."""
    prepared(place, [run])
    whole, began = copied(place, f"{run}-whole"), time.monotonic()
    finished(training(whole, run), whole)
    seconds = time.monotonic() - began
    finished(start(whole, partial(repro, ["evaluate", run])), whole)
    expected = outcome(whole, run)
    return {kind: [trial(place, run, kind, seconds, expected, chance) for _ in range(each)] for kind in kinds}


def main() -> int:
    """Prints a line for each run and kind, and what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help=f"default: all of {', '.join(RUNS)}")
    parser.add_argument("--each", type=int, default=3, help="trials of every kind and run (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    arguments = parser.parse_args()
    chance, failures = random.Random(arguments.seed), 0  # noqa: S311 - moments are no secret
    for run in arguments.runs or RUNS:
        with tempfile.TemporaryDirectory(prefix="survival-") as above:
            for kind, found in trials(Path(above, "place"), run, STRIKES, arguments.each, chance).items():
                failed = [why for _, why in found if why]
                failures += len(failed)
                print(f"{run}, {kind}: {sum(met for met, _ in found)} strikes, "
                      f"{len(found) - len(failed)} of {len(found)} survived", *failed, sep="\n  ", flush=True,
                )  # fmt: skip
    return int(bool(failures))


if __name__ == "__main__":
    torch.set_num_threads(1)  # every process here is forked
    sys.exit(main())

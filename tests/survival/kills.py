"""Strikes trainings and evaluations down, at random moments and at every operation on files, and starts them again.

What comes out must be what an uninterrupted run leaves, bit for bit; what is in between must be whole.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro.train.launch import EXIT_INTERRUPTED, EXIT_STOPPED
from tests.survival.workplace import Process, evaluation, finished, outcome, printed, training

_OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "link", "mkdir", "rmdir")
"""Of the `os` module, which all that this project writes goes through."""


@dataclass
class Tally:
    """How often something was tried, and what survived."""

    says: str
    trials: int = 0
    survived: int = 0
    strikes: int = 0  # that met a running process
    failures: list[str] = field(default_factory=list)

    def add(self, strikes: int, complaint: str) -> None:
        """One trial; an empty complaint is a survival."""
        self.trials += 1
        self.strikes += strikes
        self.survived += not complaint
        if complaint:
            self.failures.append(complaint)

    def join(self, other: Tally) -> None:
        """Adds another tally of the same kind."""
        self.trials += other.trials
        self.strikes += other.strikes
        self.survived += other.survived
        self.failures += other.failures


def kill_all(process: Process, _: random.Random) -> set[int]:
    """Every process at once, as when the power fails."""
    process.send_all(signal.SIGKILL)
    return {-signal.SIGKILL}


def kill_leader(process: Process, _: random.Random) -> set[int]:
    """The main process alone; its workers must not train on."""
    process.send(signal.SIGKILL)
    return {-signal.SIGKILL}


def kill_worker(process: Process, chance: random.Random) -> set[int]:
    """One worker, as when memory runs out; the main process ends with an error and status 2."""
    workers = process.workers()
    if not workers:
        return {0}
    os.kill(chance.choice(workers), signal.SIGKILL)
    return {2}


def terminate_leader(process: Process, _: random.Random) -> set[int]:
    """SIGTERM to the main process: it saves."""
    process.send(signal.SIGTERM)
    return {EXIT_STOPPED, -signal.SIGTERM}  # the latter before it listens


def terminate_all(process: Process, _: random.Random) -> set[int]:
    """SIGTERM to every process, as batch systems send it."""
    process.send_all(signal.SIGTERM)
    return {EXIT_STOPPED, -signal.SIGTERM}  # the latter before the main process listens


def signal_twice(process: Process, _: random.Random) -> set[int]:
    """SIGTERM to the main process and at once to all, as some batch systems do: one wish."""
    process.send(signal.SIGTERM)
    process.send_all(signal.SIGTERM)
    return {EXIT_STOPPED, -signal.SIGTERM}


def hang_up(process: Process, _: random.Random) -> set[int]:
    """SIGHUP to all, as when a terminal closes."""
    process.send_all(signal.SIGHUP)
    return {EXIT_STOPPED, -signal.SIGHUP}


def stop_then_kill(process: Process, chance: random.Random) -> set[int]:
    """SIGTERM to all, and SIGKILL of all while they save."""
    process.send_all(signal.SIGTERM)
    time.sleep(chance.uniform(0.0, 0.1))
    process.send_all(signal.SIGKILL)
    return {EXIT_STOPPED, -signal.SIGTERM, -signal.SIGKILL}


def interrupt(process: Process, _: random.Random) -> set[int]:
    """Ctrl-C, which a terminal sends to every process."""
    process.send_all(signal.SIGINT)
    return {EXIT_INTERRUPTED}


STRIKES: dict[str, tuple[str, Callable[[Process, random.Random], set[int]]]] = {
    "kill_all": ("SIGKILL of all processes at once, at a random moment", kill_all),
    "kill_leader": ("SIGKILL of the main process", kill_leader),
    "kill_worker": ("SIGKILL of one worker", kill_worker),
    "terminate_leader": ("SIGTERM to the main process", terminate_leader),
    "terminate_all": ("SIGTERM to all processes", terminate_all),
    "signal_twice": ("SIGTERM to the main process and, at once, to all", signal_twice),
    "hang_up": ("SIGHUP to all processes", hang_up),
    "stop_then_kill": ("SIGTERM to all, SIGKILL of all while they save", stop_then_kill),
    "interrupt": ("Ctrl-C", interrupt),
}


@dataclass(frozen=True)
class Expected:
    """What a workload leaves when nothing happens, and how long that takes."""

    name: str
    place: Path  # prepared; copied for each trial
    outcome: str
    seconds: float

    @property
    def stacked(self) -> bool:
        """Whether seeds are trained side by side as one model."""
        return "stacked" in self.name


def uninterrupted(place: Path, name: str) -> Expected:
    """Trains and evaluates once, in a copy."""
    with_results = fresh_copy(place, f"{name}-whole")
    started = time.monotonic()
    finished(training(with_results, name), with_results)
    seconds = time.monotonic() - started
    finished(evaluation(with_results, name), with_results)
    return Expected(name, place, outcome(with_results, name), seconds)


def fresh_copy(place: Path, label: str) -> Path:
    """A copy of a prepared folder, beside it."""
    target = place.parent / label
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(place, target, symlinks=True)
    return target


def struck_at_random(expected: Expected, strike: str, chance: random.Random, most: int = 3) -> tuple[int, str]:
    """Trains with up to `most` strikes at random moments, each followed by the same command; then evaluates.

    Returns:
        How many strikes met a running process, and what went wrong, if anything.
    """
    place, met = fresh_copy(expected.place, f"{expected.name}-struck"), 0
    for _ in range(chance.randint(1, most)):
        process = training(place, expected.name)
        status = process.wait(chance.uniform(0.0, 1.1 * expected.seconds))
        if status is None:
            wanted = STRIKES[strike][1](process, chance)
            status = process.wait()
            met += status != 0
            if status not in wanted | {0}:
                return met, f"{expected.name}: exit status {status} after {strike}: {printed(place)[-500:]}"
        elif status != 0:
            return met, f"{expected.name}: exit status {status} without a strike: {printed(place)[-500:]}"
        if status == 0:
            break
    else:
        finished(training(place, expected.name), place)
    finished(evaluation(place, expected.name), place)
    return met, difference(expected, place)


def struck_in_evaluation(expected: Expected, chance: random.Random) -> tuple[int, str]:
    """Trains, evaluates, then kills another evaluation of the same at a random moment, and evaluates again."""
    place = fresh_copy(expected.place, f"{expected.name}-evaluated")
    finished(training(place, expected.name), place)
    started = time.monotonic()
    finished(evaluation(place, expected.name), place)
    process = evaluation(place, expected.name)
    met = process.wait(chance.uniform(0.0, time.monotonic() - started)) is None
    if met:
        process.send_all(signal.SIGKILL)
        process.wait()
    finished(evaluation(place, expected.name), place)
    return int(met), difference(expected, place)


def difference(expected: Expected, place: Path) -> str:
    """What is wrong with what a trial left, if anything."""
    if outcome(place, expected.name) != expected.outcome:
        return f"{expected.name}: not what the uninterrupted run leaves"
    left = [
        str(path.relative_to(place)) for path in place.rglob(".*") if path.name.startswith((".partly", ".replaced"))
    ]
    left += [str(path.relative_to(place)) for path in (place / "state").glob("[!.]*")]  # locks stay
    return f"{expected.name}: left behind: {', '.join(left)}" if left else ""


class FileOperations:
    """Counts the operations on files of all processes forked with `watch`, and kills them all at one of them."""

    def __init__(self, fatal: int = 0) -> None:
        self._fatal = fatal
        self._count = multiprocessing.Value("q", 0)
        self._unsafe = multiprocessing.Value("q", 0)

    @property
    def count(self) -> int:
        """How many there were."""
        return int(self._count.value)

    @property
    def unsafe(self) -> int:
        """How many renames put a file in its place whose content a power failure could still have lost."""
        return int(self._unsafe.value)

    def watch(self) -> None:
        """In the forked process: from here on, every operation counts."""
        synchronised: set[tuple[int, int]] = set()

        def wrap(name: str) -> None:
            original = getattr(os, name)

            def counted(*arguments: Any, **named: Any) -> Any:
                with self._count.get_lock():
                    self._count.value += 1
                    if self._count.value == self._fatal:
                        os.killpg(0, signal.SIGKILL)
                if name == "fsync":
                    found = os.fstat(arguments[0])
                    synchronised.add((found.st_dev, found.st_ino))
                if name in {"replace", "rename"} and ".partly-" in str(arguments[0]):
                    self._unsafe.value += not all(_identity(f) in synchronised for f in _files(Path(arguments[0])))
                return original(*arguments, **named)

            setattr(os, name, counted)

        for name in _OPERATIONS:
            wrap(name)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _files(path: Path) -> list[Path]:
    """The file, or all files in a folder that this process wrote: links to older files were synchronised by others."""
    return [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file() and f.stat().st_nlink == 1]


def struck_at_operation(expected: Expected, operation: int, stage: str) -> str:
    """Kills all processes at one operation on files of the stage `training` or `evaluation`, and starts it again."""
    place, start = (
        fresh_copy(expected.place, f"{expected.name}-operation"),
        {"training": training, "evaluation": evaluation},
    )
    if stage == "evaluation":
        finished(training(place, expected.name), place)
        finished(evaluation(place, expected.name), place)  # so that there is a record to lose
    fatal = FileOperations(operation)
    process = start[stage](place, expected.name, fatal.watch)
    status = process.wait()
    if status not in {0, -signal.SIGKILL}:
        return f"{expected.name}: exit status {status} at operation {operation}: {printed(place)[-500:]}"
    finished(start[stage](place, expected.name), place)
    if stage == "training":
        finished(evaluation(place, expected.name), place)
    found = difference(expected, place)
    return f"operation {operation} of {stage}: {found}" if found else ""


def operations(expected: Expected, stage: str) -> FileOperations:
    """Counts the operations of a stage that nothing happens to."""
    place, counter = fresh_copy(expected.place, f"{expected.name}-counted"), FileOperations()
    if stage == "evaluation":
        finished(training(place, expected.name), place)
        finished(evaluation(place, expected.name), place)
        finished(evaluation(place, expected.name, counter.watch), place)
    else:
        finished(training(place, expected.name, counter.watch), place)
    return counter

"""Disks that are full, read-only or limited, and checkpoints that rot: an error that says so, and nothing lost.

Real file systems of a small size are mounted in a name space of their own; where the system forbids that, these trials
are left out and said to be.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from repro.train.launch import EXIT_STOPPED
from tests.survival.kills import Expected, difference, fresh_copy
from tests.survival.workplace import ROOT, Process, evaluation, finished, printed, training

FULL, READ_ONLY = "No space left on device", "Read-only file system"


def may_mount() -> bool:
    """Whether this system lets a user mount a file system in a name space of his own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        return False


def on_a_small_disk(expected: Expected, kilobytes: int, read_only: bool = False) -> str:
    """Trains with `state/` on a disk of this size, which fills up; then makes room and goes on.

    What the disk holds when training fails is what the next start finds. Returns what went wrong, if anything.
    """
    place = fresh_copy(expected.place, f"{expected.name}-disk")
    lines = [
        "set -e", f"cd {place}", "mkdir state", f"mount -t tmpfs -o size={kilobytes}k none state",
        *(["mkdir state/.locks", "mount -o remount,ro state"] if read_only else []),
        f"status=0; {sys.executable} -m repro.train.launch {expected.name} --seeds 0-1 >> log 2>&1 || status=$?",
        "echo $status > status", "cp -r state kept", "umount state", "rmdir state", "mv kept state",
    ]  # fmt: skip
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", "\n".join(lines)]
    done = subprocess.run(  # noqa: S603
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"{expected.name}: the trial itself failed: {done.stderr[-500:]}"
    return _said_and_resumed(expected, place, READ_ONLY if read_only else FULL, (place / "status").read_text().strip())


def with_limited_files(expected: Expected, size: int) -> str:
    """Trains where no file may be larger than `size` bytes, as under a quota; then without that limit."""
    place = fresh_copy(expected.place, f"{expected.name}-limit")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    status = training(place, expected.name, limit).wait()
    return _said_and_resumed(expected, place, "File too large", str(status))


def _said_and_resumed(expected: Expected, place: Path, words: str, status: str) -> str:
    """Whether training ended with status 2 and one sentence, and went on to the end when the cause was gone."""
    errors = [line for line in printed(place).splitlines() if line.startswith("error: ")]
    if status != "2" or len(errors) != 1 or words not in errors[0] or "has room" not in errors[0]:
        return f"{expected.name}: exit status {status}, wanted 2 and one error with {words!r}: {printed(place)[-500:]}"
    if "Traceback" in printed(place):
        return f"{expected.name}: a trace: {printed(place)[-1500:]}"
    finished(training(place, expected.name), place)
    finished(evaluation(place, expected.name), place)
    return difference(expected, place)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]


def _zeros(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes(len(content) - at)


DAMAGES: dict[str, tuple[str, Callable[[bytes, random.Random], bytes]]] = {
    "cut": ("Newest checkpoint cut short", _cut),
    "flipped": ("Newest checkpoint with one bit flipped", _flipped),
    "zeros": ("Newest checkpoint with zeros from some byte on", _zeros),
}


def until_two_checkpoints(process: Process, place: Path, name: str) -> bool:
    """Waits until a chunk has two checkpoints; False when training ended before that was seen."""
    while process.wait(0.0) is None:
        for folder in (place / "state" / name).glob("seed*"):
            if len(list(folder.glob("checkpoint-*.pt"))) == 2 and not (folder / "result.pt").exists():
                return True
    return False


def stopped_midway(expected: Expected) -> Path:
    """A copy in which training was stopped by SIGTERM, with two checkpoints of each chunk that had begun.

    Raises:
        AssertionError: when training is too fast to be stopped.
    """
    for _ in range(20):
        place = fresh_copy(expected.place, f"{expected.name}-midway")
        process = training(place, expected.name)
        if until_two_checkpoints(process, place, expected.name):
            process.send_all(15)
            if process.wait() == EXIT_STOPPED:
                return place
    raise AssertionError(f"{expected.name} could not be stopped midway")


def damaged(expected: Expected, midway: Path, damage: str, chance: random.Random) -> str:
    """Damages the newest checkpoint of every chunk, and goes on. Returns what went wrong, if anything."""
    place, said = fresh_copy(midway, f"{expected.name}-damaged"), 0
    for folder in (place / "state" / expected.name).iterdir():
        checkpoints = sorted(folder.glob("checkpoint-*.pt"))
        if len(checkpoints) == 2 and not (folder / "result.pt").exists():
            newest = checkpoints[-1]
            newest.write_bytes(DAMAGES[damage][1](newest.read_bytes(), chance))
            said += 1
    finished(training(place, expected.name), place)
    if printed(place).count("going on from the checkpoint before it") != said:
        return f"{expected.name}: {said} damaged checkpoints were not all noticed: {printed(place)[-500:]}"
    finished(evaluation(place, expected.name), place)
    return difference(expected, place)


def all_damaged(expected: Expected, midway: Path, chance: random.Random) -> str:
    """When no checkpoint is intact, training refuses, names the files, and leaves them as they are."""
    place = fresh_copy(midway, f"{expected.name}-damaged")
    for path in (place / "state" / expected.name).glob("*/checkpoint-*.pt"):
        path.write_bytes(_flipped(path.read_bytes(), chance))
    before = {path: path.read_bytes() for path in (place / "state" / expected.name).glob("*/*.pt")}
    status = training(place, expected.name).wait()
    if status != 2 or "is intact" not in printed(place) or "start anew: rm -r" not in printed(place):
        return f"{expected.name}: exit status {status}: {printed(place)[-500:]}"
    after = {path: path.read_bytes() for path in (place / "state" / expected.name).glob("*/*.pt")}
    return "" if before == after else f"{expected.name}: files changed"


def second_writer(expected: Expected) -> str:
    """A second process on the same run is refused with who holds it; after the first is killed, it takes over."""
    place = fresh_copy(expected.place, f"{expected.name}-second")
    first = training(place, expected.name)
    if not until_two_checkpoints(first, place, expected.name):
        return f"{expected.name}: the first writer ended too soon"
    second = training(place, expected.name)
    status = second.wait()
    refused = f"is being written by process {first.pid} on" in printed(place)
    first.send(9)
    first.wait()
    if status != 2 or not refused:
        return f"{expected.name}: the second writer ended with {status}: {printed(place)[-500:]}"
    finished(training(place, expected.name), place)
    finished(evaluation(place, expected.name), place)
    return difference(expected, place)

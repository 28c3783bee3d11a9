"""What a worker process of a training does: a chunk of seeds, stopping when the flag is up."""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import Any

from repro.cli.chunk import Job, Listener, train_chunk
from repro.cli.lock import only_writer
from repro.cli.stopping import Flags, Stopping, die_with_parent
from repro.seeding import seeds_label

SECONDS_BETWEEN_LINES = 30.0  # of the log, for each worker

_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: what all share, the counters, the flags and the pipe of log lines; and whether it is at work."""


def start_worker(done: Any, lines: Any, flags: Flags) -> None:
    """A worker stops when the flag is up, whoever raised it, and dies with its parent."""
    _worker.update(done=done, lines=lines, flags=flags, busy=False, began=False, last_line=time.monotonic())
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def work(job: Job, number: int, chunk: list[int]) -> bool:
    """Trains this chunk of seeds unless it is finished; False when it stopped before the end.

    Args:
        job: the run.
        number: of the chunk among all of the run.
        chunk: its seeds.
    """
    late = time.monotonic() > job.deadline and _worker["began"]  # some step is always made
    _worker.update(busy=True, began=True)
    try:
        if late or _stops():
            return False
        with only_writer(f"{job.name}.{seeds_label(chunk)}", f"{job.name} {seeds_label(chunk)}"):
            return train_chunk(job, chunk, Listener(partial(_count, number), _put, _say, _stops))
    finally:
        _worker["busy"] = False


def _count(number: int, steps: int) -> None:
    _worker["done"][number] += steps


def _stops() -> bool:
    return bool(_worker["flags"].stops)


def _say(text: str) -> None:
    """A line for the reader, unless the last one was just now."""
    now = time.monotonic()
    if now - _worker["last_line"] >= SECONDS_BETWEEN_LINES:
        _worker["last_line"] = now
        _put(text)


def _put(text: str) -> None:
    """A line for the reader: in one write, which needs no lock that a killed worker would hold for ever."""
    with contextlib.suppress(BlockingIOError):  # nobody reads any more
        os.write(_worker["lines"].fileno(), f"{text[:_LONGEST]}\n".encode()[: 4 * _LONGEST])

"""What a worker process of a training does: chunks of seeds, some in turns, stopping when the flag is up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from functools import partial
from typing import Any

from repro.cli.chunk import Job, Listener, train_chunk
from repro.cli.lock import only_writer
from repro.cli.stopping import Flags, Stopping, die_with_parent
from repro.engine.device import choose_device
from repro.engine.turns import Chunks, in_turns
from repro.seeding import seeds_label

SECONDS_BETWEEN_LINES = 30.0  # of the log, for each worker

_LONGEST = 1000  # characters of a line: a pipe takes 4,096 bytes at once

_worker: dict[str, Any] = {}
"""Of a worker process: what all share, the counters, the flags and the pipe of log lines; and whether it is at work."""


def start_worker(done: Any, lines: Any, flags: Flags) -> None:
    """A worker stops when the flag is up, whoever raised it, and dies with its parent."""
    _worker.update(
        done=done, lines=lines, flags=flags, busy=False, began=False, started=time.monotonic(), last_lines={}
    )
    Stopping.in_worker(flags)
    die_with_parent(or_when=lambda: flags.ends and not _worker["busy"])


def work(job: Job, chunks: Chunks) -> bool:
    """Trains these chunks of seeds side by side, those that are not finished; False when one stopped before the end.

    Args:
        job: the run.
        chunks: of its seeds.

    Raises:
        Exception: the first that one of them raised; the others have saved and stopped.
    """
    _worker["busy"] = True
    try:
        tasks = [_train(job, number, chunk) for number, chunk in chunks.items()]
        return all(in_turns(tasks, choose_device(), _failed))
    finally:
        _worker["busy"] = False


def _train(job: Job, number: int, chunk: list[int]) -> Generator[None, None, bool]:
    late = time.monotonic() > job.deadline and _worker["began"]  # some step is always made
    _worker["began"] = True
    if late or _stops():
        return False
    with only_writer(f"{job.name}.{seeds_label(chunk)}", f"{job.name} {seeds_label(chunk)}"):
        return (
            yield from train_chunk(job, chunk, Listener(partial(_count, number), _put, partial(_say, number), _stops))
        )


def _count(number: int, steps: int) -> None:
    _worker["done"][number] += steps


def _stops() -> bool:
    return bool(_worker["flags"].stops)


def _failed(error: Exception) -> None:
    """Has the others save and stop, of which nobody hears before that; what goes wrong meanwhile is said here."""
    if _stops():
        _put(str(error))
    _worker["flags"].stop()


def _say(number: int, text: str) -> None:
    """A line for the reader, unless the last one of this chunk was just now."""
    now, last_lines = time.monotonic(), _worker["last_lines"]
    if now - last_lines.get(number, _worker["started"]) >= SECONDS_BETWEEN_LINES:
        last_lines[number] = now
        _put(text)


def _put(text: str) -> None:
    """A line for the reader: in one write, which needs no lock that a killed worker would hold for ever."""
    with contextlib.suppress(BlockingIOError):  # nobody reads any more
        os.write(_worker["lines"].fileno(), f"{text[:_LONGEST]}\n".encode()[: 4 * _LONGEST])

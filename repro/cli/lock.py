"""One writer for each place: a lock that the system releases when its holder dies, and that says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

LOCKS = Path("state/.locks")

_PATIENCE = 10.0
"""Seconds in which the workers of a killed process notice that it is gone and let go."""


class Held(RuntimeError):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def only_writer(name: str, what: str) -> Iterator[None]:
    """Holds the lock `name` for the block.

    Forked workers hold it too, so that a killed process's place is free when the last of them is gone. The file stays,
    empty, when it is released: removing it would let two processes hold two files of one name.

    Raises:
        Held: when another process holds it, unless that process dies within some seconds.
        OSError: when the lock's folder cannot be written.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    path = LOCKS / f"{name}.lock"
    with path.open("a+") as file:
        _acquire(file.fileno(), path, what)
        os.ftruncate(file.fileno(), 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {platform.node()} since {since} ({' '.join(['python', *sys.argv])})"
        with contextlib.suppress(OSError):  # a courtesy, for which a full disk need have no room
            os.write(file.fileno(), holder.encode())
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)


def _acquire(handle: int, path: Path, what: str) -> None:
    """Takes the lock; waits for it only where its holder is gone."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text()
            if time.monotonic() < until and not _lives(holder):
                time.sleep(0.1)
                continue
            raise Held(f"{what} is being written by {holder or 'another process'}; wait for it, or stop it") from None
        else:
            return


def _lives(holder: str) -> bool:
    """Whether the process that a lock names is there; one of another machine is taken to be."""
    words = holder.split()
    if len(words) < 4:
        return False  # between taking the lock and saying so
    if words[3] != platform.node():
        return True
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

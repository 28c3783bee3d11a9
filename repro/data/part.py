"""The part of a file that has come so far: it grows beside its place, and takes its place when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from repro.files import synchronise


class Part:
    """An open part, in the hands of this process alone."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file

    def __len__(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, content: bytes) -> None:
        """Adds `content`.

        Raises:
            OSError: naming the part, when the disk is full; what went onto it stays.
        """
        rest = memoryview(content)
        with _naming(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def restart(self) -> None:
        """Drops all that is there."""
        self._file.truncate(0)

    def discard(self) -> None:
        """Deletes the part."""
        self.path.unlink()

    def become(self, whole: Path) -> None:
        """Gives the part its final name, once it is safe on the disk."""
        with _naming(self.path):
            os.fsync(self._file.fileno())
        self.path.replace(whole)
        synchronise(whole.parent)


@contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """The part at `path`, an empty one where there is none.

    Raises:
        ValueError: when another process has it.
        OSError: when the folder cannot be written.
    """
    with path.open("ab", buffering=0) as file:  # without a buffer: what is written is there, whatever happens next
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is being written by another process; wait for it, then run again") from None
        if not (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
            raise ValueError(f"{path} was completed by another process just now; run the same command again")
        yield Part(path, file)


def md5_of(path: Path) -> str:
    """The MD5 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of an open file say which file it is."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error

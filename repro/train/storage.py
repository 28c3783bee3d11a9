"""Nested tensors and plain values in a file with a checksum: the states that training resumes from, and its results.

A file is one line of text, `repro-state <format> <bytes> <SHA-256>`, and then PyTorch's own format.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.files import write_whole

FORMAT = 2
"""The version of the contents, raised whenever their form changes; a file of another format is refused."""

_MAGIC = b"repro-state"
_LONGEST = 128  # bytes of the first line


class Damaged(ValueError):
    """A file that differs from what was written; the message names the file and what is wrong."""


class OtherFormat(ValueError):
    """A whole file of another version of this project."""


def save(path: Path, content: dict[str, Any]) -> str:
    """Saves nested tensors and plain values, whole or not at all; returns the checksum."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    checksum = hashlib.sha256(payload).hexdigest()
    write_whole(path, _MAGIC + f" {FORMAT} {len(payload)} {checksum}\n".encode(), payload)
    return checksum


def load(path: Path, checksum: str = "") -> dict[str, Any]:
    """What `save` wrote; nothing in the file is executed.

    Raises:
        Damaged: when the file is missing, cut short or changed, or does not match `checksum`.
        OtherFormat: when another version wrote it.
    """
    payload = checked(path, checksum)
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise Damaged(f"{path} does not hold tensors and plain values alone ({str(error).splitlines()[0]})") from error
    return content


def checked(path: Path, checksum: str) -> memoryview:
    """The content after the first line, compared with its checksum; raises as `load`."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise Damaged(f"{path} cannot be read ({error.strerror})") from error
    first, found, _ = whole[:_LONGEST].partition(b"\n")
    words = first.split(b" ")
    if not found or len(words) != 4 or words[0] != _MAGIC:
        raise Damaged(f"{path} does not begin as a saved state of this project does")
    if words[1] != str(FORMAT).encode():
        raise OtherFormat(f"{path} is in format {words[1].decode(errors='replace')}, this version reads {FORMAT}")
    payload = memoryview(whole)[len(first) + 1 :]
    if str(len(payload)).encode() != words[2]:
        raise Damaged(f"{path} holds {len(payload)} bytes, {words[2].decode(errors='replace')} were written")
    digest = hashlib.sha256(payload).hexdigest()
    if digest.encode() != words[3] or checksum not in {"", digest}:
        raise Damaged(f"{path} is not what was written (its SHA-256 differs)")
    return payload


Networks = dict[str, dict[str, Tensor]]
"""Network name to its weights."""


class Series:
    """Entries `{"step": int, "networks": Networks}` in order of steps; read from disk one file at a time.

    The names of its `files` in `folder` begin with `name`; each is known by name, checksum and steps.
    """

    def __init__(self, name: str, folder: Path | None = None, files: list[dict[str, Any]] | None = None) -> None:
        self._name, self._folder, self.files = name, folder, files or []
        self._pending: list[dict[str, Any]] = []

    def append(self, step: int, networks: Networks) -> None:
        """Keeps these weights, which must be a copy."""
        self._pending.append({"step": step, "networks": networks})

    def write(self, folder: Path) -> None:
        """Moves the entries in memory to a file; if it cannot be written, they stay in memory."""
        self._folder = folder
        if self._pending:
            name = f"{self._name}-{len(self.files) + 1:04d}.pt"
            checksum = save(folder / name, {"entries": self._pending})
            self.files.append({"name": name, "checksum": checksum, "steps": [e["step"] for e in self._pending]})
            self._pending = []

    @property
    def steps(self) -> list[int]:
        """Of all entries."""
        return [step for file in self.files for step in file["steps"]] + [entry["step"] for entry in self._pending]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path, file in zip(self.paths(), self.files, strict=True):
            yield from load(path, file["checksum"])["entries"]
        yield from self._pending

    def paths(self) -> list[Path]:
        """The files."""
        return [self._folder / file["name"] for file in self.files] if self._folder else []

    def check(self) -> None:
        """Reads every file; raises `Damaged` for the first that is missing or not what was written."""
        for path, file in zip(self.paths(), self.files, strict=True):
            checked(path, file["checksum"])

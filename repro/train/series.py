"""Weights kept along training: in memory until the next checkpoint, then in files of their own, each written once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.train.storage import check, load, save

Networks = dict[str, dict[str, Tensor]]
"""Network name to its weights."""

File = dict[str, Any]
"""Name, checksum and steps of a file of entries."""


class Series:
    """Entries `{"step": int, "networks": Networks}` in order of steps; read from disk one file at a time.

    Args:
        name: how the files' names begin.
        folder: where they lie.
        files: what lies there already.
    """

    def __init__(self, name: str, folder: Path | None = None, files: list[File] | None = None) -> None:
        self._name, self._folder, self.files = name, folder, files or []
        self._pending: list[dict[str, Any]] = []

    def append(self, step: int, networks: Networks) -> None:
        """Keeps these weights, which must be a copy."""
        self._pending.append({"step": step, "networks": networks})

    def write(self, folder: Path) -> None:
        """Moves what memory holds to a file.

        Raises:
            OSError: when it cannot be written; nothing is lost from memory.
        """
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
        """Reads every file.

        Raises:
            Damaged: for the first that is missing or not what was written.
        """
        for path, file in zip(self.paths(), self.files, strict=True):
            check(path, file["checksum"])

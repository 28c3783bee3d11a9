"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path("experiments")
ROOT = ROOT if (ROOT / "arms.yaml").is_file() else Path(__file__).parent / ROOT  # as installed: for `fit` in any folder
"""What to run: arms, settings, plans, claims."""

CONFIGS = Path("artifacts/configs")
"""The settings of each run, as prepared."""

STATE, TRAINED = Path("state"), Path("artifacts/runs")
"""Of each run, a folder for each seed: while they train, and when all are done."""

RESULT, NOTE = "result.pt", "progress.json"
"""In the folder of a seed: what its training left, and how far it is."""

_PARTLY, _REPLACED = ".partly-", ".replaced-"
"""How names begin of what is still being written, and of a folder that is being replaced; `sweep` clears up both."""


def write_whole(path: Path, *pieces: bytes | memoryview) -> None:
    """Writes `pieces`, one after another, to `path`, whole after a power failure too: by a rename, synchronised.

    Raises:
        OSError: naming the path, when the folder cannot be written or the disk is full; the old file is kept.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{_PARTLY}{path.name}.")
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        synchronise(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def read_whole(path: Path, most: int = 1 << 31) -> bytes:
    """The content of a file of at most `most` bytes; OSError for none, or a pipe or a device, which might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not path.is_dir():  # to read a folder is an error by itself
        raise OSError(errno.EINVAL, "Is a pipe or a device, not a file", str(path))
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"Is larger than {most:,} bytes", str(path))
    return path.read_bytes()


def partly(place: Path) -> Path:
    """Where a folder is written before it is put at `place`; `sweep` removes what a kill leaves of it."""
    fresh = place.with_name(f"{_PARTLY}{place.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    return fresh


def replace_folder(fresh: Path, place: Path) -> None:
    """Puts the folder `fresh` where `place` is, on one disk; an OSError or a kill between the renames keeps the old."""
    aside = _aside(place)
    for folder in [path for path in fresh.rglob("*") if path.is_dir()] + [fresh]:
        synchronise(folder)  # the names of its files, before anything else is given up for them
    if place.exists():
        shutil.rmtree(aside, ignore_errors=True)
        place.replace(aside)
    try:
        fresh.replace(place)
    except OSError:
        restore_folder(place)
        raise
    synchronise(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_folder(place: Path) -> None:
    """Removes a folder; a kill on the way leaves all of it or nothing under its name."""
    aside = partly(place)
    if place.exists():
        place.replace(aside)
        shutil.rmtree(aside)


def restore_folder(place: Path) -> None:
    """Ends what a killed `replace_folder` began: the old folder comes back unless the new one is there."""
    aside = _aside(place)
    if aside.exists() and not place.exists():
        aside.replace(place)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f"{_REPLACED}{place.name}")


def sweep(folder: Path) -> None:
    """Removes what killed writers left in `folder`, and ends what they began to replace; for its one writer only."""
    for path in folder.glob(f"{_REPLACED}*"):
        restore_folder(path.with_name(path.name.removeprefix(_REPLACED)))
    for path in folder.glob(f"{_PARTLY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def left_behind(folder: Path) -> dict[Path, Path]:
    """Folders that are missing since their writer was killed -> where what is left of each lies; the old one first."""
    found: dict[Path, Path] = {}
    for prefix in (_REPLACED, _PARTLY):
        for aside in sorted(path for path in folder.glob(f"{prefix}*") if path.is_dir()):
            place = aside.with_name(aside.name.removeprefix(prefix))
            if not place.exists():
                found.setdefault(place, aside)
    return found


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, which takes no room; a copy, whole or not at all, where there can be none."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # resolved, since a link to a symbolic link is one itself
    except OSError:
        write_whole(target, source.read_bytes())


def link_to(target: Path, link: Path) -> None:
    """A symbolic link to a file or folder, in the place of what was there; none where both are one."""
    if target.resolve() == link.resolve():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        remove_folder(link)
    fresh = partly(link)
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.resolve())
    fresh.replace(link)


def synchronise(folder: Path) -> None:
    """Makes a rename in `folder` outlive a power failure, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOENT, errno.EACCES}:
            raise


def readable_json(value: Any, margin: str = "") -> str:
    """JSON with a line for each entry of a mapping, and lists on one line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    entries = (f"{margin} {json.dumps(key)}: {readable_json(item, f'{margin} ')}" for key, item in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{margin}}}"


LOCKS = STATE / ".locks"

_PATIENCE = 10.0
"""Seconds in which the workers of a killed process notice that it is gone and let go."""


class Held(RuntimeError):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def only_writer(name: str, what: str) -> Iterator[int]:
    """Holds the lock `name` for the block, and gives the descriptor that holds it.

    Forked workers hold it too, so that a killed process's place is free when the last of them is gone. The file stays,
    empty, when it is released: removing it would let two processes hold two files of one name.

    Raises:
        Held: when another process holds it, unless that process dies within some seconds.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    path, until = LOCKS / f"{name}.lock", time.monotonic() + _PATIENCE
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                there = path.read_text()
            if time.monotonic() > until or _lives(there):
                raise Held(f"{what} is being written by {there or 'another process'}; wait for it, or stop it")
            time.sleep(0.1)
        os.ftruncate(file.fileno(), 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {platform.node()} since {since} ({' '.join(['python', *sys.argv])})"
        with contextlib.suppress(OSError):  # a courtesy, for which a full disk need have no room
            os.write(file.fileno(), holder.encode())
        try:
            yield file.fileno()
        finally:
            os.ftruncate(file.fileno(), 0)


def _lives(holder: str) -> bool:
    """Whether the process that a lock names is there; one of another machine is taken to be."""
    words = holder.split()  # few of them between taking the lock and saying so
    return len(words) > 3 and (words[3] != platform.node() or Path("/proc", words[1]).exists())


def replace_between(text: str, begin: str, end: str, new: str, where: str) -> str:
    """`text` with `new` between two marks; ValueError when these are not there, once each and in order."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{where} must hold the lines {begin!r} and {end!r}, once each and in this order")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{new}\n{end}{rest.split(end)[1]}"


def digest(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def refuse_other_settings(run: str, settings: str) -> None:
    """Raises ValueError where a run's prepared settings are not those of this hash, which its plan was started with."""
    if digest(path := CONFIGS / f"{run}.yaml") != settings:
        raise ValueError(f"{run}: {path} is not as the plan was started with: another plan, or a change of this one, "
                         "has prepared the run anew; start this plan again: repro run")  # fmt: skip


def refuse_path(run: str) -> None:
    """ValueError where a path, such as a shell completes, stands in place of a run's name."""
    if Path(run).name != run:
        raise ValueError(f"{run!r} is no run of a plan: its name is that of a folder, so has no slash")


def unique_name(place: Path) -> str:
    """A folder's name with a hash of its path, for what is kept elsewhere of it: others may be called so too."""
    whole = place.resolve()
    return f"{whole.name}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"


def plan_path(what: str | Path) -> str:
    """The file of a plan that is named; anything else as it is."""
    named = ROOT / "plan" / f"{what}.yaml"
    return str(named if named.is_file() else what)

"""What training saves: its last two checkpoints, to resume from, and its result, for evaluation.

A file is one line of text, `repro-state <format> <bytes> <SHA-256>`, and then nested tensors and plain values in
PyTorch's own format.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.config import Config, decisive
from repro.files import RESULT, link_or_copy, partly, replace_folder, restore_folder, sweep, write_whole

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
    """Entries `{"step": int, "networks": Networks}` in order of steps, read from disk file by file of this name."""

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


# Checkpoints

SERIES = ("snapshots", "late")
"""The weights kept along training; each name is that of their files and of their entry in a checkpoint."""

_KEPT = 2  # checkpoints: if the newest is damaged, training resumes from the one before it


class Refused(ValueError):
    """A state that must not be resumed; the message says why, and how to start anew."""


def made_by(config: Config, seeds: int | Sequence[int], source: Mapping[str, str]) -> dict[str, Any]:
    """What decides the outcome of training, before finetuning: settings, seeds and code."""
    settings = decisive(config)
    del settings["finetune"]
    return {"config": settings, "seeds": seeds, "source": dict(source)}


def write(folder: Path, step: int, content: dict[str, Any], series: Mapping[str, Series]) -> None:
    """Writes the weights that `series` hold in memory, then a checkpoint; removes all but the last two."""
    for one in series.values():
        one.write(folder)
    save(folder / f"checkpoint-{step:09d}.pt", content | {name: one.files for name, one in series.items()})
    for path in _newest_first(folder)[_KEPT:]:
        path.unlink()


def kept_in(folder: Path) -> str:
    """Which state training can resume from, as part of a sentence."""
    newest = _newest_first(folder)[:1]
    return f"the last saved state is kept in {newest[0]}" if newest else "no state has been saved yet"


def newest_readable(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, whatever made it."""
    for path in _newest_first(folder):
        with contextlib.suppress(Damaged, OtherFormat):
            return load(path)
    return None


def refuse_newest(folder: Path, made_by: Mapping[str, Any], remove: Path) -> None:
    """Refuses the newest readable checkpoint, before any work, when other settings, data or code made it."""
    if newest := newest_readable(folder):
        refuse_other(newest, made_by, folder, remove)


def seconds_spent(folder: Path) -> float:
    """Seconds of training behind the newest checkpoint in a folder, over all sessions."""
    return float(sum(one["seconds"] for one in (newest_readable(folder) or {"sessions": []})["sessions"]))


def read(folder: Path, made_by: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint with all its files intact, and its series opened; None if there is no checkpoint.

    Removes what killed writers left. Says so when an older one replaces a damaged one. Refuses one made otherwise.
    """
    if not folder.is_dir():
        return None
    sweep(folder)
    damaged: dict[Path, str] = {}
    for path in _newest_first(folder):
        try:
            content = load(path)
            refuse_other(content, made_by, folder)
            content |= _opened(folder, content)
            for name in SERIES:
                content[name].check()
        except Damaged as error:
            damaged[path] = str(error)
            continue
        except OtherFormat as error:
            raise Refused(f"{error}; check that version out to go on from it, or start anew: rm -r {folder}") from None
        for broken, why in damaged.items():
            say(f"{why}; going on from the checkpoint before it, at step {content['step']}")
            with contextlib.suppress(OSError):
                broken.unlink()
        listed = {path for name in SERIES for path in content[name].paths()}
        for unlisted in {path for name in SERIES for path in folder.glob(f"{name}-*.pt")} - listed:
            unlisted.unlink()  # its writer was killed before the checkpoint
        return content
    if damaged:
        raise Refused(f"no checkpoint in {folder} is intact: {'; '.join(damaged.values())}; "
                      f"restore the files from a copy, or start anew: rm -r {folder}")  # fmt: skip
    return None


def refuse_other(
    content: Mapping[str, Any], made_by: Mapping[str, Any], folder: Path, remove: Path | None = None
) -> None:
    """Refuses a state in `folder` that was made otherwise; to start anew is to remove `remove`, or else the folder."""
    if found := _differences(content["made_by"], made_by):
        last = content["sessions"][-1] if content["sessions"] else {}
        revision = f" (revision {last['revision'][:12]})" if last.get("revision") else ""
        raise Refused(
            f"{folder} holds step {content['step']} of a run made otherwise{revision}: {'; '.join(found)}; "
            f"undo the difference to go on from it, or start anew: rm -r {remove or folder}"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How the session `now` differs from the one `before` it, in words."""
    differing = [key for key in now if key != "revision" and before.get(key, now[key]) != now[key]]
    words = {"processes": f"{now.get('processes')} process{'es' * (now.get('processes', 1) > 1)} instead of"}
    return [f"{words.get(key, f'{key} {now[key]} in place of')} {before[key]}" for key in differing]


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], path: str = "") -> list[str]:
    found = []
    for key in sorted({*there, *here}):
        a, b, name = there.get(key), here.get(key), f"{path}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, "" if name == "config" else f"{name} ")
        elif a != b and path == "source ":
            found.append(f"{key} of the training code differs")
        elif a != b:
            where = "data_hash (data or split)" if key == "data_hash" else name.replace(" ", ".")
            found.append(f"{where} = {_short(a)} there, {_short(b)} here")
    return found


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


@dataclass(frozen=True)
class Result:
    """One trained run, or several stacked."""

    config: dict[str, Any]
    seeds: list[int]
    stacked: bool
    counted: str  # the network whose accuracy is the method's
    environment: dict[str, Any]
    rows: list[dict[str, float]]  # metrics.csv
    snapshots: Series  # the last one is the final state
    late: Series  # with the counted network alone, the last ones of training
    finetuned: dict[str, Tensor]  # empty without finetuning
    made_by: dict[str, Any]  # settings, seeds and code, as in a checkpoint

    def networks(self) -> Networks:
        """The networks at the end of training, and the finetuned one; reads snapshots one by one."""
        last: Networks = {}
        for snapshot in self.snapshots:
            last = dict(snapshot["networks"])
        return last | ({f"{self.counted}_finetuned": self.finetuned} if self.finetuned else {})


def save_result(folder: Path, result: Result) -> None:
    """Writes the result into a run's state folder, with those weights that are not there yet."""
    content: dict[str, Any] = dict(vars(result))
    for name in SERIES:
        content[name].write(folder)
        content[name] = content[name].files
    save(folder / RESULT, content)


def _opened(folder: Path, content: dict[str, Any]) -> dict[str, Series]:
    """The series of a result that was read from `folder`."""
    return {name: Series(name, folder, content[name]) for name in SERIES}


def load_result(folder: Path) -> Result | None:
    """The result in a folder; None where there is none; Damaged or OtherFormat, as `load` says."""
    if not (folder / RESULT).is_file():
        return None
    content = load(folder / RESULT)
    return Result(**content | _opened(folder, content))


def load_results(folder: Path) -> list[Result]:
    """All results of a run, in order of seeds; FileNotFoundError when there is none."""
    found = [result for path in folder.glob("seed*") if (result := load_result(path))]
    if not found:
        raise FileNotFoundError(f"no trained weights in {folder}; train them with: dvc repro train@{folder.name}")
    return sorted(found, key=lambda result: result.seeds)


def is_published(place: Path, made_by: Sequence[dict[str, Any]]) -> bool:
    """Whether `place` holds exactly the results of these `made_by`, intact: also when killed before that was noted."""
    restore_folder(place)
    try:
        found = load_results(place)
        for result in found:
            result.snapshots.check()
            result.late.check()
    except (FileNotFoundError, Damaged, OtherFormat):
        return False
    return [result.made_by for result in found] == list(made_by)


def publish(folders: Iterable[Path], place: Path) -> None:
    """Copies or links the results of all folders to `place`, all or none; the folders stay as they are."""
    restore_folder(place)
    fresh = partly(place)
    for folder in folders:
        link_weights(_opened(folder, load(folder / RESULT)).values(), fresh / folder.name)
        link_or_copy(folder / RESULT, fresh / folder.name / RESULT)
    replace_folder(fresh, place)


def link_weights(weights: Iterable[Series], folder: Path) -> None:
    """Copies or links the files of these series into a new folder; Damaged when one is not what was written."""
    found = list(weights)
    for series in found:
        series.check()
    folder.mkdir(parents=True, exist_ok=True)
    for path in (path for series in found for path in series.paths()):
        link_or_copy(path, folder / path.name)

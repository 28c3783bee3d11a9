"""The folder of one run's state: its last two checkpoints, and the weights kept along the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.config.read import decisive
from repro.config.schema import Config
from repro.files import sweep
from repro.train.series import Series
from repro.train.storage import Damaged, OtherFormat, load, save

SERIES = ("snapshots", "late")
"""The weights kept along training, by the name of their files and of their entry in a checkpoint."""

_KEPT = 2  # checkpoints: when the newest is damaged, the one before it is gone on from


class Refused(ValueError):
    """A state that must not be gone on from; the message says why, and how to start anew."""


def made_by(config: Config, seeds: int | Sequence[int], source: Mapping[str, str]) -> dict[str, Any]:
    """What decides a training, up to its finetuning: settings, seeds and code."""
    settings = decisive(config)
    del settings["finetune"]
    return {"config": settings, "seeds": seeds, "source": dict(source)}


def write(folder: Path, step: int, content: dict[str, Any], series: Mapping[str, Series]) -> None:
    """Saves a checkpoint, first the weights that `series` hold in memory; then removes all but the last two.

    Raises:
        OSError: naming the path, when it cannot be written; the checkpoints before it are kept.
    """
    for one in series.values():
        one.write(folder)
    save(_path(folder, step), content | {name: one.files for name, one in series.items()})
    for path in _newest_first(folder)[_KEPT:]:
        path.unlink()


def kept_in(folder: Path) -> str:
    """What there is to go on from, for a sentence."""
    newest = _newest_first(folder)[:1]
    return f"the last saved state is kept in {newest[0]}" if newest else "no state has been saved yet"


def refuse_newest(folder: Path, made_by: Mapping[str, Any], remove: Path) -> None:
    """Looks at the newest checkpoint that can be read, before any work.

    Raises:
        Refused: when other settings, data or code made it.
    """
    for path in _newest_first(folder):
        with contextlib.suppress(Damaged, OtherFormat):
            refuse_other(load(path), made_by, folder, remove)
            return


def read(folder: Path, made_by: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint whose files are all intact, its series opened; None where there is none at all.

    Args:
        folder: of the state; what killed writers left there is removed.
        made_by: what must be the same for a checkpoint to be gone on from, nested.
        say: told of a damaged checkpoint that an older one stands in for.

    Raises:
        Refused: when other settings, data or code made it, or no checkpoint is intact.
    """
    if not folder.is_dir():
        return None
    sweep(folder)
    damaged: dict[Path, str] = {}
    for path in _newest_first(folder):
        try:
            content = _read(path, made_by)
        except Damaged as error:
            damaged[path] = str(error)
            continue
        except OtherFormat as error:
            raise Refused(f"{error}; check that version out to go on from it, or start anew: rm -r {folder}") from None
        for broken, why in damaged.items():
            say(f"{why}; going on from the checkpoint before it, at step {content['step']}")
            with contextlib.suppress(OSError):
                broken.unlink()
        _remove_unlisted(folder, content)
        return content
    if damaged:
        raise Refused(f"no checkpoint in {folder} is intact: {'; '.join(damaged.values())}; "
                      f"restore the files from a copy, or start anew: rm -r {folder}")  # fmt: skip
    return None


def _read(path: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    content = load(path)
    refuse_other(content, made_by, path.parent)
    for name in SERIES:
        content[name] = Series(name, path.parent, content[name])
        content[name].check()
    return content


def refuse_other(
    content: Mapping[str, Any], made_by: Mapping[str, Any], folder: Path, remove: Path | None = None
) -> None:
    """Compares what made a checkpoint or result with what is running now.

    Args:
        content: of the checkpoint or result.
        made_by: what is running now.
        folder: where it lies.
        remove: what to remove to start anew, if that is more than the folder.

    Raises:
        Refused: naming every difference, and how to go on or start anew.
    """
    found = _differences(content["made_by"], made_by)
    if found:
        last = content["sessions"][-1] if content["sessions"] else {}
        revision = f" (revision {last['revision'][:12]})" if last.get("revision") else ""
        raise Refused(
            f"{folder} holds step {content['step']} of a run made otherwise{revision}: {'; '.join(found)}; "
            f"undo the difference to go on from it, or start anew: rm -r {remove or folder}"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a session runs on that the one before it did not, in words."""
    differing = [key for key in now if key != "revision" and before.get(key, now[key]) != now[key]]
    return [_change(key, before[key], now[key]) for key in differing]


def _change(key: str, before: Any, now: Any) -> str:
    if key == "processes":
        return f"{now} process{'es' if now > 1 else ''} instead of {before}"
    return f"{key} {now} in place of {before}"


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


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:09d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


def _remove_unlisted(folder: Path, content: Mapping[str, Any]) -> None:
    """Weights that a killed writer kept after this checkpoint: they will be kept again."""
    listed = {path for name in SERIES for path in content[name].paths()}
    for name in SERIES:
        for path in folder.glob(f"{name}-*.pt"):
            if path not in listed:
                path.unlink()

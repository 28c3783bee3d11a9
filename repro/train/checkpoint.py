"""What training saves: its last two checkpoints, to resume from, and its result, for evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.config import Config, decisive
from repro.files import link_or_copy, partly, replace_folder, restore_folder, sweep
from repro.train.storage import Damaged, Networks, OtherFormat, Series, load, save

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
    save(_path(folder, step), content | {name: one.files for name, one in series.items()})
    for path in _newest_first(folder)[_KEPT:]:
        path.unlink()


def kept_in(folder: Path) -> str:
    """Which state training can resume from, as part of a sentence."""
    newest = _newest_first(folder)[:1]
    return f"the last saved state is kept in {newest[0]}" if newest else "no state has been saved yet"


def refuse_newest(folder: Path, made_by: Mapping[str, Any], remove: Path) -> None:
    """Refuses the newest readable checkpoint, before any work, when other settings, data or code made it."""
    if newest := _newest_readable(folder):
        refuse_other(newest, made_by, folder, remove)


def seconds_spent(folder: Path) -> float:
    """Seconds of training behind the newest checkpoint in a folder, over all sessions."""
    newest = _newest_readable(folder)
    return float(sum(one["seconds"] for one in newest["sessions"])) if newest else 0.0


def _newest_readable(folder: Path) -> dict[str, Any] | None:
    for path in _newest_first(folder):
        with contextlib.suppress(Damaged, OtherFormat):
            return load(path)
    return None


def read(folder: Path, made_by: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint with all its files intact, and its series opened; None if there is no checkpoint.

    Removes what killed writers left in the folder. Says so when an older checkpoint replaces a damaged one. Refused:
    when other settings, data or code made it, or none is intact.
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
    """Refuses a checkpoint or result in `folder` that was made otherwise than what is running now.

    The error names every difference, and how to resume or to start anew: by removing `remove`, or else the folder.
    """
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


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:09d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


RESULT = "result.pt"


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
    """Whether `place` holds exactly the results of these `made_by`, all intact.

    This is so without any state when a pipeline was killed after training, before it noted that training was done.
    """
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

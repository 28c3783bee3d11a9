"""What a finished training leaves behind for evaluation: artifacts/runs/<run>/<seeds>/."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.files import link_or_copy, partly, replace_folder, restore_folder
from repro.train.checkpoint import SERIES
from repro.train.series import Networks, Series
from repro.train.storage import Damaged, OtherFormat, load, save

_FILE = "result.pt"


@dataclass(frozen=True)
class Result:
    """One trained run, or several stacked."""

    config: dict[str, Any]
    seeds: list[int]
    stacked: bool
    counted: str  # the network whose accuracy is the method's
    environment: dict[str, Any]
    rows: list[dict[str, float]]  # metrics.csv
    snapshots: Iterable[dict[str, Any]]  # {"step", "networks"}, the last one is the final state
    late: Iterable[dict[str, Any]]  # {"step", "networks"} with the counted network alone, the last ones of training
    finetuned: dict[str, Tensor]  # empty without finetuning
    made_by: dict[str, Any]  # settings, seeds and code, as in a checkpoint

    def networks(self) -> Networks:
        """Those at the end of training, and the finetuned one; the weights on the way there are read one by one."""
        last: Networks = {}
        for snapshot in self.snapshots:
            last = dict(snapshot["networks"])
        return last | ({f"{self.counted}_finetuned": self.finetuned} if self.finetuned else {})


def save_result(folder: Path, result: Result) -> None:
    """Writes the result into a run's state folder, where its weights lie already or are written now.

    Raises:
        OSError: naming the path, when it cannot be written.
    """
    content: dict[str, Any] = dict(vars(result))
    for name in SERIES:
        series = _as_series(name, content[name])
        series.write(folder)
        content[name] = series.files
    save(folder / _FILE, content)


def _as_series(name: str, entries: Iterable[dict[str, Any]]) -> Series:
    if isinstance(entries, Series):
        return entries
    series = Series(name)
    for entry in entries:
        series.append(entry["step"], entry["networks"])
    return series


def _opened(folder: Path, content: dict[str, Any]) -> dict[str, Series]:
    """The series of a result that was read from `folder`."""
    return {name: Series(name, folder, content[name]) for name in SERIES}


def load_result(folder: Path) -> Result | None:
    """The result in a folder; None where there is none.

    Raises:
        Damaged: when it is not what was written.
        OtherFormat: when another version wrote it.
    """
    if not (folder / _FILE).is_file():
        return None
    content = load(folder / _FILE)
    return Result(**content | _opened(folder, content))


def load_results(folder: Path) -> list[Result]:
    """All results of a run, in order of seeds.

    Raises:
        FileNotFoundError: when there is none.
        Damaged: when one is not what was written.
        OtherFormat: when another version wrote one.
    """
    found = [result for path in folder.glob("seed*") if (result := load_result(path))]
    if not found:
        raise FileNotFoundError(f"no trained weights in {folder}; train them with: dvc repro train@{folder.name}")
    return sorted(found, key=lambda result: result.seeds)


def is_published(place: Path, made_by: Sequence[dict[str, Any]]) -> bool:
    """Whether `place` holds exactly the results that were made so, all whole.

    They are there, and their state is gone, when a pipeline was killed before it noted that training was done.
    """
    restore_folder(place)
    try:
        found = load_results(place)
        for result in found:
            for name in SERIES:
                _as_series(name, getattr(result, name)).check()
    except (FileNotFoundError, Damaged, OtherFormat):
        return False
    return [result.made_by for result in found] == list(made_by)


def publish(folders: Iterable[Path], place: Path) -> None:
    """Puts the results of all chunks of seeds at `place`, all of them or none; the folders keep what they hold.

    Raises:
        OSError: when the place cannot be written; what was there is kept.
    """
    restore_folder(place)
    fresh = partly(place)
    for folder in folders:
        link_weights(_opened(folder, load(folder / _FILE)).values(), fresh / folder.name)
        link_or_copy(folder / _FILE, fresh / folder.name / _FILE)
    replace_folder(fresh, place)


def link_weights(weights: Iterable[Series], folder: Path) -> None:
    """Puts the files of these series into a new folder too, once all of them are found whole.

    Raises:
        Damaged: when one is not what was written.
    """
    found = list(weights)
    for series in found:
        series.check()
    folder.mkdir(parents=True, exist_ok=True)
    for path in (path for series in found for path in series.paths()):
        link_or_copy(path, folder / path.name)

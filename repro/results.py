"""The shape of results/: the only code that knows it. One folder for each run, one row for each of its R seeds.

results/runs/<run>/
    config.yaml   the resolved settings, the same for all seeds
    seeds.csv     seed; accuracy of each network; seconds, device, versions, revision; hashes of data and record
    metrics.csv   the log: `seed` (or the group of seeds that were trained as one stacked model), step, means
    arrays.npz    predictions.<network> uint8 or uint16 [R, N], top5.<network> [R, N, 5] if classes are more than 10,
                  curve.* along training: curve.step [T], curve.accuracy.<network> [R, T], curve.pseudo_label_wrong,
                  curve.wrong_stays, curve.late_step [L], curve.late_accuracy [R, L]; boundary.* of two moons
results/unfinished/   seeds of runs whose other planned seeds are not trained yet, in the same form; nothing judges them
results/labels/   test labels of data sets that are not shipped with the project
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml

from repro.config import decisive, read_config
from repro.files import left_behind, partly, read_whole, replace_folder, write_whole
from repro.settings import ConfigError, parse_yaml

RUNS = Path("results/runs")
LABELS = Path("results/labels")

TOP = 5
"""So many of the likeliest classes of an example are recorded where there are more than ten."""

_Content = TypeVar("_Content")
_SHARED = ("curve.step", "curve.late_step", "boundary.")
"""Arrays without a seed axis, by the beginnings of their names."""
_MOST_BYTES = 1 << 31
"""Of all arrays of a run: ten seeds on ImageNet's validation images take a hundredth."""
_DIGITS = ".6g"
"""Of the log's numbers."""
_NUMBERS = ("seconds", "test_in_training", "other_label")
"""Columns of seeds.csv that are numbers, besides the accuracies."""


class RecordError(ValueError):
    """A record that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class Run:
    """What is recorded of one run. Row i of `seeds` and of every array with a seed axis is the same seed."""

    name: str
    config: dict[str, Any]  # resolved settings
    seeds: pd.DataFrame  # index: seed; `group`, `accuracy.<network>`, seconds, device, versions, revision, hashes
    metrics: pd.DataFrame  # `seed`: the group, as text; `step`; means over `log_every` steps
    arrays: dict[str, np.ndarray]

    @property
    def networks(self) -> list[str]:
        """Those with predictions."""
        return [name.removeprefix("predictions.") for name in self.arrays if name.startswith("predictions.")]

    def predictions(self, network: str) -> np.ndarray:
        """Predicted classes, uint8 or uint16 [R, N]."""
        return self.arrays[f"predictions.{network}"]

    def groups(self) -> dict[str, list[int]]:
        """The seeds that were trained together, by the name of their group: a single one, unless stacked."""
        found: dict[str, list[int]] = {}
        for seed, group in self.seeds["group"].items():
            found.setdefault(str(group), []).append(int(str(seed)))
        return found

    def rows(self, seeds: Iterable[int]) -> list[int]:
        """Positions of these seeds on the seed axis."""
        place = {int(str(seed)): row for row, seed in enumerate(self.seeds.index)}
        return [place[seed] for seed in seeds]


def has_seed_axis(name: str) -> bool:
    """Whether an array of a run has one row for each seed."""
    return not name.startswith(_SHARED)


def has_top5(classes: int) -> bool:
    """Whether the five likeliest of so many classes are recorded: among ten, half of all guesses would be right."""
    return classes > 10


def accuracies(classes: np.ndarray, labels: np.ndarray) -> list[float]:
    """Share of correct predictions for each row of uint8 or uint16 [R, N] against int64 [R, N]."""
    return [float(share) for share in (classes == labels).mean(axis=1)]


def in_top5(likeliest: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which labels [..., N] are among the classes [..., N, 5] of their example: bool [..., N]."""
    found: np.ndarray = (likeliest == labels[..., None]).any(axis=-1)
    return found


def settings_of(run: Run) -> dict[str, Any]:
    """Those that decide what one seed of the run computes, whatever plan it is of and however it was executed."""
    try:
        found = decisive(read_config(run.config))
    except ConfigError:
        found = run.config
    return {key: value for key, value in found.items() if key not in {"title", "data_hash", "planned_seeds"}}


def predictions_hash(predictions: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the networks' names, in order, and their predicted classes: shapes, types and bytes."""
    digest = hashlib.sha256()
    for network in sorted(predictions):
        array = np.ascontiguousarray(predictions[network])
        digest.update(f"{network}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def record_hashes(run: Run) -> dict[str, str]:
    """For each group of seeds, SHA-256 over all that is recorded: settings, rows, log and arrays, shared ones too.

    Where the group stands in the files, and what other groups are beside it, changes nothing.
    """
    config = json.dumps(run.config, sort_keys=True).encode()
    table = run.seeds.drop(columns="record_hash", errors="ignore")
    rows = dict(zip(table.index.tolist(), table.to_dict("records"), strict=True))
    logs, found = dict([*run.metrics.groupby("seed")]), {}
    for group, seeds in run.groups().items():
        digest = hashlib.sha256(config)
        for seed in seeds:
            known = {key: value for key, value in rows[seed].items() if not (value != value or value == "")}  # noqa: PLR0124
            digest.update(json.dumps([seed, known], sort_keys=True).encode())
        log = logs.get(group, run.metrics[:0])
        columns = sorted(log.columns.drop("seed"))
        numbers = log[columns].to_numpy(np.float64)
        there = ~np.isnan(numbers).all(axis=0)
        digest.update(json.dumps([*np.array(columns)[there]]).encode())
        numbers, place = numbers[:, there], run.rows(seeds)
        arrays = {"log": np.where(np.isnan(numbers), np.nan, numbers)}  # one NaN of many
        arrays |= {name: array[place] if has_seed_axis(name) else array for name, array in sorted(run.arrays.items())}
        for name, array in arrays.items():
            digest.update(f"{name}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        found[group] = digest.hexdigest()
    return found


def with_record_hashes(run: Run) -> Run:
    """The run with its log as it is written, and each seed with the hash of all that is recorded of it."""
    as_written = {str(name): column.map(lambda value: float(f"{value:{_DIGITS}}"))
                  for name, column in run.metrics.items() if column.dtype.kind == "f"}  # fmt: skip
    run = replace(run, metrics=run.metrics.assign(**as_written))
    return replace(run, seeds=run.seeds.assign(record_hash=run.seeds["group"].astype(str).map(record_hashes(run))))


def joined(runs: Sequence[Run]) -> Run:
    """Seeds of one run that were recorded apart, in order; ValueError where they do not fit, or one is there twice."""
    first = runs[0]
    seeds = pd.concat([run.seeds for run in runs])
    twice = sorted(seeds.index[seeds.index.duplicated()])
    if twice:
        raise ValueError(f"{first.name}: seed {twice[0]} is there twice; remove one of the two records")
    steps = [name for name in first.arrays if name.startswith("curve.") and not has_seed_axis(name)]
    for run in runs[1:]:
        alike = (run.name, run.config) == (first.name, first.config) and run.arrays.keys() == first.arrays.keys()
        if not alike or not all(np.array_equal(run.arrays[name], first.arrays[name]) for name in steps):
            raise ValueError(f"{first.name}: its seeds were recorded with different settings, networks or steps; "
                             "train and evaluate a plan that has the run again")  # fmt: skip
    order = np.argsort(seeds.index.to_numpy(), kind="stable")
    arrays = {
        name: np.concatenate([run.arrays[name] for run in runs])[order] if has_seed_axis(name) else array
        for name, array in first.arrays.items()
    }
    metrics = pd.concat([run.metrics for run in runs], ignore_index=True)
    return replace(first, seeds=seeds.iloc[order], metrics=metrics, arrays=arrays)


def write_run(run: Run, root: Path = RUNS) -> Path:
    """Writes all that is recorded of a run in place of what was there, whole or not at all; returns its folder."""
    place = root / run.name
    fresh = partly(place)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **run.arrays)
    contents = {
        "config.yaml": yaml.safe_dump(run.config, sort_keys=False).encode(),
        "seeds.csv": run.seeds.to_csv(lineterminator="\n").encode(),
        "metrics.csv": run.metrics.to_csv(float_format=f"%{_DIGITS}", index=False, lineterminator="\n").encode(),
        "arrays.npz": buffer.getvalue(),
    }
    fresh.mkdir(parents=True)
    for name, content in contents.items():
        write_whole(fresh / name, content)
    replace_folder(fresh, place)
    return place


def read_run(folder: Path) -> Run:
    """Reads a run folder; RecordError when a file is missing or damaged, or the files are not of the same seeds."""
    remedy = f"take it back: git checkout -- {folder}, or train and evaluate a plan that has it again"

    def part(name: str, parse: Callable[[bytes], _Content]) -> _Content:
        return read_record(folder / name, parse, remedy)

    run = Run(
        name=folder.name,
        config=part("config.yaml", _mapping),
        seeds=part("seeds.csv", _seeds),
        metrics=part("metrics.csv", _log),
        arrays=part("arrays.npz", arrays_of),
    )
    for problem in _misshapen(run):
        raise RecordError(f"{folder / 'arrays.npz'}: {problem}; {remedy}")
    return run


def steps_of(curve: str) -> str:
    """The array with the steps of a curve."""
    return "curve.late_step" if curve == "curve.late_accuracy" else "curve.step"


def _misshapen(run: Run) -> Iterator[str]:
    """Arrays that are not of the form that the module names at its head."""
    steps = {name: array for name, array in run.arrays.items() if name in {"curve.step", "curve.late_step"}}
    for name, array in steps.items():
        if array.ndim != 1 or array.dtype.kind not in "ui":
            yield f"{name} {array.dtype} {list(array.shape)} is no list of steps"
            return
    for name, array in run.arrays.items():
        if not has_seed_axis(name):
            continue
        if array.ndim == 0 or len(array) != len(run.seeds):
            yield f"{name} has not one row for each of {len(run.seeds)} seeds"
        elif name.startswith("predictions.") and (array.ndim != 2 or array.dtype.kind != "u"):
            yield f"{name} {array.dtype} {list(array.shape)} holds no classes of test examples"
        elif name.startswith("curve."):
            axis = steps.get(steps_of(name), np.empty(0))
            if array.shape[1:] != axis.shape:
                yield f"{name} has shape {list(array.shape)}, but there are {len(axis)} steps"


def read_runs(root: Path = RUNS) -> dict[str, Run]:
    """All recorded runs by name; RecordError for one that is damaged, no folder, or missing since a kill."""
    for place, aside in left_behind(root).items():
        raise RecordError(f"{place} is missing: its writer was killed; evaluate it again: repro evaluate {place.name}; "
                          f"or put back what is left, if it is whole: mv {aside} {place}")  # fmt: skip
    places = sorted(root.glob("[!.]*"))
    for place in places:
        if not place.is_dir():
            raise RecordError(f"{place} is no folder of a run; remove it")
    return {place.name: read_run(place) for place in places}


def read_record(path: Path, parse: Callable[[bytes], _Content], remedy: str) -> _Content:
    """What `parse` makes of a file's content; RecordError for none, or none that it takes."""
    try:
        content = read_whole(path)
    except FileNotFoundError:
        raise RecordError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be opened ({error.strerror}); {remedy}") from error
    try:
        return parse(content)
    except Exception as error:  # each format has errors of its own for a damaged file, and they speak to programmers
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise RecordError(f"{path} is not what was recorded ({said[:120]}); {remedy}") from error


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without pickles; an error where they are not numbers, or take more than 2 GiB."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        if sum(member.file_size for member in packed.infolist()) > _MOST_BYTES:
            raise ValueError(f"its arrays take more than {_MOST_BYTES:,} bytes")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        found = {key: arrays[key] for key in arrays.files}
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
            raise TypeError(f"{name} is no array of numbers")
    return found


def _mapping(content: bytes) -> dict[str, Any]:
    found = parse_yaml(content)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise TypeError("no mapping of settings")
    json.dumps(found, sort_keys=True)  # as its hash takes it: no dates, sets or keys that are not text
    return found


def _seeds(content: bytes) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    if missing := sorted({"seed", "group"} - set(table)):
        raise ValueError(f"no column {missing[0]}")
    if not len(table):
        raise ValueError("no seed")
    if not table["seed"].str.fullmatch("0|[1-9][0-9]{0,8}").all():
        raise ValueError("no whole numbers as seeds")
    return seeds_table(table.assign(seed=table["seed"].astype(int)).set_index("seed"))


def _log(content: bytes) -> pd.DataFrame:
    """Read as text, since not every version of pandas reads a number to its last bit."""
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    if missing := sorted({"seed", "step"} - set(table)):
        raise ValueError(f"the log has no column {missing[0]}")
    numbers = table.drop(columns=["seed", "step"]).replace("", np.nan).astype(float)
    return pd.concat([table["seed"], table["step"].astype(int), numbers], axis=1)[[*table.columns]]


def seeds_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by seed, in the types of a record: shares, seconds and counts are numbers, all else is text."""

    def typed(column: pd.Series[Any]) -> pd.Series[Any]:
        if str(column.name).startswith(("accuracy.", "top5.")) or column.name in _NUMBERS:
            return column.replace("", np.nan).astype(float)
        return column.map(lambda value: "" if pd.isna(value) else str(value))

    return rows.apply(typed)

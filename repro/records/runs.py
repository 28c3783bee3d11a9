"""Run folders: results/runs/<run>/seed-<n>/, or seeds-<a>-<b>/ for seeds trained as one stacked model.

config.yaml        resolved settings          predictions.npz   uint8 or uint16 [R, N] for each network
environment.json   revision, versions, device evaluation.json   accuracy by network and seed; data hashes
metrics.csv        one row every log_every    curve.npz         along training, see EvaluatedRun.curve
                                              boundary.npz      two moons only
                                              top5.npz          [R, N, 5] for each network, if classes are more than 10
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml

from repro.evaluate.run import EvaluatedRun
from repro.files import partly, replace_folder, write_whole
from repro.seeding import seeds_label

RUNS = Path("results/runs")

_REPLACED = ".replaced-"  # how `repro.files.replace_folder` names the old folder between its two renames
_Content = TypeVar("_Content")
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of hundreds of folders: ten times as fast in C


class RecordError(ValueError):
    """A record that cannot be read; the message names the file and the remedy."""


def replace_run(folders: Sequence[EvaluatedRun], root: Path = RUNS) -> Path:
    """Writes all folders of one run in place of what was recorded of it, whole or not at all.

    Raises:
        OSError: when the place cannot be written; the old record is kept.
    """
    place = root / folders[0].name
    fresh = partly(place)
    try:
        for run in folders:
            folder = fresh / seeds_label(run.seeds)
            folder.mkdir(parents=True)
            _fill(folder, run)
        replace_folder(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def _fill(folder: Path, run: EvaluatedRun) -> None:
    evaluation = {"seeds": run.seeds, "counted": run.counted, "accuracy": run.accuracy, "data": run.data}
    if run.top5_accuracy:
        evaluation["top5"] = run.top5_accuracy
    texts = {
        "config.yaml": yaml.safe_dump(run.config, sort_keys=False),
        "environment.json": _json(run.environment),
        "metrics.csv": run.metrics.to_csv(index=False, float_format="%.6g"),
        "evaluation.json": _json(evaluation),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    _save_arrays(folder / "predictions.npz", run.predictions)
    _save_arrays(folder / "curve.npz", run.curve)
    for name, arrays in {"boundary.npz": run.boundary, "top5.npz": run.top5}.items():
        if arrays:
            _save_arrays(folder / name, arrays)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1) + "\n"


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{key.replace("/", "."): value for key, value in arrays.items()})
    write_whole(path, buffer.getvalue())


def read_run(folder: Path) -> EvaluatedRun:
    """Reads a run folder.

    Raises:
        RecordError: when a file is missing or damaged.
    """
    remedy = f"take it back: git checkout -- {folder}, or train and evaluate a plan that has the run again"

    def part(name: str, parse: Callable[[bytes], _Content]) -> _Content:
        return read_record(folder / name, parse, remedy)

    evaluation = part("evaluation.json", _evaluation)
    return EvaluatedRun(
        name=folder.parent.name,
        seeds=evaluation["seeds"],
        config=part("config.yaml", lambda text: dict(yaml.load(text, _SafeLoader))),  # noqa: S506 - it is the safe one
        counted=evaluation["counted"],
        predictions=part("predictions.npz", _arrays),
        accuracy=evaluation["accuracy"],
        data=evaluation["data"],
        environment=part("environment.json", json.loads),
        metrics=part("metrics.csv", lambda text: pd.read_csv(io.BytesIO(text))),
        curve=part("curve.npz", _arrays),
        boundary=part("boundary.npz", _arrays) if (folder / "boundary.npz").exists() else {},
        top5=part("top5.npz", _arrays) if evaluation["top5"] else {},
        top5_accuracy=evaluation["top5"],
    )


def read_record(path: Path, parse: Callable[[bytes], _Content], remedy: str) -> _Content:
    """What `parse` makes of a file's content.

    Raises:
        RecordError: when the file is missing, cannot be opened, or is none that `parse` takes.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be opened ({error.strerror}); {remedy}") from error
    try:
        return parse(content)
    except Exception as error:  # each format has errors of its own for a damaged file, and they speak to programmers
        raise RecordError(f"{path} is not what was recorded; {remedy}") from error


def _evaluation(text: bytes) -> dict[str, Any]:
    content = json.loads(text)
    return {key: content[key] for key in ("seeds", "counted", "accuracy", "data")} | {"top5": content.get("top5", {})}


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key.replace(".", "/"): arrays[key] for key in arrays.files}


def read_runs(root: Path = RUNS) -> dict[str, list[EvaluatedRun]]:
    """All recorded runs by name, each with its folders in order of seeds.

    Raises:
        RecordError: when a folder is damaged, or is missing since an evaluation was killed as it replaced it.
    """
    for aside in root.glob(f"{_REPLACED}*"):
        place = root / aside.name.removeprefix(_REPLACED)
        if not place.exists():
            raise RecordError(f"{place} is missing: an evaluation was interrupted; "
                              "run it again: python -m repro.evaluate.evaluate")  # fmt: skip
    found: dict[str, list[EvaluatedRun]] = {}
    for folder in sorted(root.glob("[!.]*/seed*")):
        run = read_run(folder)
        found.setdefault(run.name, []).append(run)
    return {name: sorted(runs, key=lambda run: run.seeds) for name, runs in sorted(found.items())}

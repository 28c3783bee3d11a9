"""A plan that is given more seeds: those that are trained already stay, and only the new ones train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from repro.cli.chunk import Job
from repro.config.compose import parse_seeds
from repro.config.read import as_mapping, read_config
from repro.data import source_of
from repro.files import partly, replace_folder
from repro.seeding import seeds_label
from repro.train.checkpoint import SERIES
from repro.train.result import Result, link_weights, load_result, save_result
from repro.train.storage import Damaged, OtherFormat


def take_over(job: Job, chunks: Sequence[list[int]], trained: Path, say: Callable[[str], object]) -> None:
    """Puts what an earlier plan trained of these seeds, in just this way, where training looks for what is done.

    Each result is given the settings of the new plan, which differ in the list of seeds and in what decides nothing.
    Whether somebody had seen results before seeds were added is for the record to say: `repro.records.seen`.

    Args:
        job: the run, with all its seeds.
        chunks: of the seeds, as they train together; a stack of other seeds is trained again.
        trained: the folder of the run's results.
        say: told which seeds stay, and why others with a result do not.
    """
    kept = []
    for chunk in chunks:
        folder, label = job.folder(chunk), seeds_label(chunk)
        if folder.exists() or not (trained / label).is_dir():
            continue  # its training is under way, or was never done
        try:
            found = load_result(trained / label)
            why = _otherwise(found, job, chunk) if found else "has no result"
            if not found or why:
                say(f"{job.name}: {label} is trained again: what is there {why}")
                continue
            _link(found, job, chunk)
        except (Damaged, OtherFormat) as error:
            say(f"{job.name}: {label} is trained again: {error}")
            continue
        kept.append(label)
    if kept:
        say(f"{job.name}: {', '.join(kept)} trained already by a plan of fewer seeds, and kept")


def _otherwise(found: Result, job: Job, chunk: list[int]) -> str:
    """In what it differs from what the new plan would train; empty where it is the list of seeds alone."""
    there, here = (_but_for_seeds(made_by) for made_by in (found.made_by, job.made_by(chunk)))
    if there["source"] != here["source"]:
        return "was trained by other code"
    if there != here:
        return "has other settings"
    before, now = str(found.config.get("planned_seeds", "")), job.config.planned_seeds
    if not (before and now and set(parse_seeds(before)) <= set(parse_seeds(now))):
        return f"is of a plan of seeds {before or 'that it does not name'}, of which not all are planned now"
    if source_of(read_config(found.config).data).training_hash(parse_seeds(before)) != found.config["data_hash"]:
        return "was trained on other data"
    return ""


def _but_for_seeds(made_by: Mapping[str, Any]) -> dict[str, Any]:
    rest = deepcopy(dict(made_by))
    for key in ("planned_seeds", "data_hash"):
        rest["config"].pop(key, None)
    return rest


def _link(found: Result, job: Job, chunk: list[int]) -> None:
    """Whole or not at all.

    Raises:
        Damaged: when a file of weights is not what was written.
    """
    folder = job.folder(chunk)
    fresh = partly(folder)
    link_weights((getattr(found, name) for name in SERIES), fresh)
    save_result(fresh, replace(found, config=as_mapping(job.config), made_by=job.made_by(chunk)))
    replace_folder(fresh, folder)

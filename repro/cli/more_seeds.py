"""A plan that is given more seeds: those that are trained already stay, and only the new ones train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from repro.cli.chunk import Job
from repro.config.compose import parse_seeds
from repro.config.read import as_mapping, read_config
from repro.data.training import training_hash
from repro.files import link_or_copy, partly, replace_folder
from repro.seeding import seeds_label
from repro.train.checkpoint import SERIES
from repro.train.result import Result, load_result, save_result
from repro.train.storage import Damaged, OtherFormat

_OF_ALL_SEEDS = ("planned_seeds", "data_hash")
"""Settings that are others when only the list of seeds is."""


def take_over(job: Job, chunks: Sequence[list[int]], trained: Path, say: Callable[[str], object]) -> None:
    """Puts what an earlier plan trained of these seeds, in just this way, where training looks for what is done.

    Each result is told the seeds of the new plan, and keeps those of the earlier one as `planned_before` in its
    environment: whoever adds seeds has seen the first ones, and the report says so.

    Args:
        job: the run, with all its seeds.
        chunks: of the seeds, as they train together.
        trained: the folder of the run's results.
        say: told which seeds stay.
    """
    kept = []
    for chunk in chunks:
        place, folder = trained / seeds_label(chunk), job.folder(chunk)
        if folder.exists():
            continue  # its training is under way
        found = _whole_result(place)
        if found is None or not _differs_in_seeds_alone(found, job, chunk):
            continue
        fresh = partly(folder)
        fresh.mkdir(parents=True)
        for path in (path for name in SERIES for path in getattr(found, name).paths()):
            link_or_copy(path, fresh / path.name)
        before = [*found.environment.get("planned_before", []), found.config["planned_seeds"]]
        environment = found.environment | {"planned_before": before}
        now = replace(found, config=as_mapping(job.config), made_by=job.made_by(chunk), environment=environment)
        save_result(fresh, now)
        replace_folder(fresh, folder)
        kept.append(seeds_label(chunk))
    if kept:
        say(f"{job.name}: {', '.join(kept)} trained already by a plan of fewer seeds, and kept")


def _whole_result(place: Path) -> Result | None:
    try:
        found = load_result(place)
        for name in SERIES if found else ():
            getattr(found, name).check()
    except (Damaged, OtherFormat):
        return None
    return found


def _differs_in_seeds_alone(found: Result, job: Job, chunk: list[int]) -> bool:
    """Whether the same settings, code and data made it, for some of the seeds that are planned now."""
    before = str(found.config.get("planned_seeds", ""))
    if not before or not set(parse_seeds(before)) < set(parse_seeds(job.config.planned_seeds)):
        return False
    if _but_for_seeds(found.made_by) != _but_for_seeds(job.made_by(chunk)):
        return False
    was: str = training_hash(read_config(found.config).data, parse_seeds(before))
    return was == str(found.config["data_hash"])


def _but_for_seeds(made_by: dict[str, Any]) -> dict[str, Any]:
    rest = deepcopy(made_by)
    for key in _OF_ALL_SEEDS:
        rest["config"].pop(key, None)
    return rest

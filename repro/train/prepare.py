"""Composes every run of the chosen plan and prepares its data.

Writes artifacts/configs/<run>.yaml (settings, with the hash of the data) and artifacts/data/. A run is trained again
only when its resolved configuration changes, or a file of the code of its data set or method: the hashes of these files
stand below the settings, as a comment.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yaml.cyaml import CSafeDumper

from repro.config import Config, as_mapping, checked, departures
from repro.data import source_of
from repro.data.sets import PLACE
from repro.engine.device import choose_device
from repro.files import CONFIGS, RESULT, STATE, TRAINED, digest, write_whole
from repro.methods import method_of
from repro.plan import compose_planned, read_plan
from repro.seeding import seeds_listed
from repro.settings import ConfigError, parse_seeds
from repro.train.batches import refuse_to_share
from repro.train.job import hash_of, is_finished, jobs_of, revision, source_hashes, take_over
from repro.train.launch import finished_already

_PACKAGE = Path(__file__).parents[1]
_ROOMS = (("repro", "data"), ("repro", "methods"))


def prepare(path: Path, gpus: bool | None = None, processes: int = 1) -> dict[str, Config]:
    """Composes and checks all runs of a plan before it writes anything; returns run -> settings.

    The plan trains here, or as jobs of a cluster, with or without `gpus`; so many `processes` share each batch.
    """
    whole = read_plan(path)
    if whole.needs_gpu and gpus is False:
        raise ConfigError(f"plan {whole.name} needs a GPU, and --slurm asks for none; add gpus=1")
    if whole.needs_gpu and gpus is None and choose_device().type == "cpu":
        raise ConfigError(
            f"plan {whole.name} needs a GPU, and PyTorch finds none here; start it where there is one; what it would "
            f"take here: repro plan {path}; a plan for a CPU: make reproduce PLAN=quick"
        )
    plan = whole.runs
    configs = with_prepared_data([compose_planned(planned, path) for planned in plan])
    for planned, config in zip(plan, configs, strict=True):
        try:
            refuse_to_share(config, processes, config.budget.unlabelled_batch)
        except ConfigError as error:
            raise ConfigError(f"{planned.name}: {error}") from None
    for folder in (CONFIGS, PLACE):
        folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    prepared: dict[str, Config] = {}
    for planned, config in zip(plan, configs, strict=True):
        source = source_of(config.data)
        key = f"{source.key}{source.split_settings()}{planned.seeds}"
        if key not in hashes:
            hashes[key] = source.training_hash(planned.seeds)
        prepared[planned.name] = one = replace(
            config, data=source.recorded(), data_hash=hashes[key], planned_seeds=seeds_listed(planned.seeds)
        )
        made = made_of(type(source).__module__, method_of(config.method).__name__)
        code = "".join(f"#   {part} {digest(_PACKAGE.parent / part)}\n" for part in made)
        text = yaml.dump(as_mapping(one), Dumper=CSafeDumper, sort_keys=False)
        content, place = f"{text}# data set and method are made of\n{code}".encode(), CONFIGS / f"{planned.name}.yaml"
        if not place.is_file() or place.read_bytes() != content:  # a job of the same plan may be reading it
            write_whole(place, content)
        settled = [d for d in departures(config) if not d.open]
        print(f"{planned.name}: {len(planned.seeds)} seeds, {config.budget.steps} steps, recipe {config.recipe.name}, "
              f"{len(settled)} departures from it")  # fmt: skip
    return prepared


def lay_out(path: Path, gpus: bool | None = None, processes: int = 1) -> dict[str, Any]:
    """Prepares a plan; returns its revision, the hash of its code, and what each run trains in which folders."""
    runs = {}
    for name, config in prepare(path, gpus, processes).items():
        jobs = jobs_of(name, config, STATE / name, parse_seeds(config.planned_seeds))
        finished = finished_already(jobs, [])
        if not finished:
            take_over(jobs, TRAINED / name)
            for job in jobs:
                if (job.folder / RESULT).is_file() and not is_finished(job, print):
                    (job.folder / RESULT).unlink()  # damaged
        others = not finished and (TRAINED / name).is_dir()
        runs[name] = {
            "seeds": config.planned_seeds,
            "jobs": {job.folder.name: seeds_listed(job.seeds) for job in jobs},
            "steps": config.budget.steps,
            "workers": config.budget.workers,
            "settings": digest(CONFIGS / f"{name}.yaml"),
            "before": (TRAINED / name).stat().st_mtime_ns if others else 0,  # of results of another plan
        }
    return {"code": hash_of(source_hashes()), "revision": revision(), "runs": runs}


@cache
def made_of(*modules: str) -> list[str]:
    """The files of these modules and of their imports from repro.data and repro.methods: repro/data/toys.py, ..."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        path = Path(*waiting.pop().split(".")).with_suffix(".py")
        if path.parts[:2] not in _ROOMS or str(path) in found or not (_PACKAGE.parent / path).is_file():
            continue
        found.add(str(path))
        for node in ast.walk(ast.parse((_PACKAGE.parent / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return sorted(found)


def with_prepared_data(configs: Sequence[Config], prepared: set[tuple[str, ...]] | None = None) -> list[Config]:
    """The settings, completed by what only the data can tell; each source is prepared once, if not in `prepared`."""
    sources, prepared = [source_of(config.data) for config in configs], set() if prepared is None else prepared
    for source in sources:
        if source.key not in prepared:
            source.prepare()
            prepared.add(source.key)
    return [checked(replace(config, data=source.settled())) for config, source in zip(configs, sources, strict=True)]

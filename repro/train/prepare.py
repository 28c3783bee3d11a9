"""Composes every run of the chosen plan and prepares its data.

Leaves artifacts/configs/<run>.yaml (settings, with the hash of the data) and artifacts/data/ (data, splits). A run is
trained again only when its resolved configuration changes, whichever file the change was made in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from repro.config import Config, as_mapping, checked, departures
from repro.data import source_of
from repro.data.sets import PLACE
from repro.engine.device import choose_device
from repro.plan import compose_planned, read_plan
from repro.seeding import seeds_listed
from repro.settings import ConfigError

CONFIGS = Path("artifacts/configs")


def prepare(path: Path) -> None:
    """Composes and checks all runs of a plan before anything is written."""
    whole = read_plan(path)
    if whole.needs_gpu and choose_device().type == "cpu":
        raise ConfigError(
            f"plan {whole.name} needs a GPU, and PyTorch finds none here; start it where there is one; what it would "
            f"take here: repro plan {path}; a plan for a CPU: make reproduce PLAN=quick"
        )
    plan = whole.runs
    configs = with_prepared_data([compose_planned(planned, path) for planned in plan])
    for folder in (CONFIGS, PLACE / "splits"):
        folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    for planned, config in zip(plan, configs, strict=True):
        source = source_of(config.data)
        key = f"{source.key}{source.split_settings()}{planned.seeds}"
        if key not in hashes:
            hashes[key] = source.training_hash(planned.seeds)
            (PLACE / "splits" / f"{config.data.name}-{hashes[key][:12]}.json").write_text(
                source.describe_split(planned.seeds)
            )
        resolved = as_mapping(
            replace(config, data=source.recorded(), data_hash=hashes[key], planned_seeds=seeds_listed(planned.seeds))
        )
        (CONFIGS / f"{planned.name}.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
        settled = [d for d in departures(config) if not d.open]
        print(f"{planned.name}: {len(planned.seeds)} seeds, {config.budget.steps} steps, recipe {config.recipe.name}, "
              f"{len(settled)} departures from it")  # fmt: skip


def with_prepared_data(configs: Sequence[Config]) -> list[Config]:
    """The same settings, with what only the data can tell; each source is prepared once."""
    sources = [source_of(config.data) for config in configs]
    first = {source.key: source for source in reversed(sources)}
    for key in dict.fromkeys(source.key for source in sources):
        first[key].prepare()
    return [checked(replace(config, data=source.settled())) for config, source in zip(configs, sources, strict=True)]

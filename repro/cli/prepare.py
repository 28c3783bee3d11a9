"""Composes every run of the chosen plan and prepares its data.

Leaves artifacts/configs/<run>.yaml (settings, with the hash of the data) and artifacts/data/ (data, splits). A run is
trained again only when its resolved configuration changes, whichever file the change was made in.

    python -m repro.cli.prepare [--plan params.yaml]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from repro.cli.entry import run
from repro.config.compose import compose_planned, read_whole_plan
from repro.config.data import Cifar10Data, Data
from repro.config.departures import departures
from repro.config.read import ConfigError, as_mapping, checked
from repro.config.schema import Config
from repro.data.training import describe_split, prepare, settled, source, split_settings, training_hash
from repro.engine.device import choose_device
from repro.seeding import seeds_listed

CONFIGS = Path("artifacts/configs")
DATA = Path("artifacts/data")


def main() -> None:
    """Composes and checks all runs before anything is written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=Path("params.yaml"), help="the plan file (default: params.yaml)")
    path = parser.parse_args().plan
    whole = read_whole_plan(path)
    if whole.needs_gpu and choose_device().type == "cpu":
        raise ConfigError(f"plan {whole.name} needs a GPU, and PyTorch finds none here; what it would cost: "
                          "python -m repro.cli.cost; a plan for a CPU: make reproduce PLAN=quick")  # fmt: skip
    plan = whole.runs
    configs = _with_prepared_data([compose_planned(planned, path) for planned in plan])
    for folder in (CONFIGS, DATA / "splits"):
        folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    for planned, config in zip(plan, configs, strict=True):
        key = f"{split_settings(config.data)}{planned.seeds}"
        if key not in hashes:
            hashes[key] = training_hash(config.data, planned.seeds)
            (DATA / "splits" / f"{config.data.name}-{hashes[key][:12]}.json").write_text(
                describe_split(config.data, planned.seeds)
            )
        resolved = as_mapping(
            replace(
                config, data=_recorded(config.data), data_hash=hashes[key], planned_seeds=seeds_listed(planned.seeds)
            )
        )
        (CONFIGS / f"{planned.name}.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
        settled = [d for d in departures(config) if not d.open]
        print(f"{planned.name}: {len(planned.seeds)} seeds, {config.budget.steps} steps, recipe {config.recipe.name}, "
              f"{len(settled)} departures from it")  # fmt: skip


def _with_prepared_data(configs: Sequence[Config]) -> list[Config]:
    """The same settings, with what only the data can tell; each source is prepared once."""
    first = {source(config.data): config.data for config in reversed(configs)}
    for key in dict.fromkeys(source(config.data) for config in configs):
        prepare(first[key], DATA)
    return [checked(replace(config, data=settled(config.data))) for config in configs]


def _recorded(data: Data) -> Data:
    """What a run depends on: the data themselves, not where this machine had their files."""
    return replace(data, root=Cifar10Data.root) if isinstance(data, Cifar10Data) else data


if __name__ == "__main__":
    run(main)

"""Composes an experiment from the files in experiments/ with Hydra. Training reads the result and needs no Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repro.config.departures import departures
from repro.config.read import ConfigError, as_mapping, checked, closest, read_config, read_yaml
from repro.config.schema import Config
from repro.config.shorten import shortened

ROOT = Path("experiments")

_PARTS, _ENTRY = {"runs", "overrides", "needs"}, {"seeds", "experiment", "overrides"}  # of a plan, and of its runs
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_SEEDS = 10_000
_DAMAGED = (yaml.YAMLError, ValueError, LookupError, OSError, RecursionError)  # what Hydra lets through


@dataclass(frozen=True)
class PlannedRun:
    """One entry of a plan: an experiment, changes to it, and the seeds to run it with."""

    name: str
    experiment: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]


def compose(experiment: str, overrides: Sequence[str] = (), root: Path = ROOT) -> Config:
    """The checked configuration of an experiment file with `overrides` such as `method.feedback=none`.

    Raises:
        ConfigError: for an unknown experiment or override, or an impossible value.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = experiments(root)
    if experiment not in known:
        raise ConfigError(
            f"experiment = {experiment!r} has no file in {root / 'experiment'}; {closest(experiment, known)}"
        )
    file = root / "experiment" / f"{experiment}.yaml"
    if not isinstance(read_yaml(file), dict):
        raise ConfigError(f"{file}: wants a mapping of settings, after the line `# @package _global_`")
    for override in overrides:
        if re.match(r"[+~]*(experiment|hydra)\b", override):
            raise ConfigError(
                f"{experiment}: override {override!r} would compose another experiment; name that instead"
            )
    try:
        with initialize_config_dir(str(root.resolve()), version_base="1.3"):
            composed = hydra_compose("config", [f"+experiment={experiment}", *overrides])
        mapping: Any = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, *_DAMAGED) as error:
        raise ConfigError(_explain(experiment, overrides, str(error), root)) from None
    config = checked(shortened(read_config(mapping)))
    departures(config)  # refuses a recipe that speaks of no setting
    return config


def compose_planned(planned: PlannedRun, plan: Path) -> Config:
    """The checked configuration of one entry of a plan file.

    Raises:
        ConfigError: as `compose`, naming the plan and the run too.
    """
    try:
        return compose(planned.experiment, planned.overrides)
    except ConfigError as error:
        raise ConfigError(f"{plan}: runs.{planned.name}: {error}") from None


def experiments(root: Path = ROOT) -> list[str]:
    """Names of all experiment files."""
    return sorted(path.stem for path in (root / "experiment").glob("*.yaml"))


@dataclass(frozen=True)
class Plan:
    """What a plan file says."""

    name: str
    runs: tuple[PlannedRun, ...]
    needs_gpu: bool  # a CPU would take weeks: without a GPU it is not started


def read_plan(path: Path) -> list[PlannedRun]:
    """The runs of a plan file; see `read_whole_plan`."""
    return list(read_whole_plan(path).runs)


def read_whole_plan(path: Path) -> Plan:
    """A plan file: `runs`, a mapping of names to {experiment, overrides, seeds}; `overrides` of all runs; `needs: gpu`.

    Raises:
        ConfigError: when the file is missing or an entry is not of the form `name: {seeds: 0-9}`.
    """
    if not path.exists() or path.is_dir():
        plans = sorted(p.stem for p in (ROOT / "plan").glob("*.yaml"))
        raise ConfigError(f"no plan at {path}; choose one with: make reproduce PLAN=<name>; plans: {', '.join(plans)}")
    content = read_yaml(path)
    runs = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(runs, dict) or not runs:
        raise ConfigError(f"{path}: wants a mapping `runs:` of names to {{seeds: 0-9}}")
    for key in content.keys() - _PARTS:
        raise ConfigError(f"{path}: {key} is not a part of a plan; {closest(str(key), list(_PARTS))}")
    if content.get("needs", "gpu") != "gpu":
        raise ConfigError(f"{path}: needs = {content['needs']!r}: only gpu can be needed")
    shared = _overrides(content, f"{path}: ")
    planned = [_planned(name, entry, shared, f"{path}: runs") for name, entry in runs.items()]
    return Plan(path.resolve().stem, tuple(planned), content.get("needs") == "gpu")


def _planned(name: Any, entry: Any, shared: tuple[str, ...], where: str) -> PlannedRun:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} names a folder, so wants 1 to 100 letters, digits, _, -, and dots later on"
        )
    where = f"{where}.{name}"
    if not isinstance(entry, dict) or entry.keys() - _ENTRY or "seeds" not in entry:
        raise ConfigError(f"{where} = {entry}: wants seeds and, if needed, experiment and overrides")
    experiment = entry.get("experiment", name)
    if not isinstance(experiment, str):
        raise ConfigError(f"{where}.experiment = {experiment!r}: wants the name of a file in {ROOT / 'experiment'}")
    overrides = (*shared, *_overrides(entry, f"{where}."))
    try:
        return PlannedRun(name, experiment, overrides, parse_seeds(entry["seeds"]))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _overrides(part: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = part.get("overrides", [])
    if not isinstance(found, list) or not all(isinstance(override, str) for override in found):
        raise ConfigError(f"{where}overrides = {found!r}: wants a list of texts such as [method.feedback=none]")
    return tuple(found)


def parse_seeds(text: str | int) -> tuple[int, ...]:
    """`3`, `0-4` or `0-4,10` to seeds in ascending order.

    Raises:
        ConfigError: for anything else, or a seed given twice.
    """
    seeds: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f"seeds = {text!r}: wants a list such as 0-4 or 0,2,5 of seeds below {10**9:,}")
        first, last = int(match[1]), int(match[2] or match[1])
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise ConfigError(f"seeds = {text!r}: are more than {_MOST_SEEDS:,}; name fewer")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds = {text!r}: names a seed twice")
    return tuple(sorted(seeds))


def _explain(experiment: str, overrides: Sequence[str], error: str, root: Path) -> str:
    """Hydra's error as one sentence; for a misspelt setting, with the nearest known one."""
    misspelt = re.search(r"Could not override '([^']+)'", error)
    if misspelt and overrides:
        known = list(_dotted_keys(as_mapping(compose(experiment, (), root))))
        return f"{experiment}: {misspelt[1]} is not a setting; {closest(misspelt[1], known)}"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    asked = " ".join(" ".join([experiment, *overrides]).split())
    return f"{asked}: {'; '.join(lines[:2])}"


def _dotted_keys(mapping: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in mapping.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{key}.")

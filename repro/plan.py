"""What to run: settings, arms, runs and plans, composed from experiments/ with Hydra.

A run is a setting x an arm x seeds. Its name is `<setting>_<arm>`: digits_mpl is the arm mpl in the setting digits.

    experiments/arms.yaml            the table of ablations: each arm once
    experiments/setting/<name>.yaml  what the arms of a comparison share; under `comparison` what it is called, which
                                     arms it has, what each method and each arm changes besides
    experiments/plan/<name>.yaml     runs with their seeds

The groups data, model and method have a choice for each class of settings; a file in experiments/<group> is one more.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from repro.config import Config, as_mapping, checked, departures, read_config, shortened
from repro.data import Data
from repro.files import ROOT, read_whole, write_whole
from repro.methods import Method
from repro.models import Model
from repro.settings import ConfigError, closest, parse_seeds, read_yaml, short, validated

_PARTS, _ENTRY = {"runs", "overrides", "needs"}, {"seeds", "overrides"}  # of a plan, and of its runs
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_GROUPS = {"data", "model", "method", "recipe"}
_REFERENCE = "${"  # Hydra's, to another value
_DAMAGED = (yaml.YAMLError, ValueError, LookupError, OSError, RecursionError, TypeError, AttributeError,
            AssertionError)  # fmt: skip
"""What Hydra lets through."""


Changes = Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)]
"""Dotted key, or config group -> value."""


@pydantic_dataclass(frozen=True, config={"extra": "forbid"})
class Arm:
    """One row of the table of ablations."""

    name: str
    title: str
    method: str
    changes: Changes = field(default_factory=dict)
    colour: str = "#888888"
    line: str = "-"


@pydantic_dataclass(frozen=True, config={"extra": "forbid"})
class Comparison:
    """The arms of one setting, and what a reader should know of them."""

    setting: str
    page: str  # of the report; empty: its runs are not shown
    heading: str
    introduction: str
    reference: str  # the arm that differences are taken to; empty: none
    arms: dict[str, Changes]  # arm -> what it changes in this setting, and its title here
    methods: dict[str, Changes] = field(default_factory=dict)  # method -> what all its arms share in this setting
    good: tuple[float, ...] = ()  # accuracies that count as a good separator
    regions: tuple[str, ...] = ()  # arms whose decision regions are drawn
    again: str = ""  # the setting of whose recorded runs some seeds were trained again
    sweep: dict[str, str] = field(default_factory=dict)  # `key` that is varied `around` a setting

    def run(self, arm: str) -> str:
        """The name of the arm's run."""
        return f"{self.setting}_{arm}"

    @property
    def runs(self) -> dict[str, str]:
        """Arm -> the name of its run."""
        return {arm: self.run(arm) for arm in self.arms}

    def title(self, arm: str) -> str:
        """Of an arm, in this setting."""
        return str(self.arms[arm].get("title") or all_arms()[arm].title)


@dataclass(frozen=True)
class PlannedRun:
    """One entry of a plan: a run, changes to it, and the seeds to run it with."""

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a plan file says."""

    name: str
    runs: tuple[PlannedRun, ...]
    needs_gpu: bool  # a CPU would take weeks: without a GPU it is not started


@cache
def all_arms(root: Path = ROOT) -> dict[str, Arm]:
    """The table of ablations, by name, in its order."""
    path, found = root / "arms.yaml", {}
    for name, entry in _mapping(_read(path), path, "arms").items():
        found[name] = validated(Arm, {"name": name} | _entry(entry, f"{path}: arms.{name}"), f"{path}: arms.{name}: ")
    return found


@cache
def comparisons(root: Path = ROOT) -> dict[str, Comparison]:
    """Every setting's comparison, by the setting's name."""
    return {path.stem: _comparison(path, root) for path in sorted((root / "setting").glob("*.yaml"))}


@cache
def _comparison(path: Path, root: Path, above: tuple[str, ...] = ()) -> Comparison:
    content = dict(_mapping(_read(path), path, "comparison"))
    known = [*(Comparison.__dataclass_fields__.keys() - {"setting"}), "like"]
    for key in content.keys() - known:
        raise ConfigError(f"{path}: comparison.{key} is not a part of a comparison; {closest(key, known)}")
    base = None
    if (name := content.pop("like", None)) is not None:
        known = sorted(one.stem for one in path.parent.glob("*.yaml"))
        if name in (*above, path.stem) or name not in known:
            why = "is no setting" if name not in (*above, path.stem) else "comes back to itself"
            raise ConfigError(f"{path}: comparison.like = {short(name)}: {why}; {closest(str(name), known)}")
        base = _comparison(path.with_name(f"{name}.yaml"), root, (*above, path.stem))
    found = validated(Comparison, content | {"setting": path.stem}, f"{path}: comparison: ")
    for arm in found.arms:
        if arm not in all_arms(root):
            raise ConfigError(f"{path}: comparison.arms.{arm} has no row in {root / 'arms.yaml'}; "
                              f"{closest(arm, list(all_arms(root)))}")  # fmt: skip
    if base is None:
        return found
    arms = {arm: base.arms.get(arm, {}) | changes for arm, changes in found.arms.items()}
    methods = {name: base.methods.get(name, {}) | found.methods.get(name, {}) for name in base.methods | found.methods}
    return replace(found, arms=arms, methods=methods)


def run_names(root: Path = ROOT) -> list[str]:
    """Every run that has a name: each arm of each setting."""
    return sorted(name for comparison in comparisons(root).values() for name in comparison.runs.values())


def setting_and_arm(run: str, root: Path = ROOT) -> tuple[Comparison, str]:
    """The setting and the arm that a run's name says."""
    fitting = [path for path in (root / "setting").glob("*.yaml") if run.startswith(f"{path.stem}_")]
    for path in sorted(fitting, key=lambda path: -len(path.stem)):
        comparison, arm = _comparison(path, root), run.removeprefix(f"{path.stem}_")
        if arm in comparison.arms:
            return comparison, arm
    raise ConfigError(f"run = {run!r} is no arm of a setting in {root / 'setting'}; {closest(run, run_names(root))}")


def compose(run: str, overrides: Sequence[str] = (), root: Path = ROOT) -> Config:
    """The checked configuration of a run with `overrides` such as `method.feedback=none`; ConfigError where wrong."""
    comparison, name = setting_and_arm(run, root)
    _read_groups(root)
    arm = all_arms(root)[name]
    changes = comparison.methods.get(arm.method, {}) | arm.changes | comparison.arms[name]
    changes["title"] = comparison.arms[name].get("title") or arm.title
    for override in overrides:
        if re.match(r"[+~]*(setting|hydra)\b", override):
            raise ConfigError(f"{run}: override {override!r} would compose another setting; name that instead")
        if _REFERENCE in override:
            raise ConfigError(f"{run}: override {short(override)} refers to another value; write the value itself")
    named = [re.split(r"[=@]", override.lstrip("+~"))[0] for override in overrides]
    plain = {
        key: value
        for key, value in changes.items()
        if key not in _GROUPS
        and isinstance(value, str | int | float | None)
        and not any(f"{key}.".startswith(f"{one}.") or one.startswith(f"{key}.") for one in named)
    }
    rest = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items() if key not in plain)
    try:
        mapping = deepcopy(_composed(comparison.setting, arm.method, tuple(rest), tuple(overrides), root))
        for key, value in plain.items():
            _put(mapping, key, value)
    except _DAMAGED as error:
        raise ConfigError(_explain(run, overrides, str(error), root)) from None
    del mapping["comparison"]
    config = checked(shortened(read_config(mapping)))
    departures(config)  # refuses a recipe that speaks of no setting
    return config


@cache
def _composed(setting: str, method: str, changes: tuple[str, ...], overrides: tuple[str, ...], root: Path) -> Any:
    """What Hydra makes of these: the same for many arms, whose other changes `_put` adds in a hundredth of the time."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _know_choices()
    try:
        with initialize_config_dir(str(root.resolve()), version_base="1.3"):
            composed = hydra_compose("config", [f"+setting={setting}", f"method={method}", *changes, *overrides])
        return OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(str(error)) from None


def _put(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key that is there."""
    *above, last = key.split(".")
    for part in above:
        mapping = mapping.get(part, {})
    if not isinstance(mapping, dict) or last not in mapping:
        raise ValueError(f"Could not override '{key}'.")
    mapping[last] = value


@cache
def _read_groups(root: Path) -> None:
    """Sees that Hydra, which takes any YAML, is given no other than this project reads."""
    groups = [path for group in sorted(_GROUPS) for path in sorted((root / group).glob("*.yaml"))]
    for path in [root / "config.yaml", *groups]:
        _read(path)


def _read(path: Path) -> Any:
    """A file in YAML without references, of which a few lines could stand for billions."""
    found = read_yaml(path)
    if _REFERENCE.encode() in read_whole(path):
        raise ConfigError(f"{path}: refers to another value with {_REFERENCE}...}}; write the value itself")
    return found


@cache
def _know_choices() -> None:
    """Tells Hydra of every data set, network and method, with its defaults."""
    from hydra.core.config_store import ConfigStore

    for group, union in {"data": Data, "model": Model, "method": Method}.items():
        for kind in get_args(get_args(union)[0]):
            ConfigStore.instance().store(kind.name, as_mapping(kind()), group)


def compose_planned(planned: PlannedRun, plan: Path) -> Config:
    """The checked configuration of one entry of a plan file, which an error names too."""
    try:
        return compose(planned.name, planned.overrides)
    except ConfigError as error:
        raise ConfigError(f"{plan}: runs.{planned.name}: {error}") from None


def read_plan(path: Path) -> Plan:
    """A plan file: `runs`, a mapping of names to {seeds, overrides}; `overrides` of all runs; `needs: gpu`."""
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
        raise ConfigError(f"{path}: needs = {short(content['needs'])}: only gpu can be needed")
    shared = _overrides(content, f"{path}: ")
    planned = [_planned(name, entry, shared, f"{path}: runs") for name, entry in runs.items()]
    return Plan(path.resolve().stem, tuple(planned), content.get("needs") == "gpu")


def plan_names(root: Path = ROOT) -> dict[str, str]:
    """The plans there are, each with the first sentence of its file, up to 96 characters."""
    found = {}
    for path in sorted((root / "plan").glob("*.yaml")):
        comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
        sentence = re.split(r"(?<=[.?]) ", comment)[0]
        found[path.stem] = textwrap.shorten(sentence, 96, placeholder=" ...")
    return found


def put_in_use(name: str) -> None:
    """Makes a plan the one that `dvc repro` runs: copies its file to params.yaml, whose own changes are not lost."""
    folder, chosen = ROOT / "plan", Path("params.yaml")
    plans = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.yaml"))}
    if name not in plans:
        raise ConfigError(f"PLAN = {name} has no file in {folder}; {closest(name, list(plans))}")
    before = chosen.read_bytes() if chosen.is_file() else plans[name]
    if before not in plans.values():
        raise ConfigError(
            f"{chosen} is none of the plans as they are now; run it as it is: dvc repro; make it a plan: "
            f"cp {chosen} {folder}/<name>.yaml; or give it up: cp {folder / name}.yaml {chosen}"
        )
    if chosen.is_symlink() or not chosen.is_file() or before != plans[name]:
        write_whole(chosen, plans[name])


def _planned(name: Any, entry: Any, shared: tuple[str, ...], where: str) -> PlannedRun:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {short(name)} names a folder, so wants 1 to 100 letters, digits, _, -, then dots")
    where = f"{where}.{name}"
    if not isinstance(entry, dict) or entry.keys() - _ENTRY or "seeds" not in entry:
        raise ConfigError(f"{where} = {short(entry)}: wants seeds and, if needed, overrides")
    overrides = (*shared, *_overrides(entry, f"{where}."))
    try:
        return PlannedRun(name, overrides, parse_seeds(entry["seeds"]))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _overrides(part: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found = part.get("overrides", [])
    if not isinstance(found, list) or not all(isinstance(override, str) for override in found):
        raise ConfigError(f"{where}overrides = {short(found)}: wants a list of texts such as [method.feedback=none]")
    return tuple(found)


def _entry(found: Any, where: str) -> dict[str, Any]:
    """A mapping by names."""
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{where} = {short(found)}: wants a mapping of names")
    return found


def _mapping(content: Any, path: Path, key: str) -> Mapping[str, Any]:
    found = content.get(key) if isinstance(content, dict) else None
    if not found:
        raise ConfigError(f"{path}: wants a mapping `{key}:` of names")
    return _entry(found, f"{path}: {key}")


def _explain(run: str, overrides: Sequence[str], error: str, root: Path) -> str:
    """Hydra's error as one sentence; for a misspelt setting, with the nearest known one."""
    misspelt = re.search(r"Could not override '([^']+)'", error)
    if misspelt and overrides:
        known = keys_of(run, root)
        if misspelt[1] in known:  # another choice of a group took away what the arm sets
            return f"{run}: sets {misspelt[1]}, which {' '.join(overrides)} does not have; change another run"
        return f"{run}: {misspelt[1]} is not a setting; {closest(misspelt[1], known)}"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    asked = " ".join(" ".join([run, *overrides]).split())
    return f"{asked}: {'; '.join(lines[:2])}"


def keys_of(run: str, root: Path = ROOT) -> list[str]:
    """The dotted key of every setting of a run, and of every group of them."""

    def dotted(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in mapping.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from dotted(value, f"{prefix}{key}.")

    return list(dotted(as_mapping(compose(run, (), root))))

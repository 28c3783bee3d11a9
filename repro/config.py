"""What a run is: data, network, method, and all else that decides it; what is possible together; its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from repro.data import Data
from repro.methods import Method
from repro.models import Model, fits, fitting
from repro.settings import (
    Budget,
    ConfigError,
    Engine,
    Finetune,
    Optim,
    Optimiser,
    Plant,
    Recipe,
    Text,
    read_yaml,
    settings,
    validated,
)


@settings
class Config:
    """Everything that decides a run, but for its seeds. `data`, `model` and `method` are chosen by their `name`."""

    data: Data
    model: Model
    method: Method
    optim: Optim
    budget: Budget
    finetune: Finetune
    recipe: Recipe
    engine: Engine = field(default_factory=Engine)
    plant: Plant = field(default_factory=Plant)
    title: Text = ""  # the arm in a few words, for tables and legends
    data_hash: Text = ""  # of the prepared data; filled by `prepare`, checked by `train`
    planned_seeds: Text = ""  # such as 0,1,2; filled by `prepare`, so that a missing seed is noticed


REMOVED: dict[str, dict[str, Any]] = {"engine": {"recompute": False, "micro_batches": 1, "side_by_side": 1}}
"""Settings that are no more, each with the value of all records, which may still name it."""

EXECUTION = (
    "budget.workers",
    "budget.max_minutes",
    "budget.checkpoint_minutes",
    "engine.readers",
    "data.root",  # the data's hash says which they are
)
"""Settings of where, how long and with how many a run trains, which leave what it computes alone."""


def read_config(mapping: Mapping[str, Any]) -> Config:
    """Builds and checks a `Config` from nested mappings, those of a record among them; ConfigError where wrong."""
    kept: Any = dict(mapping) if isinstance(mapping, Mapping) else mapping
    for part, removed in REMOVED.items() if isinstance(kept, dict) else ():
        if isinstance(kept.get(part), Mapping):
            kept[part] = {k: v for k, v in kept[part].items() if k not in removed or v != removed[k]}
    return checked(validated(Config, kept))


def read_config_file(path: Path) -> Config:
    """Reads a resolved configuration, as `prepare` writes it."""
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}; write it with: repro prepare")
    return read_config(read_yaml(path))


def as_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `read_config`, of a part of a `Config` too: nested plain dictionaries, ready for YAML."""
    return asdict(config, dict_factory=lambda items: {k: v.value if isinstance(v, StrEnum) else v for k, v in items})


def decisive(config: Config) -> dict[str, Any]:
    """The settings that decide what training computes: all but its title and those of its execution."""
    mapping = as_mapping(config)
    del mapping["title"]
    for key in EXECUTION:
        part, name = key.split(".")
        mapping[part].pop(name, None)
    return mapping


def lookup(mapping: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where this run's choice of data, model or method has no such setting."""
    value: Any = mapping
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def expected_networks(config: Config) -> tuple[set[str], str]:
    """The networks that a run of this configuration leaves, and the one whose accuracy is the method's."""
    roles, averaged = config.method.networks, bool(config.optim.average_decay)
    networks = {*roles, *(f"{role}_average" for role in roles if averaged)}
    if config.finetune.steps:
        networks.add(f"{roles[-1]}_finetuned")
    return networks, f"{roles[-1]}_average" if averaged else roles[-1]


# What is possible together


def checked(config: Config) -> Config:
    """The same settings; ConfigError for every rule that they break, naming key, value and remedy."""
    if problems := list(_problems(config)):
        raise ConfigError("; ".join(problems))
    return config


def _problems(config: Config) -> Iterator[str]:
    data, model, method, budget = config.data, config.model, config.method, config.budget
    yield from data.problems()
    if not fits(type(model), data.shape):
        yield f"model.name = {model.name} does not fit data.name = {data.name}; use {' or '.join(fitting(data.shape))}"
    if budget.stack > 1 and not model.stacks:
        yield f"budget.stack = {budget.stack}: model.name = {model.name} cannot be stacked; set it to 1"
    if budget.shortened_to > budget.steps:
        yield f"budget.shortened_to = {budget.shortened_to}: is longer than budget.steps = {budget.steps}; 0 keeps them"
    if 0 < data.labels < budget.labelled_batch:
        yield f"budget.labelled_batch = {budget.labelled_batch}: there are only data.labels = {data.labels}"
    if config.finetune.steps and 0 < data.labels < config.finetune.batch:
        yield f"finetune.batch = {config.finetune.batch}: there are only data.labels = {data.labels}"
    yield from model.problems(config)
    yield from method.problems(config)
    yield from schedules(config)
    plant = config.plant
    if budget.probe_feedback and (method.name != "mpl" or data.in_files):
        yield ("budget.probe_feedback = True: is for method.name = mpl and images in memory, not for "
               f"{method.name} on {data.name}; set it to false")  # fmt: skip
    if plant.steps and method.name != "mpl":
        yield f"plant.steps = {plant.steps}: is for method.name = mpl, not {method.name}; set it to 0"
    if plant.steps >= budget.steps:
        yield f"plant.steps = {plant.steps}: leaves none of budget.steps = {budget.steps}; set fewer"


def unrecordable(config: Config) -> str:
    """Why no step of a run can be recorded once and replayed; empty where they can."""
    if config.data.in_files:
        return f"data.name = {config.data.name} reads each step's images from files"
    return f"method.name = {config.method.name} has steps of two kinds" if config.method.fixed_teacher_steps else ""


def schedules(config: Config) -> Iterator[str]:
    """After waiting and warming up, each network has steps left."""
    steps = dict.fromkeys(("student", "teacher"), (config.budget.steps, f"budget.steps = {config.budget.steps}"))
    if teaching := config.method.fixed_teacher_steps:
        rest = config.budget.steps - teaching
        steps["student"] = (rest, f"budget.steps - method.teacher_steps = {rest}")
        steps["teacher"] = (teaching, f"method.teacher_steps = {teaching}")
    for role, optimiser in (("student", config.optim.student), ("teacher", config.optim.teacher)):
        (count, said), waited = steps[role], optimiser.wait_steps + optimiser.warmup_steps
        if waited >= count:
            yield f"optim.{role}.wait_steps + optim.{role}.warmup_steps = {waited}: leaves none of {said}"


# Its recipe


@dataclass(frozen=True)
class Departure:
    """One setting in which a run differs from its recipe, or that the recipe leaves open."""

    key: str  # dotted
    prescribed: str  # the recipe's value, or why it gives none
    here: str  # the run's value
    open: bool  # True where the recipe does not settle it


def departures(config: Config) -> list[Departure]:
    """All departures from the recipe, those it settles first; ConfigError where it names a setting that no run has."""
    for key in [*config.recipe.values, *config.recipe.open]:
        if not _exists(key):
            raise ConfigError(f"recipe {config.recipe.name}: {key} is not a setting of any data, model or method")
    mapping = as_mapping(config)
    found = []
    for key, prescribed in config.recipe.values.items():
        here = lookup(mapping, key)
        if None not in (here, prescribed) and here != prescribed:
            found.append(Departure(key, str(prescribed), str(here), open=False))
    if config.budget.reduced:
        found.append(Departure("budget", "as the recipe", config.budget.reduced, open=False))
    if group := config.engine.batch_norm_processes:
        found.append(Departure("engine.batch_norm_processes", "batch norm over the whole batch",
                               f"groups of {group} processes", open=False))  # fmt: skip
    for key, why in config.recipe.open.items():
        here = lookup(mapping, key)
        if here is not None:
            found.append(Departure(key, why, str(here), open=True))
    return found


def _exists(key: str) -> bool:
    """Whether any choice of data, model and method has a setting of this dotted name."""
    kinds: list[Any] = [Config]
    for part in key.split("."):
        annotations = [kind.__pydantic_fields__[part].annotation for kind in kinds
                       if part in getattr(kind, "__pydantic_fields__", {})]  # fmt: skip
        kinds = [kind for annotation in annotations for kind in (get_args(annotation) or (annotation,))]
    return bool(kinds)


ROWS = 40  # of the log of a run that is laid over so many steps


def laid_over(config: Config, steps: int) -> Config:
    """The same training over so many steps, fewer or more: warm-up and ramp keep their share of it."""
    long = shortened(replace(config, budget=replace(config.budget, shortened_to=steps)))
    budget = replace(long.budget, shortened_to=0, reduced=config.budget.reduced, log_every=max(1, steps // ROWS))
    return replace(long, budget=budget)


def shortened(config: Config) -> Config:
    """The `reduced` form of a recipe: the same training over `budget.shortened_to` steps.

    Wait, warm-up, ramp, the fixed teacher's steps and the steps between rows of the log shrink with the whole, rounded;
    everything else stays. `budget.reduced` says what was done. 0, or the recipe's own length, changes nothing.
    """
    budget = config.budget
    if budget.shortened_to in (0, budget.steps):
        return config
    factor = budget.shortened_to / budget.steps
    said = f"{budget.shortened_to:,} of {budget.steps:,} steps; wait, warm-up and ramp shortened alike"

    def shorter(optimiser: Optimiser) -> Optimiser:
        wait, warmup = round(optimiser.wait_steps * factor), round(optimiser.warmup_steps * factor)
        return replace(optimiser, wait_steps=wait, warmup_steps=warmup)

    return replace(
        config,
        method=config.method.shortened(factor),
        optim=replace(config.optim, student=shorter(config.optim.student), teacher=shorter(config.optim.teacher)),
        budget=replace(
            budget,
            steps=budget.shortened_to,
            log_every=max(1, round(budget.log_every * factor)),
            reduced="; ".join(part for part in (said, budget.reduced) if part),
        ),
    )

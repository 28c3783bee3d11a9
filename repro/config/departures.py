"""Compares a run with the recipe it names."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any

from repro.config.read import ConfigError, as_mapping, type_hints
from repro.config.schema import CHOICES, Config


@dataclass(frozen=True)
class Departure:
    """One setting in which a run differs from its recipe, or that the recipe leaves open."""

    key: str  # dotted
    prescribed: str  # the recipe's value, or why it gives none
    here: str  # the run's value
    open: bool  # True where the recipe does not settle it


def departures(config: Config) -> list[Departure]:
    """All departures of `config` from `config.recipe`, those the recipe settles first.

    Raises:
        ConfigError: when the recipe names a setting that no run has.
    """
    for key in [*config.recipe.values, *config.recipe.open]:
        if not exists(key):
            raise ConfigError(f"recipe {config.recipe.name}: {key} is not a setting of any data, model or method")
    mapping = as_mapping(config)
    found = []
    for key, prescribed in config.recipe.values.items():
        here = lookup(mapping, key)
        if None not in (here, prescribed) and here != prescribed:
            found.append(Departure(key, str(prescribed), str(here), open=False))
    if config.budget.reduced:
        found.append(Departure("budget", "as the recipe", config.budget.reduced, open=False))
    group = config.engine.batch_norm_processes
    if group:
        found.append(Departure("engine.batch_norm_processes", "batch norm over the whole batch",
                               f"groups of {group} processes", open=False))  # fmt: skip
    for key, why in config.recipe.open.items():
        here = lookup(mapping, key)
        if here is not None:
            found.append(Departure(key, why, str(here), open=True))
    return found


def exists(key: str) -> bool:
    """Whether any choice of data, model and method has a setting of this dotted name."""
    section, *rest = key.split(".")
    places = list(CHOICES.get(section, {}).values()) or [Config]
    path = rest if section in CHOICES else [section, *rest]
    for name in path:
        hints = [type_hints(place) for place in places if is_dataclass(place)]
        places = [hint[name] for hint in hints if name in hint]
    return bool(places) and bool(path)


def lookup(mapping: dict[str, Any], key: str) -> Any:
    """The value at a dotted key; None where this run's choice of data, model or method has no such setting."""
    value: Any = mapping
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value

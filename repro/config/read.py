"""From a plain mapping to a checked `Config`, and back. Everything wrong is refused by key, value and remedy."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from repro.config.check import check
from repro.config.schema import CHOICES, Config

_WHOLE = 2**63 - 1  # the largest whole number that a tensor holds


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and the remedy."""


def closest(word: str, known: list[str]) -> str:
    """The remedy for a misspelt word: the nearest known ones, else all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"


REMOVED: dict[str, dict[str, Any]] = {"engine": {"recompute": False, "micro_batches": 1, "side_by_side": 1}}
"""Settings that are no more, each with the value of all records, which may still name it."""


def read_config(mapping: Mapping[str, Any]) -> Config:
    """Builds and checks a `Config` from nested mappings, those of a record among them.

    Raises:
        ConfigError: for an unknown or missing key, a wrong type or an impossible value.
    """
    return checked(typing.cast(Config, _build(Config, without_removed(mapping), "")))


def without_removed(mapping: Mapping[str, Any]) -> Any:
    """The same settings without those that are no more; any other value is refused."""
    if not isinstance(mapping, Mapping):
        return mapping
    kept = dict(mapping)
    for part, removed in REMOVED.items():
        if isinstance(kept.get(part), Mapping):
            kept[part] = {k: v for k, v in kept[part].items() if k not in removed or v != removed[k]}
    return kept


def checked(config: Config) -> Config:
    """The same settings.

    Raises:
        ConfigError: for every rule that they break.
    """
    problems = check(config)
    if problems:
        raise ConfigError("; ".join(problems))
    return config


def read_config_file(path: Path) -> Config:
    """Reads a resolved configuration, as `prepare` writes it."""
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}; write it with: python -m repro.cli.prepare")
    return read_config(read_yaml(path))


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML itself would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"{key.value} stands there twice, keep one"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ConfigError: when the file is no YAML in UTF-8, or a key stands twice in one mapping.
    """
    try:
        return yaml.load(path.read_bytes(), _UniqueKeys)  # noqa: S506 - it is the safe loader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = " (YAML indents with spaces)" if "\\t" in str(error.problem) else ""
        raise ConfigError(f"{path}: {line}{error.problem}; mend that line{hint}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: is not a YAML file in UTF-8 ({reason}); write it again") from None


def as_mapping(config: Config) -> dict[str, Any]:
    """The inverse of `read_config`: nested plain dictionaries, ready for YAML."""
    return typing.cast(dict[str, Any], _plain(asdict(config)))


EXECUTION = (
    "budget.workers",
    "budget.max_minutes",
    "budget.checkpoint_minutes",
    "engine.readers",
    "data.root",  # the data's hash says which they are
)
"""Settings of where, how long and with how many a run trains, which leave what it computes alone."""


def decisive(config: Config) -> dict[str, Any]:
    """The settings that decide what training computes: all but its title and those of its execution."""
    mapping = as_mapping(config)
    del mapping["title"]
    for key in EXECUTION:
        part, name = key.split(".")
        mapping[part].pop(name, None)
    return mapping


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.value if isinstance(value, StrEnum) else value


@cache
def type_hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass' fields, looked up once: a record of hundreds of run folders is read in seconds."""
    return typing.get_type_hints(cls)


def _build(cls: type, mapping: Any, path: str) -> Any:
    where = path.rstrip(".") or "configuration"
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where} = {mapping!r}: wants a mapping of settings")
    hints = type_hints(cls)
    known = [f.name for f in fields(cls)]
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{path}{key} is not a setting of {cls.__name__}; {closest(str(key), known)}")
    given = {key: _convert(hints[key], value, f"{path}{key}") for key, value in mapping.items()}
    try:
        return cls(**given)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).split('__init__() ')[-1]}") from None


def _convert(wanted: Any, value: Any, path: str) -> Any:
    if type(value) is int and abs(value) > _WHOLE:
        raise ConfigError(f"{path}: is a whole number of {value.bit_length()} bits; must fit into 63")
    if isinstance(wanted, types.UnionType):
        choices = CHOICES[path]
        name = value.get("name") if isinstance(value, Mapping) else None
        if name is not None:
            _convert(str, name, f"{path}.name")
        if name not in choices:
            raise ConfigError(f"{path}.name = {name!r} is unknown; {closest(str(name), list(choices))}")
        return _build(choices[name], value, f"{path}.")
    if is_dataclass(wanted):
        return _build(typing.cast(type, wanted), value, f"{path}.")
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        members = [member.value for member in wanted]
        if value not in members:
            raise ConfigError(f"{path} = {value!r} is not a {wanted.__name__}; {closest(str(value), members)}")
        return wanted(value)
    if typing.get_origin(wanted) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} = {value!r}: wants a mapping")
        return _texts(value, typing.get_args(wanted)[1], path)
    return _scalar(wanted, value, path)


def _scalar(wanted: type, value: Any, path: str) -> Any:
    if wanted is float and type(value) in {int, float}:
        return float(value) + 0.0  # -0.0 is 0.0: the same setting has one text and one digest
    if type(value) is not wanted:
        hint = " (YAML reads 1e-5 as text: write 1.0e-5)" if wanted is float and isinstance(value, str) else ""
        raise ConfigError(f"{path} = {value!r}: wants {_article(wanted)}, not {_article(type(value))}{hint}")
    return value


def _texts(mapping: Mapping[Any, Any], wanted: Any, path: str) -> dict[str, Any]:
    """The same mapping, its keys text, and its values too where they are `wanted` to be."""
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the key {key!r} is not text; put it into quotation marks")
        if wanted is str and not isinstance(value, str):
            raise ConfigError(f"{path}.{key} = {value!r}: wants text, not {_article(type(value))}")
    return dict(mapping)


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, kind.__name__)

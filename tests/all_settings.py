"""Every setting that there is, found by walking the classes of settings, and values to try for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, get_args

from repro.config import Config, as_mapping, read_config
from repro.data import Data
from repro.methods import Method
from repro.models import Model
from repro.settings import Range


def by_name(union: Any) -> dict[str, type[Any]]:
    """The classes of settings among which a `name` chooses."""
    return {kind.name: kind for kind in get_args(get_args(union)[0])}


CHOICES = {"data": by_name(Data), "model": by_name(Model), "method": by_name(Method)}

MOONS = {"data": "two_moons", "model": "moons_net"}
DIGITS = {"data": "digits", "model": "small_conv"}
IMAGES = {"data": "cifar10", "model": "wide_resnet"}
FAST_IMAGES = {"data": "cifar10", "model": "airbench"}
DEEP_IMAGES = {"data": "cifar10", "model": "resnet50"}
SVHN = {"data": "svhn", "model": "wide_resnet"}
FILES = {"data": "folder", "model": "resnet50"}
PROBLEMS = (MOONS, DIGITS, IMAGES, FAST_IMAGES, DEEP_IMAGES, SVHN, FILES)
CHOSEN = [{**problem, "method": method} for problem in PROBLEMS for method in CHOICES["method"]]

Choice = Mapping[str, str]
"""The name of the chosen `data`, `model` and `method`."""

_SMALL: dict[str, dict[str, Any]] = {
    "two_moons": {"points": 60}, "digits": {"labels": 20}, "cifar10": {"labels": 20, "train_images": 5060},
    "svhn": {"labels": 20, "train_images": 60}, "folder": {"classes": 2, "image_size": 8},
    "small_conv": {"width": 2}, "wide_resnet": {"depth": 10, "width": 1}, "resnet50": {"width": 4},
    "airbench": {"first_width": 24, "width": 24},
    "pseudo_label": {"teacher_steps": 9}, "mpl": {"uda": {"weight": 1.0}, "shuffle_window": 4},
}  # fmt: skip
_MOST = {
    "points": 400, "test_points": 400, "train_images": 5200, "test_images": 400, "labels": 60, "width": 4, "depth": 16,
    "layers": 3, "shuffle_window": 1000, "labelled_batch": 16, "unlabelled_batch": 24, "batch": 16, "threads": 2,
    "finetune.steps": 2, "image_size": 24, "classes": 4, "readers": 2,
}  # fmt: skip
"""By field, or by its whole key: the most that a test can train with; all else goes up to the end of its range."""


@dataclass(frozen=True)
class Setting:
    """One field: of which class, under which dotted key, of which type, and of a number its range."""

    key: str
    owner: type
    field: str
    kind: Any
    range: Range | None

    @property
    def is_switch(self) -> bool:
        """Whether it has a few values that can all be tried."""
        return self.kind is bool or (isinstance(self.kind, type) and issubclass(self.kind, StrEnum))

    @property
    def has_values(self) -> bool:
        """Whether there are values to choose from."""
        return bool(self.range or self.is_switch or self.kind is str)


def all_settings(choice: Choice, owner: Any = Config, path: str = "") -> Iterator[Setting]:
    """Every field for one choice of data, model and method; sections too, before what is in them."""
    for field, info in owner.__pydantic_fields__.items():
        key = f"{path}{field}"
        kind = CHOICES[key][choice[key]] if key in CHOICES else info.annotation
        ranges = [one for one in info.metadata if isinstance(one, Range)]
        assert bool(ranges) == (kind in {int, float}), f"{owner.__name__}.{field}: every number has a range"
        yield Setting(key, owner, field, kind, ranges[0] if ranges else None)
        if hasattr(kind, "__pydantic_fields__"):
            yield from all_settings(choice, kind, f"{key}.")


EVERY = {(setting.owner, setting.key): (choice, setting) for choice in CHOSEN for setting in all_settings(choice)}
"""Each setting once, with a choice of data, network and method that has it."""


def small(choice: Choice) -> dict[str, Any]:
    """A complete mapping that trains in no time."""
    return deepcopy(_small(tuple(choice.items())))


@cache
def _small(choice: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    chosen = {group: {"name": name} | _SMALL.get(name, {}) for group, name in choice}
    budget = {"steps": 20, "labelled_batch": 4, "unlabelled_batch": 6, "log_every": 2, "snapshots": 2}
    return as_mapping(read_config(chosen | {"optim": {}, "budget": budget, "finetune": {"batch": 4}, "recipe": {}}))


def with_changes(mapping: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with dotted keys replaced; one below a section that is itself replaced is left out."""
    for key in sorted(changes):
        *path, last = key.split(".")
        part: Any = mapping
        for name in path:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[last] = deepcopy(changes[key])
    return mapping


_ODD = [-(10**400), -1e300, -1, -1e-9, -0.0, 0, 5e-324, 0.5, 1, 1.0, 1 + 1e-9, 33, 2**31, 1e300, 2**63, 10**400,
        10**5000, math.nan, math.inf, None, True, False, "", "1", "nan", [], [1], {}, {"name": "mpl"}, {1: 2},
        "\0"]  # fmt: skip


def odd_values(setting: Setting) -> list[Any]:
    """What somebody might write there, most of it wrong."""
    ends = [setting.range.least, setting.range.most] if setting.range else []
    return [*_ODD, *ends, *(possible_values(setting) if setting.is_switch else [])]


def possible_values(setting: Setting) -> list[Any]:
    """Values that its own rule allows, both ends among them, but no larger than a test can train with."""
    if setting.kind is bool:
        return [False, True]
    if setting.is_switch:
        return [member.value for member in setting.kind]
    if not setting.range:
        return ["", "x"] if setting.kind is str else [{}]
    limits = setting.range
    most = min(limits.most, _MOST.get(setting.key, _MOST.get(setting.field, math.inf)))
    low, high = limits.least, math.nextafter(most, 0) if limits.below and most == limits.most else most
    between = [low + (high - low) * share for share in (1e-9, 1e-3, 0.1, 0.5)] + [1, 2, 4, 6, 10, 20]
    ends = [low, high] + ([0] if limits.or_zero else [])
    found = [*ends, *(value for value in between if low <= value <= high)]
    return [round(value) if setting.kind is int else float(value) for value in found]

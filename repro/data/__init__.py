"""Data sets: each is described once, by its `Source`. Nothing else in the package asks which data set it has."""

from __future__ import annotations

from typing import Any

from repro.config.data import DataSettings
from repro.data.cifar10 import Cifar10
from repro.data.folder import Folder
from repro.data.sets import Source
from repro.data.svhn import Svhn
from repro.data.toys import Digits, TwoMoons

SOURCES: dict[str, type[Source[Any]]] = {
    "two_moons": TwoMoons,
    "digits": Digits,
    "cifar10": Cifar10,
    "svhn": Svhn,
    "folder": Folder,
}


def source_of(config: DataSettings) -> Source[Any]:
    """The data set of these settings."""
    return SOURCES[config.name](config)

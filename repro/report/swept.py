"""What a run is compared to, and what is varied in a run of a sweep: both as its name tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

from repro.report.groups import Group

_SWEPT = re.compile(r"(?P<what>[a-z]+)_(?P<value>\d+(?:[._p]\d+)?)_(?P<arm>.+)")


@dataclass(frozen=True)
class Swept:
    """One point of a sweep, as a run's name tells it."""

    what: str  # noise, batch
    value: str
    arm: str


def swept(group: Group, name: str) -> Swept | None:
    """What is varied in a run `<prefix><what>_<value>_<arm>`; None for any other name."""
    match = _SWEPT.fullmatch(name.removeprefix(group.prefix))
    return Swept(match["what"], match["value"], match["arm"]) if match and group.key == "moons_sweep" else None


def reference_name(group: Group, name: str) -> str:
    """The run that `name` is compared to; the empty string in a group without reference."""
    point = swept(group, name)
    middle = f"{point.what}_{point.value}_" if point else ""
    return f"{group.prefix}{middle}{group.reference}" if group.reference else ""

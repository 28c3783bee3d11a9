"""What the paper says, and what we check besides, as data. experiments/claims.yaml is the only source."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from repro.files import write_whole
from repro.results import read_record
from repro.settings import closest, read_yaml, short

CLAIMS = Path("experiments/claims.yaml")
VERDICTS = Path("results/verdicts.json")


class Origin(StrEnum):
    """Who makes the claim."""

    paper = "paper"
    control = "control"  # ours: what must hold if the method works for the stated reason


class Measure(StrEnum):
    """What counts as a right answer."""

    accuracy = "accuracy"  # the likeliest class is the label
    top5 = "top5"  # the label is among the five likeliest classes; recorded where there are more than 10


@dataclass(frozen=True)
class Absolute:
    """A number of the paper. Needs the claimed recipe at full budget."""

    experiment: str | None  # run name; null while there is no experiment for it
    value: float  # accuracy, %
    spread: float | None  # standard deviation over the paper's runs, points; null where it gives none
    runs: int  # of the paper
    margin: float  # points; a result this near counts as the same
    network: str | None = None  # null: the network that counts for the method
    measure: Measure = Measure.accuracy


@dataclass(frozen=True)
class Ordering:
    """One method is more accurate than each of the others, seed by seed. A reduced budget may judge it."""

    better: str | None  # run name; null while there is no experiment for it
    worse: tuple[str, ...]  # run names; all must be beaten; none if and only if `better` is null
    at_least: float  # points; the improvement claimed is above this
    meaningful: float  # points; an improvement below this would not count
    claimed: float | None = None  # points; the paper's improvement where it was measured on the same data
    network: str | None = None  # of `better`; null: the network that counts for the method
    differ_in: tuple[str, ...] = ()  # if given, the only settings in which the runs may differ
    spread: float | None = None  # points; of the paired differences over seeds, as expected before any has run
    measure: Measure = Measure.accuracy


@dataclass(frozen=True)
class SuccessRate:
    """One method succeeds on more data sets (one for each seed) than each of the others."""

    better: str
    worse: tuple[str, ...]
    success_at: float  # accuracy, share; reaching it is success
    at_least: float  # points of success rate
    meaningful: float  # points of success rate
    differ_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A sentence that runs can speak for or against, and the rule by which they do."""

    id: str
    says: str
    source: str  # section or table of the paper
    why: str  # of the margins in the rule
    method: str  # of the run that the claim is about; another method's run is refused
    rule: Absolute | Ordering | SuccessRate
    by: Origin = Origin.paper
    recipe: str = ""  # that the runs must name; empty: any
    alpha: float = 0.05  # of every test and interval (level 1 - alpha) of this claim
    cost: str = ""  # what it would take, shown while it has not run
    registered: str = ""  # when it was committed, before any of its runs: ISO 8601 with its zone; empty: unsaid
    known_discrepancy: str = ""  # explains an expected failure; never changes the verdict

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs that are needed; empty while there is no experiment."""
        if isinstance(self.rule, Absolute):
            return (self.rule.experiment,) if self.rule.experiment else ()
        return (self.rule.better, *self.rule.worse) if self.rule.better else ()


KINDS: dict[str, type] = {"absolute": Absolute, "ordering": Ordering, "success_rate": SuccessRate}


def read_claims(path: Path) -> list[Claim]:
    """The claims in `path`, in its order.

    Raises:
        ValueError: for an unknown key, a missing or impossible value, or an id used twice, naming it and the remedy.
    """
    content = read_yaml(path)
    entries = content.get("claims") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: wants a list `claims:`")
    claims = [_claim(entry, f"{path}: claim {number}") for number, entry in enumerate(entries, start=1)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ValueError(f"{path}: id = {claim.id!r} is used twice; rename one")
        seen.add(claim.id)
    return claims


def _claim(entry: Any, where: str) -> Claim:
    if isinstance(entry, Mapping) and isinstance(entry.get("id"), str):
        where = f"{where.rpartition(': ')[0]}: {entry['id']}"
    entry = _mapping(entry, where)
    rule = _mapping(entry.get("rule"), f"{where}.rule")
    kind = rule.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where}.rule.kind = {kind!r} is unknown; {closest(str(kind), list(KINDS))}")
    if rule.get("differ_in") == []:
        raise ValueError(f"{where}.rule.differ_in = []: would allow any difference; leave it out, or name settings")
    entry["rule"] = _build(KINDS[kind], rule, f"{where}.rule")
    claim = typing.cast(Claim, _build(Claim, entry, where))
    for problem in _impossible(claim):
        raise ValueError(f"{where}: {problem}")
    return claim


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} = {short(value)}: wants a mapping")
    return dict(value)


def _build(cls: type, mapping: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    for key in mapping:
        if key not in hints:
            raise ValueError(f"{where}.{key} is not a field of {cls.__name__}; {closest(str(key), list(hints))}")
    for one in fields(cls):
        if one.default is MISSING and one.name not in mapping:
            raise ValueError(f"{where}.{one.name} is missing; add it (null where the claim has none and may lack it)")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in mapping.items()})


def _convert(wanted: Any, value: Any, where: str) -> Any:
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if type(value) in options or (value is None and types.NoneType in options):
        if value == "" or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where} = {value!r}: is empty or not finite; give a value")
        return value
    if float in options and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    for choice in (Origin, Measure):
        if options == (choice,) and value in set(choice):
            return choice(value)
    names = isinstance(value, list) and all(type(name) is str and name for name in value)
    if typing.get_origin(wanted) is tuple and names and len(set(value)) == len(value):
        return tuple(value)
    raise ValueError(f"{where} = {short(value)}: wants {_WANTED.get(options[0], 'a list of different names, [a, b]')}")


_WANTED: dict[type, str] = {str: "text", float: "a finite number", int: "a whole number"} | {
    choice: f"one of: {', '.join(choice)}" for choice in (Origin, Measure)
}


def _impossible(claim: Claim) -> typing.Iterator[str]:
    rule = claim.rule
    if not 0 < claim.alpha <= 0.1:
        yield f"alpha = {claim.alpha}: must lie in (0, 0.1]; larger passes too easily"
    if claim.registered and not _is_time(claim.registered):
        yield f"registered = {claim.registered!r}: wants a time with its zone, such as 2026-11-29T11:52:51+00:00"
    if isinstance(rule, Absolute):
        if rule.experiment and not claim.recipe:
            yield "recipe is missing: a number holds for one recipe only; name it"
        yield from _impossible_number(rule)
    else:
        yield from _impossible_comparison(rule)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _impossible_number(rule: Absolute) -> typing.Iterator[str]:
    if not 0 < rule.value <= 100:
        yield f"rule.value = {rule.value}: must be a percentage in (0, 100]"
    if rule.spread is not None and not 0 < rule.spread < 100:
        yield f"rule.spread = {rule.spread}: must be above 0 points; null where the paper gives none"
    if not 1 <= rule.runs <= 1_000_000 or (rule.runs == 1 and rule.spread is not None):
        yield f"rule.runs = {rule.runs}: must lie in [1, 1,000,000], and one run has no spread"
    if not 0 < rule.margin <= 5:
        yield f"rule.margin = {rule.margin}: must lie in (0, 5] points; larger passes too easily"


def _impossible_comparison(rule: Ordering | SuccessRate) -> typing.Iterator[str]:
    if (rule.better is None) == bool(rule.worse):
        yield (f"rule.better = {rule.better!r}, rule.worse = {list(rule.worse)}: want a name and a list of different "
               "names; or null and [] while an ordering has no experiment")  # fmt: skip
    if rule.better in rule.worse:
        yield f"rule.worse = {list(rule.worse)}: holds rule.better itself; remove it"
    if not 0 <= rule.at_least <= rule.meaningful < 100:
        yield (f"rule.at_least = {rule.at_least}, rule.meaningful = {rule.meaningful}: "
               "must be points with 0 <= at_least <= meaningful < 100")  # fmt: skip
    if rule.meaningful <= 0:
        yield f"rule.meaningful = {rule.meaningful}: must be above 0 points, else nothing could ever refute the claim"
    if isinstance(rule, Ordering) and rule.spread is not None and not rule.spread > 0:
        yield f"rule.spread = {rule.spread}: must be above 0 points; leave it out where nothing is known"
    if isinstance(rule, SuccessRate) and not 0 < rule.success_at <= 1:
        yield f"rule.success_at = {rule.success_at}: is a share, must lie in (0, 1]"


class Status(StrEnum):
    """The only five answers."""

    REPRODUCED = "REPRODUCED"  # the evidence shows what the claim says
    NOT_REPRODUCED = "NOT_REPRODUCED"  # the evidence excludes it
    EXCEEDED = "EXCEEDED"  # the evidence shows clearly more than the claim says
    INCONCLUSIVE = "INCONCLUSIVE"  # it can be either; `missing` says what would settle it
    NOT_RUN = "NOT_RUN"  # a run that the claim needs is not there


@dataclass(frozen=True)
class Verdict:
    """The answer to one claim, with the evidence for it. Differences are in percentage points."""

    claim: str  # id
    status: Status
    reason: str  # one sentence with the numbers
    estimate: float | None = None  # ours - the paper's (absolute), or better - worse
    low: float | None = None  # of the interval of level 1 - alpha; of a number: 1 - 2 alpha, as two one-sided tests
    high: float | None = None
    n: int = 0  # seeds that entered
    p_value: float | None = None  # of no difference, two-sided
    missing: str = ""  # what would settle it
    seeds_needed: str = ""  # for a verdict with 80 % power, while there is none
    departures: list[str] = field(default_factory=list)  # of the runs that were used, from their recipe
    problems: list[str] = field(default_factory=list)  # why evidence was refused


def write_verdicts(verdicts: Sequence[Verdict], path: Path = VERDICTS) -> None:
    """Writes all verdicts, in the claims' order."""
    write_whole(path, (json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n").encode())


def read_verdicts(path: Path = VERDICTS) -> list[Verdict]:
    """Reads what `write_verdicts` wrote.

    Raises:
        RecordError: when the file is missing or damaged.
    """
    return read_record(path, _verdicts, "judge again with: repro verify")


def _verdicts(text: bytes) -> list[Verdict]:
    return [Verdict(**entry | {"status": Status(entry["status"])}) for entry in json.loads(text)]

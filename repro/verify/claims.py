"""What the paper says, and what we check besides, as data. experiments/claims.yaml is the only source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from repro.files import write_whole
from repro.results import read_record
from repro.settings import Range, read_yaml, validated

CLAIMS = Path("experiments/claims.yaml")
VERDICTS = Path("results/verdicts.json")

Text = Annotated[str, Field(strict=True, min_length=1)]
Points = Annotated[float, Range(0, 100, below=True)]
Gain = Annotated[float, Range(-100, 100)]
Counts = Annotated[float, Range(0.01, 100, why="else nothing could ever refute the claim", below=True)]
Spread = Annotated[float, Range(0.001, 100, why="null where nothing is known")]


class Origin(StrEnum):
    """Who makes the claim."""

    paper = "paper"
    control = "control"  # ours: what must hold if the method works for the stated reason


class Measure(StrEnum):
    """What counts as a right answer."""

    accuracy = "accuracy"  # the likeliest class is the label
    top5 = "top5"  # the label is among the five likeliest classes; recorded where there are more than 10


_as_read = pydantic_dataclass(frozen=True, config={"extra": "forbid"})


@_as_read
class Absolute:
    """A number of the paper. Needs the claimed recipe at full budget."""

    experiment: Text | None  # run name; null while there is no experiment for it
    value: Annotated[float, Range(0.01, 100, why="a percentage")]  # accuracy, %
    spread: Spread | None  # standard deviation over the paper's runs, points; null where it gives none
    runs: Annotated[int, Range(1, 1_000_000)]  # of the paper
    margin: Annotated[float, Range(0.01, 5, why="larger passes too easily")]  # points; so near counts as the same
    network: Text | None = None  # null: the network that counts for the method
    measure: Measure = Measure.accuracy
    kind: Literal["absolute"] = "absolute"


@_as_read
class Ordering:
    """One method is more accurate than each of the others, seed by seed. A reduced budget may judge it."""

    better: Text | None  # run name; null while there is no experiment for it
    worse: tuple[Text, ...]  # run names; all must be beaten; none if and only if `better` is null
    at_least: Points  # the improvement claimed is above this
    meaningful: Counts  # points; an improvement below this would not count
    claimed: Gain | None = None  # points; the paper's improvement where it was measured on the same data
    network: Text | None = None  # of `better`; null: the network that counts for the method
    differ_in: tuple[Text, ...] = ()  # if given, the only settings in which the runs may differ
    spread: Spread | None = None  # points; of the paired differences over seeds, as expected before any has run
    measure: Measure = Measure.accuracy
    kind: Literal["ordering"] = "ordering"


@_as_read
class SuccessRate:
    """One method succeeds on more data sets (one for each seed) than each of the others."""

    better: Text
    worse: tuple[Text, ...]
    success_at: Annotated[float, Range(0.01, 1, why="a share")]  # accuracy; reaching it is success
    at_least: Points  # of success rate
    meaningful: Counts  # points of success rate
    differ_in: tuple[Text, ...] = ()
    kind: Literal["success_rate"] = "success_rate"


@_as_read
class Claim:
    """A sentence that runs can speak for or against, and the rule by which they do."""

    id: Text
    says: Text
    source: Text  # section or table of the paper
    why: Text  # of the margins in the rule
    method: Text  # of the run that the claim is about; another method's run is refused
    rule: Annotated[Absolute | Ordering | SuccessRate, Field(discriminator="kind")]
    by: Origin = Origin.paper
    recipe: str = ""  # that the runs must name; empty: any
    alpha: Annotated[float, Range(0.001, 0.1, why="larger passes too easily")] = 0.05  # of every test and interval
    cost: str = ""  # what it would take, shown while it has not run
    registered: AwareDatetime | None = None  # when it was committed, before any of its runs; None: unsaid
    known_discrepancy: str = ""  # explains an expected failure; never changes the verdict

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs that are needed; empty while there is no experiment."""
        if isinstance(self.rule, Absolute):
            return (self.rule.experiment,) if self.rule.experiment else ()
        return (self.rule.better, *self.rule.worse) if self.rule.better else ()


def read_claims(path: Path) -> list[Claim]:
    """The claims in `path`, in its order; a ValueError names what is unknown, missing, impossible or twice there."""
    content = read_yaml(path)
    entries = content.get("claims") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: wants a list `claims:`")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping):
            raise ValueError(f"{path}: claim {number}: wants a mapping with a `rule`, itself a mapping")
        where = f"{path}: {entry['id'] if isinstance(entry.get('id'), str) else f'claim {number}'}"
        claim = validated(Claim, entry, f"{where}.")
        for problem in _impossible(claim, entry["rule"]):
            raise ValueError(f"{where}{problem}")
        if claim.id in claims:
            raise ValueError(f"{path}: id = {claim.id!r} is used twice; rename one")
        claims[claim.id] = claim
    return list(claims.values())


def _impossible(claim: Claim, values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with several values together."""
    rule = claim.rule
    if isinstance(rule, Absolute):
        if rule.experiment and not claim.recipe:
            yield ".recipe is missing: a number holds for one recipe only; name it"
        if rule.runs == 1 and rule.spread is not None:
            yield f".rule.spread = {rule.spread}: one run has no spread; null where the paper gives none"
        return
    if (rule.better is None) == bool(rule.worse) or rule.better in rule.worse or len(set(rule.worse)) < len(rule.worse):
        yield (f".rule: better = {rule.better!r}, worse = {list(rule.worse)}: want a name and a list of different "
               "names; or null and [] while an ordering has no experiment")  # fmt: skip
    if values.get("differ_in") == []:
        yield ".rule.differ_in = []: would allow any difference; leave it out, or name settings"
    if rule.at_least > rule.meaningful:
        yield f".rule.at_least = {rule.at_least}: must be at most meaningful, {rule.meaningful}"


def seeds(n: int) -> str:
    """So many seeds, in words."""
    return f"{n} seed{'' if n == 1 else 's'}"


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


def undecided(claim: Claim, reason: str, missing: str, **known: Any) -> Verdict:
    """INCONCLUSIVE, and what would settle it."""
    return Verdict(claim.id, Status.INCONCLUSIVE, reason, missing=missing, **known)


def write_verdicts(verdicts: Sequence[Verdict], path: Path = VERDICTS) -> None:
    """Writes all verdicts, in the claims' order."""
    write_whole(path, (json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n").encode())


def read_verdicts(path: Path = VERDICTS) -> list[Verdict]:
    """Reads what `write_verdicts` wrote; a RecordError when the file is missing or damaged."""
    return read_record(path, _verdicts, "judge again with: repro verify")


def _verdicts(text: bytes) -> list[Verdict]:
    return [Verdict(**entry | {"status": Status(entry["status"])}) for entry in json.loads(text)]

"""What can be said of a claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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

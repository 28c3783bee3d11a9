"""Verdicts as a Markdown table and as plain lines."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.numbers import NONE, signed, signed_interval, table
from repro.verify.claims import Absolute, Claim, Origin
from repro.verify.verdict import Status, Verdict

HEADINGS = {Origin.paper: "What the paper says", Origin.control: "Our own controls"}


def verdict_table(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """One row for every claim, the paper's first, then our controls."""
    by_id = {verdict.claim: verdict for verdict in verdicts}
    parts = []
    for origin, heading in HEADINGS.items():
        rows = [_row(claim, by_id.get(claim.id)) for claim in claims if claim.by is origin]
        if rows:
            header = [heading, "source", "verdict", "estimate [95 % interval]", "why"]
            parts.append(table(header, rows))
    return "\n\n".join(parts) or "No claims are listed."


def readme_table(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """A short table for the README: claim, source, verdict, estimate; the reasons are in the report."""
    by_id = {verdict.claim: verdict for verdict in verdicts}
    rows = [_row(claim, by_id.get(claim.id))[:4] for claim in claims]
    return table(["claim", "source", "verdict", "estimate [95 % interval]"], rows)


def _row(claim: Claim, verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return [claim.says, claim.source, NONE, NONE, "not judged"]
    return [claim.says, claim.source, f"**{status_words(verdict)}**", estimate(claim, verdict), reason(claim, verdict)]


def status_words(verdict: Verdict) -> str:
    """NOT_REPRODUCED -> NOT REPRODUCED, so that a table may break the line."""
    return verdict.status.value.replace("_", " ")


def estimate(claim: Claim, verdict: Verdict) -> str:
    """The difference in points with its interval; a dash where there is none."""
    if verdict.estimate is None:
        return NONE
    unit = "points from the paper's" if isinstance(claim.rule, Absolute) else "points"
    bounds = NONE if verdict.low is None or verdict.high is None else signed_interval(verdict.low, verdict.high)
    return f"{signed(verdict.estimate)} {unit}" + ("" if bounds == NONE else f" {bounds}")


def reason(claim: Claim, verdict: Verdict) -> str:
    """Why; what would settle it; what it would cost; the explanation of a known discrepancy."""
    parts = [verdict.reason]
    if verdict.status is Status.NOT_RUN and claim.cost:
        parts.append(f"Cost: {claim.cost}")
    elif verdict.status is Status.NOT_RUN:
        parts.append(verdict.missing[:1].upper() + verdict.missing[1:])
    elif verdict.missing:
        parts.append(f"To settle it: {verdict.missing}")
    if claim.known_discrepancy:
        parts.append(f"Known discrepancy: {claim.known_discrepancy}")
    return " ".join(part.rstrip().rstrip(".") + "." for part in parts if part and part.strip())


def verdict_lines(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> list[str]:
    """The same for a terminal: status, claim and estimate aligned, the reason below."""
    by_id = {verdict.claim: verdict for verdict in verdicts}
    width = max((len(status_words(verdict)) for verdict in verdicts), default=0)
    names = max((len(claim.id) for claim in claims), default=0)
    lines = []
    for claim in claims:
        verdict = by_id.get(claim.id)
        status = status_words(verdict) if verdict else "not judged"
        lines.append(f"{status:<{width}}  {claim.id:<{names}}  {estimate(claim, verdict) if verdict else NONE}")
        if verdict:
            lines.append(f"{'':<{width}}  {reason(claim, verdict)}")
    return lines


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims have each status, in words."""
    counts = {status: sum(verdict.status is status for verdict in verdicts) for status in Status}
    return ", ".join(f"{number} {status.value.replace('_', ' ')}" for status, number in counts.items() if number)

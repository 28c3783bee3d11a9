"""Verdicts as a Markdown table and as plain lines."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.numbers import NONE, count, listed, signed, signed_interval, table
from repro.verify.claims import Absolute, Claim, Origin, Status, Verdict
from repro.verify.rebuild import LEFT_OPEN

_SHOWN = 3  # departures in a row, those that no setting shows first; the settings are all in the sections

HEADINGS = {Origin.paper: "What the paper says", Origin.control: "Our own controls"}


def verdict_table(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """One row for every claim: the paper's first, then our controls, then those of both that nothing has run for."""
    by_id = {verdict.claim: verdict for verdict in verdicts}
    waiting = [claim for claim in claims if claim.id in by_id and by_id[claim.id].status is Status.NOT_RUN]
    parts = []
    for origin, heading in HEADINGS.items():
        rows = [_row(claim, by_id.get(claim.id)) for claim in claims if claim.by is origin and claim not in waiting]
        if rows:
            header = [heading, "source", "verdict", "estimate [interval]", "why", "departures"]
            parts.append(table(header, rows))
    if waiting:
        header = ["Not run yet", "source", "verdict", "what it takes", "seeds for a verdict (80 % power)"]
        parts.append(table(header, [_waiting(claim, by_id[claim.id]) for claim in waiting]))
    return "\n\n".join(parts) or "No claims are listed."


def _waiting(claim: Claim, verdict: Verdict) -> list[str]:
    status, needed = f"**{status_words(verdict)}**", verdict.seeds_needed or NONE
    return [claim.says, claim.source, status, reason(claim, verdict, brief=True), needed]


def readme_table(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> str:
    """A short table for the README: claim, source, verdict, estimate; claims without experiment share a row."""
    by_id = {verdict.claim: verdict for verdict in verdicts}
    without = [claim for claim in claims if not claim.runs]
    rows = [_row(claim, by_id.get(claim.id))[:4] for claim in claims if claim.runs]
    if without:
        sources = listed(sorted({claim.source for claim in without}, key=_by_number))
        rows.append([f"{count(len(without), 'further claim')}, which this version has no experiment for", sources,
                     "**NOT RUN**", NONE])  # fmt: skip
    return table(["claim", "source", "verdict", "estimate [interval]"], rows)


def _by_number(source: str) -> tuple[str, int, str]:
    kind, _, number = source.partition(" ")
    return kind, int(number.split()[0]) if number[:1].isdigit() else 0, source


def _row(claim: Claim, verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return [claim.says, claim.source, NONE, NONE, "not judged", NONE]
    status = f"**{status_words(verdict)}**"
    return [claim.says, claim.source, status, estimate(claim, verdict), reason(claim, verdict), departed(verdict)]


def departed(verdict: Verdict) -> str:
    """What the runs behind a verdict do otherwise than the recipe they name; settings that it leaves open, counted."""
    if verdict.status is Status.NOT_RUN:
        return NONE
    found = list(dict.fromkeys(text.split(": ", 1)[1] for text in verdict.departures))
    open_ones = [text for text in found if text.endswith(LEFT_OPEN)]
    settled = [text for text in found if text not in open_ones]
    shown = "; ".join(settled[:_SHOWN]) or "none"
    more = f"; {len(settled) - _SHOWN} more" if len(settled) > _SHOWN else ""
    return f"{shown}{more}" + (f"; {count(len(open_ones), 'setting')} left open by it" if open_ones else "")


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


def reason(claim: Claim, verdict: Verdict, *, brief: bool = False) -> str:
    """Why; what would settle it; what it would cost; seeds needed, unless brief; an explained discrepancy."""
    parts = [verdict.reason]
    if verdict.status is Status.NOT_RUN and claim.cost:
        parts.append(f"Cost: {claim.cost}")
    elif verdict.status is Status.NOT_RUN:
        parts.append(verdict.missing[:1].upper() + verdict.missing[1:])
    elif verdict.missing:
        parts.append(f"To settle it: {verdict.missing}")
    if verdict.seeds_needed and not brief:
        parts.append(f"Seeds for a verdict with 80 % power: {verdict.seeds_needed}")
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

"""A section for each data set of the paper's tables: its rows, and what we have beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.report.numbers import NONE, count, table
from repro.report.published import DATA_SETS, TABLE, DataSet, Number, Row, Whose, measure_of
from repro.report.tables import mean_text
from repro.report.verdicts import status_words
from repro.verify.claims import Absolute, Claim, Measure, Status, Verdict
from repro.verify.rebuild import Scores

_WHOSE = {Whose.authors: "authors' own", Whose.quoted: "quoted"}
_OPEN = (Status.NOT_RUN, Status.INCONCLUSIVE)


def published_sections(
    rows: Sequence[Row], scores: Mapping[str, Scores], claims: Sequence[Claim], verdicts: Sequence[Verdict]
) -> list[str]:
    """One section for each data set of which there are rows, whether anything has run or not."""
    judged = {verdict.claim: verdict for verdict in verdicts}
    by_id = {claim.id: claim for claim in claims}
    found = []
    for data in DATA_SETS:
        shown = [row for row in rows if row.numbers.keys() & data.columns.keys()]
        if shown:
            lines = [_line(data, row, scores, by_id, judged) for row in shown]
            parts = [f"## {data.heading}", _intro(data), _table(data, lines), _cost(data, shown, by_id, judged)]
            found.append("\n\n".join(part for part in parts if part))
    return found


def _intro(data: DataSet) -> str:
    measures = " and ".join(data.columns.values())
    return (
        f"{data.rows} The paper's numbers: {data.protocol}; *quoted* ones the authors took from the methods' own "
        f"papers. Our {measures}: final weights, recomputed from stored predictions, mean over seeds ± half its 95 % "
        "interval."
    )


def _table(data: DataSet, lines: list[list[str]]) -> str:
    paper = [f"the paper's {measure} (%)" for measure in data.columns.values()]
    ours = [cell for measure in data.columns.values() for cell in (f"our {measure} (%)", "verdict")]
    return table(["method", *paper, "whose run", *ours], lines)


def _line(
    data: DataSet, row: Row, scores: Mapping[str, Scores], claims: Mapping[str, Claim], judged: Mapping[str, Verdict]
) -> list[str]:
    paper = [_paper(row.numbers.get(column)) for column in data.columns]
    ours = [
        cell for column in data.columns
        for cell in _beside(row.numbers.get(column), measure_of(column), scores, claims, judged)
    ]  # fmt: skip
    return [_name(row), *paper, _WHOSE[row.whose], *ours]


def _beside(
    number: Number | None,
    measure: Measure,
    scores: Mapping[str, Scores],
    claims: Mapping[str, Claim],
    judged: Mapping[str, Verdict],
) -> list[str]:
    """What of ours stands beside a number of the paper, and its verdict."""
    if number is None:
        return [NONE, NONE]
    if number.claim:
        return _by_claim(claims[number.claim], scores, judged.get(number.claim))
    return _by_run(number.run, measure, scores)


def _name(row: Row) -> str:
    """The method, with its table where that is not the one whose every row is shown."""
    return row.method if row.table == TABLE else f"{row.method} ({row.table})"


def _paper(number: Number | None) -> str:
    """As precisely as the paper gives it: 71.5, 96.11 ± 0.07."""
    if number is None:
        return NONE
    if number.spread is not None:
        return f"{number.value:.2f} ± {number.spread:.2f}"
    return f"{number.value:.1f}" if number.value == round(number.value, 1) else f"{number.value:.2f}"


def _by_claim(claim: Claim, scores: Mapping[str, Scores], verdict: Verdict | None) -> list[str]:
    """Our accuracy and the verdict; no accuracy where the evidence was refused."""
    found = scores.get(claim.runs[0]) if claim.runs else None
    status = f"**{status_words(verdict)}**" if verdict else "not judged"
    if found is None:
        return [NONE, status]
    if found.problems or (verdict and verdict.problems):
        return [f"{NONE} (refused)", status]
    rule = claim.rule
    network, measure = (rule.network, rule.measure) if isinstance(rule, Absolute) else (None, Measure.accuracy)
    return [_ours(found, network, measure), status]


def _by_run(name: str, measure: Measure, scores: Mapping[str, Scores]) -> list[str]:
    """Our accuracy beside a number that no claim judges."""
    if not name:
        return [NONE, "not run by us"]
    found = scores.get(name)
    if found is None:
        return [NONE, f"not run yet: `{name}`"]
    if found.problems:
        return [f"{NONE} (refused)", f"not judged: `{name}`"]
    kept = "a reduced budget or departures from its recipe" if found.reduced else "its recipe at full budget"
    return [_ours(found, None, measure), f"not judged: `{name}`, {kept}"]


def _ours(found: Scores, network: str | None, measure: Measure) -> str:
    values = list(found.measured(measure).get(network or found.counted, {}).values())
    if not values:
        return NONE
    named = f", {network}" if network and network != found.counted else ""
    return f"{mean_text(values)} over {count(len(values), 'seed')}{named}"


def _cost(data: DataSet, rows: Sequence[Row], claims: Mapping[str, Claim], judged: Mapping[str, Verdict]) -> str:
    """What it would take to settle the claims that no run has settled; equal costs are named once."""
    methods: dict[str, list[str]] = {}
    numbers = [(row, row.numbers[column]) for row in rows for column in data.columns if column in row.numbers]
    for row, number in numbers:
        claim = claims[number.claim] if number.claim else None
        if claim and claim.cost and (claim.id not in judged or judged[claim.id].status in _OPEN):
            named = methods.setdefault(claim.cost.rstrip(". \n"), [])
            named += [] if _name(row) in named else [_name(row)]
    sentences = [f"{'; '.join(names)}: {cost}." for cost, names in methods.items()]
    return f"**What runs of ours would cost.** {' '.join(sentences)}" if sentences else ""

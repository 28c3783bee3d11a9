"""The report on one page: the project's three questions, each answered from the recorded runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repro.report.attribution import Step, attribution_rows
from repro.report.bias import BIAS_HEADER, Bias, bias_row
from repro.report.groups import Group
from repro.report.numbers import count, table
from repro.report.pictures import Picture, markdown
from repro.report.verdicts import status_words, tally
from repro.verify.claims import Absolute, Claim, Origin, Status, Verdict
from repro.verify.statistics import FEWEST_SEEDS


@dataclass(frozen=True)
class Evidence:
    """What a group of runs has to say on the second and third question."""

    group: Group
    steps: Sequence[Step]
    bias: Sequence[Bias]
    carried: Picture | None  # the waterfall
    wrong: Picture | None  # pseudo labels along training


def one_page(claims: Sequence[Claim], verdicts: Sequence[Verdict], evidence: Sequence[Evidence]) -> str:
    """Three questions, their answers and two pictures; empty while nothing is judged."""
    judged = {verdict.claim: verdict for verdict in verdicts}
    if not judged:
        return ""
    told = [one for one in evidence if one.steps or one.bias]
    parts = [
        "## On one page",
        f"**Does the number hold?** {_numbers(claims, judged)}",
        f"**Which part carries it?** {_parts(told)}",
        f"**Does feedback cure confirmation bias?** {_bias(told)}",
        *_pictures(told),
        _not_said(claims, judged),
    ]
    return "\n\n".join(part for part in parts if part)


def _numbers(claims: Sequence[Claim], judged: Mapping[str, Verdict]) -> str:
    """The paper's own numbers first, then what else it says."""
    own = [claim for claim in claims if claim.by is Origin.paper and claim.id in judged]
    numbers = [claim for claim in own if isinstance(claim.rule, Absolute)]
    others = [claim for claim in own if claim not in numbers]

    def _tally_of(chosen: Sequence[Claim]) -> str:
        return tally([judged[claim.id] for claim in chosen]) or "none"

    said = f"Of {count(len(numbers), 'number')} of the paper: {_tally_of(numbers)}. "
    return said + f"Of {count(len(others), 'ordering')} that it states or implies: {_tally_of(others)}." + "".join(
        f" *{claim.says}*: {status_words(judged[claim.id])}." for claim in others
        if judged[claim.id].status is Status.NOT_REPRODUCED
    )  # fmt: skip


def _parts(evidence: Sequence[Evidence]) -> str:
    """What each part adds, in every setting in which it was taken apart."""
    rows = [row for one in evidence for row in attribution_rows(one.group.heading, one.steps)]
    if not rows:
        return "No setting has been taken apart yet: it takes supervised learning, UDA, h = 0 and MPL."
    header = ["setting", "part, on top of those above", "accuracy (%)", "adds (points)", "seeds"]
    return f"Each part on top of the ones before, paired by seed.\n\n{table(header, rows, right=3)}"


def _bias(evidence: Sequence[Evidence]) -> str:
    rows = [row for one in evidence if (row := bias_row(one.group.heading, one.bias))]
    if not rows:
        return "No pair of runs with and without feedback is recorded."
    return f"Pseudo labels that are wrong, with and without it.\n\n{table(BIAS_HEADER, rows, right=5)}"


def _pictures(evidence: Sequence[Evidence]) -> list[str]:
    """Of the first setting that was taken apart with seeds enough, which is the nearest to the paper's."""
    drawn = [one for one in evidence if one.carried]
    enough = (one for one in drawn if one.steps and one.steps[-1].n >= FEWEST_SEEDS)
    chosen = next(enough, drawn[0] if drawn else None)
    return [markdown(picture) for picture in (chosen.carried, chosen.wrong) if picture] if chosen else []


def _not_said(claims: Sequence[Claim], judged: Mapping[str, Verdict]) -> str:
    """What nobody should read into this page."""
    numbers = [claim.id for claim in claims if isinstance(claim.rule, Absolute) and claim.id in judged]
    not_run = [name for name in numbers if judged[name].status is Status.NOT_RUN]
    if not not_run:
        return ""
    were = "was" if len(not_run) == 1 else "were"
    return (
        f"**What this page does not say.** {count(len(not_run), 'number')} of the paper {were} not run here; the table "
        "of what has not run says what each would cost and how many seeds a verdict needs. Orderings on small problems "
        "say whether a mechanism works there, not that it fails at the paper's scale."
    )

"""The whole report: verdicts first, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from repro.evaluate.run import EvaluatedRun
from repro.report.arms import arms_of
from repro.report.groups import grouped
from repro.report.provenance import cost_table, provenance
from repro.report.published import Row
from repro.report.published_sections import published_sections
from repro.report.sections import Section, section
from repro.report.summary import one_page
from repro.report.verdicts import tally, verdict_table
from repro.verify.claims import Claim, Verdict
from repro.verify.rebuild import Scores

_TITLE = """# Meta Pseudo Labels: what holds

Generated from the recorded runs; do not edit. *Meta Pseudo Labels* (Pham et al. 2021, arXiv 2003.10580) trains a
teacher by how well its student does on labelled data. This report says which of its claims the recorded runs support,
with the numbers they rest on: every accuracy is recomputed from stored predictions and the data sets' own labels."""

_CLOSING = """## How to read this

- **REPRODUCED**, **NOT REPRODUCED**, **EXCEEDED**: the interval, not just the estimate, lies inside the stated margin
  or wholly beyond it (an ordering: above or below its bound). It is the 95 % interval; for a number of the paper the
  90 % one, which belongs to two one-sided tests of 5 %. **INCONCLUSIVE**: it does not, or numbers were refused; the row
  says what would settle it. **NOT RUN**: no recorded run speaks to the claim; the row says what one would cost.
- A run that departs from the paper's recipe or budget judges orderings between methods only, never the paper's numbers.
- Arms of a comparison share data, labels, order of batches and random draws, seed by seed, so differences are
  **paired**: a seed counts once, whatever makes it easy or hard. Intervals are 95 %: Student's t for means, Clopper and
  Pearson's exact one for shares.
- p-values are two-sided; within a section they are corrected for the number of comparisons (Holm). A large p does not
  show that there is no effect: the interval says how large one could still be.
- **h** is the student's feedback: positive when learning the pseudo labels lowered its labelled loss. **h = 0** is the
  same training with the feedback switched off, **reversed** with its sign flipped, **shuffled** with that of another
  step.
- A dash (–) stands for what cannot be said, such as an interval from one seed.

Recompute everything with `make reproduce`; check verdicts and code with `make test`."""


@dataclass(frozen=True)
class Report:
    """Text that links its figures as figures/<key>.png."""

    markdown: str
    figures: dict[str, Figure]


def render(
    runs: Mapping[str, Sequence[EvaluatedRun]],
    scores: Mapping[str, Scores],
    claims: Sequence[Claim],
    verdicts: Sequence[Verdict],
    published: Sequence[Row],
) -> Report:
    """The report on all `runs`, each in the section of its group, after the paper's tables, `published`.

    With no run it says that nothing has run; the paper's tables are there all the same.
    """
    names = runs.keys() | scores.keys()
    sections = [section(group, arms_of(group, members, runs, scores), runs) for group, members in grouped(names)]
    evidence = [_listed(part) for part in sections if part.evidence]
    pictures = [picture for part in sections for picture in part.pictures]
    parts = [
        _TITLE,
        "" if runs else "**Nothing has run yet**, so there are no results below.",
        one_page(claims, verdicts, [part.summary for part in sections if part.summary]) if runs else "",
        "## Verdicts",
        f"{len(claims)} claims: {tally(verdicts)}." if verdicts else "",
        verdict_table(claims, verdicts),
        "## What the evidence says" if evidence else "",
        "\n".join(evidence),
        *published_sections(published, scores, claims, verdicts),
        *(part.markdown for part in sections),
        f"## Cost and provenance\n\n{provenance(runs)}\n\n{cost_table(runs)}" if runs else "",
        _CLOSING,
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return Report(text, {picture.key: picture.figure for picture in pictures})


def _listed(part: Section) -> str:
    return "\n".join([f"- **{part.heading}**", *(f"  - {sentence}" for sentence in part.evidence)])

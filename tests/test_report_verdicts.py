"""Verdicts as the report and the terminal show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.report.verdicts import verdict_lines, verdict_table
from repro.verify.claims import Absolute, Claim, Origin, Status, Verdict
from tests.report_cases import make_claim


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_shown(status: Status) -> None:
    """Whatever the verdict, its row is there with the estimate and the reason."""
    verdict = Verdict("one", status, "a | b", estimate=-0.5, low=-1.0, high=0.0, n=5)
    words = status.value.replace("_", " ")
    expected = f"| one holds | Table 2 | **{words}** | −0.50 points [−1.00, 0.00] | a \\| b. | none |"
    if status is Status.NOT_RUN:
        expected = "| one holds | Table 2 | **NOT RUN** | a \\| b. | 4 seeds |"
        verdict = replace(verdict, seeds_needed="4 seeds")
    assert expected == verdict_table([make_claim("one")], [verdict]).splitlines()[-1]


def test_departures_stand_beside_the_verdict() -> None:
    """The settled ones by name, the open ones counted, the same of two runs once."""
    texts = ["a: budget.steps: 5, prescribed 9", "b: budget.steps: 5, prescribed 9", "a: x: 1, left open by the recipe",
             "a: y: 2, prescribed 3", "a: z: 2, prescribed 3", "a: w: 2, prescribed 3"]  # fmt: skip
    row = verdict_table([make_claim("one")], [Verdict("one", Status.REPRODUCED, "r", departures=texts)]).splitlines()[
        -1
    ]

    shown = "budget.steps: 5, prescribed 9; y: 2, prescribed 3; z: 2, prescribed 3; 1 more; 1 setting left open by it"
    assert row.endswith(f"| r. | {shown} |")


def test_claims_without_verdict_and_controls_are_shown() -> None:
    """A claim that was not judged has a row, and our controls stand in a table of their own."""
    claims = [make_claim("one"), make_claim("two", Origin.control, discrepancy="known")]
    text = verdict_table(claims, [Verdict("two", Status.INCONCLUSIVE, "r", missing="3 more seeds")])
    assert "| one holds | Table 2 | – | – | not judged | – |" in text
    controls = text.partition("| Our own controls")[2]
    assert "r. To settle it: 3 more seeds. Known discrepancy: known." in controls


def test_an_absolute_estimate_is_called_a_distance() -> None:
    """The estimate for a number of the paper is a distance from it, and the table says so."""
    claim = Claim("c", "s", "Table 2", "w", "mpl", Absolute("run", 96.11, 0.07, 10, 0.25), recipe="paper")
    text = verdict_table([claim], [Verdict("c", Status.REPRODUCED, "r", estimate=0.03, low=-0.1, high=0.16)])
    assert "+0.03 points from the paper's [−0.10, +0.16]" in text


def test_terminal_lines_are_aligned() -> None:
    """Claims start in the same column whatever the length of the status."""
    claims = [make_claim("one"), make_claim("two")]
    verdicts = [Verdict("one", Status.NOT_REPRODUCED, "r"), Verdict("two", Status.NOT_RUN, "r")]
    lines = verdict_lines(claims, verdicts)
    assert [lines[0].index("one")] * 2 == [lines[2].index("two"), lines[1].index("r.")]

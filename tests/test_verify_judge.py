"""The verdict: every status of every kind of claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from repro.verify.claims import Ordering, Status, Verdict
from repro.verify.rules import judge
from tests.verify_cases import HIGH, LOW, MPL, NUMBER, ORDERING, SUCCESS, SUPERVISED, claim, compared, scores, with_rule

STATUSES: dict[str, tuple[Status, Callable[[], Verdict]]] = {
    "clearly better": (Status.REPRODUCED, lambda: compared(HIGH, LOW)),
    "clearly worse": (Status.NOT_REPRODUCED, lambda: compared(LOW, HIGH)),
    "better, but by too little to count": (
        Status.NOT_REPRODUCED, lambda: compared([902, 904, 903, 906, 902], [900, 901, 901, 903, 900])),
    "scattered": (Status.INCONCLUSIVE, lambda: compared([951, 890, 949], [901, 903, 930])),
    "better by more than claimed": (
        Status.EXCEEDED, lambda: compared(HIGH, LOW, with_rule(ORDERING, claimed=1.58))),
    "better, by about what is claimed": (
        Status.REPRODUCED, lambda: compared(HIGH, LOW, with_rule(ORDERING, claimed=5.0))),
    "not enough better": (
        Status.NOT_REPRODUCED,
        lambda: compared(HIGH, LOW, claim(Ordering("mpl", ("base",), at_least=20, meaningful=20)))),
    "no such run": (Status.NOT_RUN, lambda: judge(ORDERING, scores("mpl", HIGH, MPL))),
    "succeeds much more often": (Status.REPRODUCED, lambda: compared([960] * 20, [900] * 20, SUCCESS)),
    "succeeds as rarely": (Status.NOT_REPRODUCED, lambda: compared([900] * 60, [890] * 60, SUCCESS)),
    "one success more": (Status.INCONCLUSIVE, lambda: compared([960] * 10, [960] * 9 + [900], SUCCESS)),
    "no such run for success": (Status.NOT_RUN, lambda: judge(SUCCESS, {})),
    "the paper's number": (Status.REPRODUCED, lambda: judge(NUMBER, scores("mpl", [961, 962, 960, 961, 961], MPL))),
    "above the paper's number": (Status.EXCEEDED, lambda: judge(NUMBER, scores("mpl", [981, 982, 980, 981], MPL))),
    "below the paper's number": (
        Status.NOT_REPRODUCED, lambda: judge(NUMBER, scores("mpl", [941, 942, 940, 941], MPL))),
    "at the margin of the paper's number": (
        Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [963, 964, 964, 963, 964], MPL))),
    "at the margin below the paper's number": (
        Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [955, 961, 958, 955, 961], MPL))),
    "around the paper's number": (Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [951, 972, 960], MPL))),
    "two runs at the paper's number": (Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [961, 962], MPL))),
    "two runs far above": (Status.INCONCLUSIVE, lambda: judge(NUMBER, scores("mpl", [981, 982], MPL))),
    "one run far below": (Status.NOT_REPRODUCED, lambda: judge(NUMBER, scores("mpl", [900], MPL))),
    "no such run for the number": (Status.NOT_RUN, lambda: judge(NUMBER, {})),
    "no experiment yet": (
        Status.NOT_RUN, lambda: judge(with_rule(NUMBER, experiment=None), {})),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_every_status_is_reached(case: str) -> None:
    """Each kind of claim gives each status it can give, with a reason."""
    expected, verdict = STATUSES[case][0], STATUSES[case][1]()

    assert expected == verdict.status
    assert verdict.reason
    assert (expected in (Status.INCONCLUSIVE, Status.NOT_RUN)) == bool(verdict.missing)


def test_known_discrepancy_changes_nothing() -> None:
    """An explanation is for the reader; the verdict is that of the evidence."""
    explained = replace(ORDERING, known_discrepancy="explained at length")

    assert compared(LOW, HIGH) == compared(LOW, HIGH, explained)


def test_reduced_budget_may_judge_an_ordering() -> None:
    """A shortened run says which is better, and its departures stand in the verdict."""
    short = {"budget__reduced": "a tenth of the steps"}
    verdict = judge(ORDERING, scores("mpl", HIGH, MPL, **short) | scores("base", LOW, SUPERVISED, **short))

    assert Status.REPRODUCED == verdict.status
    assert "mpl: budget: a tenth of the steps, prescribed as the recipe" in verdict.departures


def test_an_older_record_has_the_defaults_of_newer_settings() -> None:
    """A record from before a setting existed is compared with one from after; a value that is no default is seen."""
    control = with_rule(ORDERING, differ_in=("method",))
    better, worse = scores("mpl", HIGH, MPL), scores("base", LOW, SUPERVISED)
    older = {name: value for name, value in better["mpl"].config.items() if name != "engine"}
    other = better["mpl"].config | {"engine": better["mpl"].config["engine"] | {"threads": 2}}

    def judged(settings: dict[str, Any]) -> Verdict:
        return judge(control, {"mpl": replace(better["mpl"], config=settings)} | worse)

    assert judge(control, better | worse) == judged(older)
    assert "differ in engine.threads" in judged(other).reason

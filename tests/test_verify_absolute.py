"""A number of the paper: the gap to it against known values, and what refutes it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from repro.verify.absolute import gap
from repro.verify.claims import Absolute, Status
from repro.verify.rules import judge
from tests.verify_cases import MPL, NUMBER, scores


@pytest.mark.parametrize("ours", [[96.0, 95.9, 96.2, 95.8], [96.2, 96.3, 96.0, 96.5]])
def test_gap_is_welchs_test(ours: list[float]) -> None:
    """Ours, below and above, against the paper's summary: the p-value of SciPy's Welch test from such summaries."""
    expected = stats.ttest_ind_from_stats(np.mean(ours), np.std(ours, ddof=1), 4, 96.11, 0.07, 10, equal_var=False)
    found = gap(ours, Absolute("mpl", 96.11, 0.07, 10, 0.25))
    verdict = judge(NUMBER, scores("mpl", [round(10 * one) for one in ours], MPL))

    assert pytest.approx(expected.pvalue) == 2 * min(found.p_above(0), found.p_below(0))
    assert pytest.approx(expected.pvalue) == verdict.p_value
    assert pytest.approx(float(np.mean(ours)) - 96.11) == verdict.estimate


def test_one_run_is_held_against_a_prediction_interval() -> None:
    """A new run lies within t(9) * S * sqrt(1 + 1/10) of the paper's mean, by hand 2.262 * 0.07 * 1.0488 = 0.166."""
    found = gap([96.11], Absolute("mpl", 96.11, 0.07, 10, 0.25))

    assert pytest.approx((-0.1661, 0.1661), abs=1e-4) == found.interval(0.05)


def test_a_single_run_of_the_paper_borrows_our_spread() -> None:
    """Where the paper has one run, its error is ours: s sqrt(1/3 + 1), and no pass comes of three scattered runs."""
    single = replace(NUMBER, rule=Absolute("mpl", value=73.9, spread=None, runs=1, margin=0.5))
    verdict = judge(single, scores("mpl", [737, 739, 741], MPL))

    assert Status.REPRODUCED != verdict.status
    assert pytest.approx(2.9200 * 0.2 * math.sqrt(4 / 3), abs=1e-4) == verdict.high
    assert "scatter as ours" in verdict.reason


def test_seeds_that_would_settle_a_number_by_hand() -> None:
    """Spread 1.0536 of 3 seeds, 0.24 points from the margin: 1.11 / ((0.24 / 2.4865)^2 - 0.07^2 / 10) = 125.8."""
    quantiles = 1.644854 + 0.841621  # of 5 % to one side and of 80 % power
    total = math.ceil(1.11 / ((0.24 / quantiles) ** 2 - 0.07**2 / 10))

    assert 126 == total
    assert f"about {total - 3} seeds more (" in judge(NUMBER, scores("mpl", [951, 972, 960], MPL)).missing
    at_the_margin = judge(NUMBER, scores("mpl", [963, 964, 964, 963, 964], MPL))
    assert "the paper's own runs leave its mean too uncertain" in at_the_margin.missing


def test_a_number_that_is_not_judged_is_still_told_from_the_papers() -> None:
    """Ours minus the paper's, of a reduced budget and of one run beside a number without spread."""
    reduced = judge(NUMBER, scores("mpl", [951, 961], MPL, budget__reduced="a tenth of the steps"))
    single = replace(NUMBER, rule=Absolute("mpl", value=73.9, spread=None, runs=1, margin=0.5))
    alone = judge(single, scores("mpl", [737], MPL))

    assert [Status.INCONCLUSIVE] * 2 == [reduced.status, alone.status]
    assert (pytest.approx(-0.51), 2) == (reduced.estimate, reduced.n)
    assert (pytest.approx(-0.2), 1) == (alone.estimate, alone.n)

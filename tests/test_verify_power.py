"""How many seeds a verdict needs: against simulated runs that are judged for real, and the table's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from repro.verify.absolute import gap
from repro.verify.claims import Absolute, Status
from repro.verify.power import chance_to_confirm, chance_to_refute, needed
from repro.verify.rules import judge
from repro.verify.statistics import FEWEST_SEEDS
from tests.verify_cases import MPL, NUMBER, ORDERING, SUCCESS, SUPERVISED, claim, scores, with_rule

RULE = Absolute("mpl", value=96.11, spread=0.3, runs=10, margin=0.5)


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize("true_gap", [0.0, -0.8])
def test_the_chance_of_a_verdict_is_that_of_simulated_runs(true_gap: float, seeds: int) -> None:
    """Drawn runs, and a drawn mean of the paper's ten, are judged as often as computed (4,000 draws, 3 errors)."""
    draws, rng = 4000, np.random.default_rng(7)
    confirmed = refuted = 0
    for _ in range(draws):
        papers = replace(RULE, value=96.11 + rng.normal(0, 0.3 / np.sqrt(10)))
        found = gap(list(96.11 + true_gap + rng.normal(0, 0.3, seeds)), papers)
        confirmed += found.p_within(0.5) < 0.05
        refuted += found.p_below(-0.5) < 0.05

    assert pytest.approx(confirmed / draws, abs=0.025) == chance_to_confirm(RULE, true_gap, seeds, 0.05)
    assert pytest.approx(refuted / draws, abs=0.025) == chance_to_refute(RULE, true_gap, seeds, 0.05)


def test_two_seeds_never_confirm_a_number() -> None:
    """The rule wants three, whatever the spread."""
    assert 0 == chance_to_confirm(replace(RULE, spread=1e-3), 0.0, 2, 0.05)


def test_a_margin_within_the_papers_own_error_cannot_be_confirmed() -> None:
    """Where the paper's mean is known no better than the margin, no number of our seeds helps, and that is said."""
    hopeless = replace(NUMBER, rule=replace(RULE, spread=1.0, margin=0.3))

    found = needed(hopeless, {})

    assert found.confirm is None
    assert "no affordable number of seeds if the claim holds" in found.in_words()


def test_a_number_without_spread_says_nothing_before_it_runs() -> None:
    """A single run of the paper does not tell how many seeds are needed."""
    assert needed(claim(replace(RULE, spread=None, runs=1)), {}) is None


def test_an_ordering_takes_the_recorded_spread_before_the_declared_one() -> None:
    """Recorded differences 0 and 10 points apart scatter more than the declared 0.1, and need more seeds."""
    declared = with_rule(ORDERING, spread=0.1)
    noisy = scores("mpl", [900, 1000, 900, 1000], MPL) | scores("base", [900] * 4, SUPERVISED)

    before, after = needed(declared, {}), needed(declared, noisy)

    assert (before.confirm, before.refute) == (FEWEST_SEEDS, FEWEST_SEEDS)
    assert after.refute > 500
    assert "5.77 points, as recorded" in after.assumes


def test_an_ordering_without_any_spread_says_nothing() -> None:
    """Neither recorded nor declared."""
    assert needed(ORDERING, {}) is None
    assert needed(SUCCESS, {}) is None


def test_open_verdicts_say_how_many_seeds_they_need() -> None:
    """NOT_RUN and INCONCLUSIVE carry the number, a settled verdict does not."""
    not_run = judge(NUMBER, {})
    open_one = judge(NUMBER, scores("mpl", [961, 962], MPL))
    settled = judge(NUMBER, scores("mpl", [961, 962, 960], MPL))

    assert [Status.NOT_RUN, Status.INCONCLUSIVE, Status.REPRODUCED] == [v.status for v in (not_run, open_one, settled)]
    assert "3 seeds if the claim holds" in not_run.seeds_needed == open_one.seeds_needed
    assert not settled.seeds_needed

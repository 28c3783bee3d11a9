"""The verdict: every status of every kind of claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from repro.verify.claims import Absolute, Claim, Ordering, Status, Verdict
from repro.verify.power import chance_to_confirm, chance_to_refute, needed
from repro.verify.rules import judge, status_of
from repro.verify.statistics import FEWEST_SEEDS, Gap, gap_of
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


# A number of the paper


def gap(*ours: float) -> Gap | None:
    """Of runs of ours, in %, to the paper's 96.11 ± 0.07 over ten."""
    deviation = float(np.std(ours, ddof=1)) if len(ours) > 1 else math.nan
    return gap_of(float(np.mean(ours)), deviation, len(ours), Absolute("mpl", 96.11, 0.07, 10, 0.25))


@pytest.mark.parametrize("ours", [[96.0, 95.9, 96.2, 95.8], [96.2, 96.3, 96.0, 96.5]])
def test_gap_is_welchs_test(ours: list[float]) -> None:
    """Ours, below and above, against the paper's summary: the p-value of SciPy's Welch test from such summaries."""
    expected = stats.ttest_ind_from_stats(np.mean(ours), np.std(ours, ddof=1), 4, 96.11, 0.07, 10, equal_var=False)
    found = gap(*ours)
    verdict = judge(NUMBER, scores("mpl", [round(10 * one) for one in ours], MPL))

    assert pytest.approx(expected.pvalue) == 2 * min(found.p_above(0), found.p_below(0))
    assert pytest.approx(expected.pvalue) == verdict.p_value
    assert pytest.approx(float(np.mean(ours)) - 96.11) == verdict.estimate


def test_one_run_is_held_against_a_prediction_interval() -> None:
    """A new run lies within t(9) * S * sqrt(1 + 1/10) of the paper's mean, by hand 2.262 * 0.07 * 1.0488 = 0.166."""
    found = gap(96.11)

    assert pytest.approx((-0.1661, 0.1661), abs=1e-4) == found.interval(0.05)


def test_a_single_run_of_the_paper_borrows_our_spread() -> None:
    """Where the paper has one run, its error is ours: s sqrt(1/3 + 1), and no pass comes of three scattered runs."""
    single = replace(NUMBER, rule=Absolute("mpl", value=73.9, spread=None, runs=1, margin=0.5))
    verdict = judge(single, scores("mpl", [737, 739, 741], MPL))

    assert Status.REPRODUCED != verdict.status
    assert pytest.approx(2.9200 * 0.2 * math.sqrt(4 / 3), abs=1e-4) == verdict.high
    assert "scatter as ours" in verdict.reason


def test_a_number_that_is_not_judged_is_still_told_from_the_papers() -> None:
    """Ours minus the paper's, of a reduced budget and of one run beside a number without spread."""
    reduced = judge(NUMBER, scores("mpl", [951, 961], MPL, budget__reduced="a tenth of the steps"))
    single = replace(NUMBER, rule=Absolute("mpl", value=73.9, spread=None, runs=1, margin=0.5))
    alone = judge(single, scores("mpl", [737], MPL))

    assert [Status.INCONCLUSIVE] * 2 == [reduced.status, alone.status]
    assert (pytest.approx(-0.51), 2) == (reduced.estimate, reduced.n)
    assert (pytest.approx(-0.2), 1) == (alone.estimate, alone.n)


# One method against others


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0.1, 0.4, Status.NOT_REPRODUCED), (0.1, 0.6, Status.REPRODUCED), (0.0, 0.6, Status.INCONCLUSIVE),
    (-0.1, 0.5, Status.INCONCLUSIVE), (2.0, 3.0, Status.REPRODUCED), (2.1, 3.0, Status.EXCEEDED),
])  # fmt: skip
def test_bounds_of_the_rule(low: float, high: float, expected: Status) -> None:
    """At a bound the answer is the weaker one; an interval between nothing and what counts refutes the claim."""
    assert expected == status_of(low, high, Ordering("a", ("b",), at_least=0.0, meaningful=0.5, claimed=1.5))


def test_all_others_must_be_beaten() -> None:
    """One unbeaten method is enough to refute, and the verdict is about that one."""
    both = replace(ORDERING, rule=Ordering("mpl", ("base", "strong"), at_least=0.0, meaningful=0.5))
    evidence = scores("mpl", HIGH, MPL) | scores("base", LOW, SUPERVISED)
    strong = scores("strong", [990, 991, 989, 992, 990], {"name": "uda"})
    verdict = judge(both, evidence | strong)

    assert Status.NOT_REPRODUCED == verdict.status
    assert "mpl against strong" in verdict.reason


def test_of_two_that_are_beaten_the_nearer_decides() -> None:
    """By 5 points and by 2 points: the verdict is on the 2, in whichever order they are named."""
    close = scores("close", [931, 935, 929, 933, 938], {"name": "uda"})
    evidence = scores("mpl", HIGH, MPL) | scores("base", LOW, SUPERVISED) | close

    for named in (("base", "close"), ("close", "base")):
        verdict = judge(claim(Ordering("mpl", named, at_least=0.0, meaningful=0.5)), evidence)
        assert (Status.REPRODUCED, pytest.approx(1.98)) == (verdict.status, verdict.estimate)


def test_numbers_of_the_verdict() -> None:
    """Differences 2, 3, 4 points: estimate 3, interval 3 +- 4.303 / sqrt 3, p of t = 5.196 with n - 1 = 2.

    With alpha = 0.1 the interval is of level 90 %: 3 +- 2.920 / sqrt 3.
    """
    verdict, wider = (compared([920, 930, 940], [900] * 3, replace(ORDERING, alpha=alpha)) for alpha in (0.05, 0.1))

    assert pytest.approx((3, 3 - 2.4841, 3 + 2.4841), abs=1e-4) == (verdict.estimate, verdict.low, verdict.high)
    assert pytest.approx(0.0351, abs=1e-4) == verdict.p_value
    assert 3 == verdict.n
    assert pytest.approx((3 - 1.6859, 3 + 1.6859), abs=1e-4) == (wider.low, wider.high)


@pytest.mark.parametrize(("seeds", "estimate", "said"), [
    ({0: 900, 1: 910}, 5.5, "2 seeds in common, too few"), ({7: 900}, None, "0 seeds in common, too few"),
    ({0: 900, 1: 910, 2: 901, 9: 800}, 5.6, "3 seeds (2 seeds without a partner left out)"),
])  # fmt: skip
def test_only_common_seeds_are_compared(seeds: dict[int, int], estimate: float | None, said: str) -> None:
    """Of 96, 96, 95.9 and 99 % with seeds 0 to 3; the reason counts common seeds and those that are left out."""
    evidence = scores("mpl", [960, 960, 959, 990], MPL) | scores("base", seeds, SUPERVISED)

    verdict = judge(ORDERING, evidence)

    assert (estimate is None and verdict.estimate is None) or pytest.approx(estimate) == verdict.estimate
    assert said in verdict.reason


def test_reaching_the_bound_is_success() -> None:
    """950 of 1,000 reach 95 %, 949 do not: 20 successes against none, whatever side the run stands on."""
    at, below = [950] * 20, [949] * 20

    assert [100.0, -100.0] == [compared(at, below, SUCCESS).estimate, compared(below, at, SUCCESS).estimate]


def test_an_ordering_may_be_about_finetuned_weights() -> None:
    """The named network of the better run is compared to the other's own; a run without it is refused by name."""
    about = with_rule(ORDERING, network="student_finetuned")
    plain, base = scores("mpl", [900, 901, 902], MPL)["mpl"], scores("base", [880, 881, 885], SUPERVISED)["base"]
    tuned = replace(plain, accuracy=plain.accuracy | {"student_finetuned": {0: 0.95, 1: 0.96, 2: 0.94}})
    verdict = judge(about, {"mpl": tuned, "base": base})

    assert pytest.approx(6.8, abs=1e-3) == verdict.estimate
    assert "mpl (student_finetuned) against base" in verdict.reason
    assert "has no accuracy of the network 'student_finetuned'" in judge(about, {"mpl": plain, "base": base}).reason


# How many seeds a verdict needs


RULE = Absolute("mpl", value=96.11, spread=0.3, runs=10, margin=0.5)


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize("true_gap", [0.0, -0.8])
def test_the_chance_of_a_verdict_is_that_of_simulated_runs(true_gap: float, seeds: int) -> None:
    """Drawn runs, and a drawn mean of the paper's ten, are judged as often as computed (4,000 draws, 3 errors)."""
    draws, rng = 4000, np.random.default_rng(7)
    confirmed = refuted = 0
    for _ in range(draws):
        papers = replace(RULE, value=96.11 + rng.normal(0, 0.3 / np.sqrt(10)))
        ours = 96.11 + true_gap + rng.normal(0, 0.3, seeds)
        found = gap_of(ours.mean(), ours.std(ddof=1), seeds, papers)
        confirmed += found.p_within(0.5) < 0.05
        refuted += found.p_below(-0.5) < 0.05

    assert pytest.approx(confirmed / draws, abs=0.025) == chance_to_confirm(RULE, true_gap, seeds, 0.05)
    assert pytest.approx(refuted / draws, abs=0.025) == chance_to_refute(RULE, true_gap, seeds, 0.05)
    assert 0 == chance_to_confirm(replace(RULE, spread=1e-3), 0.0, 2, 0.05)  # the rule wants three


def test_seeds_of_a_number_are_the_fewest_with_enough_power() -> None:
    """80 % to confirm no gap, and to refute one of twice the margin; with a seed fewer, less."""
    rule = replace(RULE, runs=30)
    found = needed(claim(rule), {})

    for seeds, chance, gap in ((found.confirm, chance_to_confirm, 0.0), (found.refute, chance_to_refute, -1.0)):
        assert chance(rule, gap, seeds - 1, 0.05) < 0.8 <= chance(rule, gap, seeds, 0.05)


def test_seeds_of_an_ordering_by_hand() -> None:
    """Twice what counts, 1 point, is told from 0 by 10 seeds; no difference from 0.5 points by 34 (Cohen 1988)."""
    found = needed(with_rule(ORDERING, spread=1.0), {})

    assert (10, 34) == (found.confirm, found.refute)


def test_the_most_scattered_of_several_comparisons_decides_on_seeds() -> None:
    """Differences to `base` scatter by 1 point, to `close` by 2: all must be beaten, so 2 points count."""
    rule = claim(Ordering("mpl", ("base", "close"), at_least=0.0, meaningful=0.5))
    evidence = scores("mpl", [910, 920, 930], MPL) | scores("base", [900] * 3, SUPERVISED)

    found = needed(rule, evidence | scores("close", [890, 920, 950], {"name": "uda"}))

    assert pytest.approx(2) == found.spread


def test_a_margin_within_the_papers_own_error_cannot_be_confirmed() -> None:
    """Where the paper's mean is known no better than the margin, no number of our seeds helps, and that is said."""
    hopeless = replace(NUMBER, rule=replace(RULE, spread=1.0, margin=0.3))

    found = needed(hopeless, {})

    assert found.confirm is None
    assert "no affordable number of seeds if the claim holds" in found.in_words()


@pytest.mark.parametrize("of", [claim(replace(RULE, spread=None, runs=1)), ORDERING, SUCCESS])
def test_a_claim_without_spread_says_nothing_before_it_runs(of: Claim) -> None:
    """Neither a single run of the paper, nor what is neither recorded nor declared, tells how many seeds are needed."""
    assert needed(of, {}) is None


def test_an_ordering_takes_the_recorded_spread_before_the_declared_one() -> None:
    """Recorded differences 0 and 10 points apart scatter more than the declared 0.1, and need more seeds."""
    declared = with_rule(ORDERING, spread=0.1)
    noisy = scores("mpl", [900, 1000, 900, 1000], MPL) | scores("base", [900] * 4, SUPERVISED)

    before, after = needed(declared, {}), needed(declared, noisy)

    assert (before.confirm, before.refute) == (FEWEST_SEEDS, FEWEST_SEEDS)
    assert after.refute > 500
    assert "5.77 points, as recorded" in after.assumes


def test_open_verdicts_say_how_many_seeds_they_need() -> None:
    """NOT_RUN and INCONCLUSIVE carry the number, a settled verdict does not."""
    not_run = judge(NUMBER, {})
    open_one = judge(NUMBER, scores("mpl", [961, 962], MPL))
    settled = judge(NUMBER, scores("mpl", [961, 962, 960], MPL))

    assert [Status.NOT_RUN, Status.INCONCLUSIVE, Status.REPRODUCED] == [v.status for v in (not_run, open_one, settled)]
    assert "3 seeds if the claim holds" in not_run.seeds_needed == open_one.seeds_needed
    assert not settled.seeds_needed

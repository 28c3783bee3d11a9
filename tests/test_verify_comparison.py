"""One method against others: the bounds of the rule, and the numbers of the verdict."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from repro.verify.claims import Ordering, Status, Verdict
from repro.verify.rules import judge, status_of
from tests.verify_cases import HIGH, LOW, MPL, ORDERING, SUCCESS, SUPERVISED, compared, scores, with_rule


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.4, Status.NOT_REPRODUCED), (0.1, 0.6, Status.REPRODUCED), (0.0, 0.6, Status.INCONCLUSIVE),
     (-0.1, 0.5, Status.INCONCLUSIVE), (2.0, 3.0, Status.REPRODUCED), (2.1, 3.0, Status.EXCEEDED)],
)  # fmt: skip
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


def test_numbers_of_the_verdict() -> None:
    """Differences 2, 3, 4 points: estimate 3, interval 3 +- 4.303 / sqrt 3, p of t = 5.196 with n - 1 = 2."""
    verdict = compared([920, 930, 940], [900, 900, 900])

    assert pytest.approx((3, 3 - 2.4841, 3 + 2.4841), abs=1e-4) == (verdict.estimate, verdict.low, verdict.high)
    assert pytest.approx(0.0351, abs=1e-4) == verdict.p_value
    assert 3 == verdict.n


def test_the_level_is_the_claims_own() -> None:
    """With alpha = 0.1 the interval of the same differences is 3 +- 2.920 / sqrt 3, of level 90 %."""
    verdict = compared([920, 930, 940], [900, 900, 900], replace(ORDERING, alpha=0.1))

    assert pytest.approx((3 - 1.6859, 3 + 1.6859), abs=1e-4) == (verdict.low, verdict.high)


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


def test_data_sets_that_would_settle_success_rates() -> None:
    """With so many more, at the same shares, there is a verdict; with a fifth fewer there is none."""

    def at(tens: int) -> Verdict:
        second = [960] * 4 * tens + [900] * 4 * tens + [960] * tens + [900] * tens
        return compared([960] * 8 * tens + [900] * 2 * tens, second, SUCCESS)

    found = re.match(r"about (\d+) seeds more \(should the shares stay as observed\)", at(1).missing)

    needed = (10 + int(found[1])) / 10
    assert Status.INCONCLUSIVE == at(round(0.8 * needed)).status != at(math.ceil(1.05 * needed)).status

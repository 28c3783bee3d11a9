"""Statistics against known values: tables, SciPy, enumeration and numbers by hand."""

from __future__ import annotations

import math
from itertools import product

import pytest
from scipy import stats

from repro.verify import statistics


def test_mean_interval_is_students() -> None:
    """For 1 to 5 the interval is 3 +- 2.776 * sqrt(2.5 / 5), by hand from a t table."""
    mean, low, high = statistics.mean_interval([1, 2, 3, 4, 5])

    assert mean == 3
    assert pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4) == (low, high)


def test_rate_interval_is_exact() -> None:
    """0 of 100 excludes more than 1 - 0.025^(1/100), and 5 of 10 is Clopper and Pearson's (0.187, 0.813)."""
    assert pytest.approx((0, 1 - 0.025**0.01)) == statistics.rate_interval(0, 100)
    assert pytest.approx((0.1871, 0.8129), abs=1e-4) == statistics.rate_interval(5, 10)
    assert (0.0, 1.0) == statistics.rate_interval(0, 0)


def test_paired_difference_uses_common_seeds() -> None:
    """Differences 1, 2, 3 have t = 2 / (1 / sqrt 3), p = 0.0742 with 2 degrees of freedom; a lone seed is left out."""
    pair = statistics.paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 7: 99.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 0.0})

    assert (1.0, 2.0, 3.0) == pair.differences
    found = (pair.mean, pair.low, pair.high, pair.p_value)
    assert pytest.approx((2, 2 - 2.4841, 2 + 2.4841, 0.0742), abs=1e-4) == found


def test_equal_differences_have_no_interval() -> None:
    """0.96 - 0.95 and 0.97 - 0.96 differ by rounding only: no spread, hence no interval of width 1e-17."""
    pair = statistics.paired_difference({0: 0.96, 1: 0.97, 2: 0.98}, {0: 0.95, 1: 0.96, 2: 0.97})

    assert [True] * 3 == [math.isnan(value) for value in (pair.low, pair.high, pair.p_value)]


def test_rate_difference_covers_at_its_level() -> None:
    """Summed over every outcome of 12 pairs, the interval holds the true difference with at least 95 %."""
    n, coverage = 12, []
    intervals = {(b, c): statistics.rate_difference_interval(b, c, n) for b in range(n + 1) for c in range(n + 1 - b)}
    for p, q in product((0.0, 0.02, 0.1, 0.3, 0.5), repeat=2):
        chance = stats.multinomial(n, [p, q, 1 - p - q])
        coverage.append(
            sum(chance.pmf([b, c, n - b - c]) for (b, c), (low, high) in intervals.items() if low <= p - q <= high)
        )

    assert min(coverage) >= 0.95
    for many in (5, 100):  # where no data set tells two methods apart: wide for few of them
        low, high = statistics.rate_difference_interval(0, 0, many)
        assert pytest.approx(1 - 0.0125 ** (1 / many)) == high == -low


def test_rates_are_of_the_data_sets_that_both_have() -> None:
    """Of four common ones the first succeeds on three, the second on two; what one has alone counts nowhere."""
    first, second = [{0: True, 1: True, 2: True, 3: False, 4: True}, {0: True, 1: False, 2: False, 3: True, 9: False}]

    found = statistics.paired_rates(first, second)

    assert (0.75, 0.5, 0.25, 4, 2, 1) == (
        found.first, found.second, found.difference, found.n, found.only_first, found.only_second)  # fmt: skip
    assert 1.0 == found.p_value  # 2 against 1
    all_six, none = (dict.fromkeys(range(6), hit) for hit in (True, False))
    assert 2 / 2**6 == statistics.paired_rates(all_six, none).p_value == statistics.paired_rates(none, all_six).p_value
    assert 1.0 == statistics.paired_rates(none, none).p_value


@pytest.mark.parametrize(("effect", "expected"), [(1.0, 10), (0.5, 34), (0.2, 199)])
def test_seeds_needed_matches_power_tables(effect: float, expected: int) -> None:
    """Standard tables (80 % power, 5 % two-sided, one sample): 10, 34 and 199 for effects 1, 0.5 and 0.2."""
    assert expected == statistics.seeds_needed(effect, 1.0, 0.0)
    assert expected == statistics.seeds_needed(10 + 2 * effect, 2.0, 10.0)


@pytest.mark.parametrize(("mean", "deviation", "expected"), [
    (50.0, 0.1, 3), (50.0, 0.0, 3), (0.0, 1.0, None), (1e-4, 1.0, None), (1.0, math.nan, None),
])  # fmt: skip
def test_seeds_needed_at_its_ends(mean: float, deviation: float, expected: int | None) -> None:
    """A huge effect needs the fewest seeds, not none; no effect, or an unknown spread, no number of them."""
    assert expected == statistics.seeds_needed(mean, deviation, 0.0)


def test_holm_steps_down() -> None:
    """Holm's adjusted p-values of 0.01, 0.04, 0.03 are 0.03, 0.06, 0.06; NaN is not counted."""
    nan, *adjusted = statistics.holm([math.nan, 0.01, 0.04, 0.03])

    assert pytest.approx([0.03, 0.06, 0.06]) == adjusted
    assert math.isnan(nan)

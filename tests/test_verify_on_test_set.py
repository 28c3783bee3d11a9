"""Comparisons example by example: known counts, known intervals, and what pairing buys."""

from __future__ import annotations

import math

import numpy as np
import pytest

from repro.verify.statistics import accuracy_interval, compare, rate_interval


def hits(right: list[int], n: int = 1000) -> np.ndarray:
    """Bool [n], right at these places."""
    found = np.zeros(n, bool)
    found[right] = True
    return found


def test_counts_are_of_examples_that_only_one_gets_right() -> None:
    """900 right and 880 of the same right: 20 for the first, none for the second, 2 points."""
    found = compare({0: hits([*range(900)]), 1: hits([*range(900)])}, {0: hits([*range(880)]), 1: hits([*range(880)])})

    assert found is not None
    assert (2.0, 20.0, 0.0, 2, 1000) == (found.mean, found.only_first, found.only_second, found.seeds, found.examples)
    assert (2, 0) == (found.better, found.worse)


def test_pairing_by_example_is_sharper_than_two_intervals() -> None:
    """Two points on the same 1,000 examples are told apart, though each accuracy is known to two points only."""
    found = compare({0: hits([*range(900)])}, {0: hits([*range(880)])})
    low, high = accuracy_interval(0.9, 1000)

    assert found is not None
    assert found.low > 1
    assert high - low > 0.035


def test_the_bootstrap_interval_is_that_of_a_mean() -> None:
    """For many examples it is 1.96 standard errors to each side, within the noise of 2,000 resamples."""
    rng = np.random.default_rng(3)
    first, second = rng.random(5000) < 0.9, rng.random(5000) < 0.88
    found = compare({0: first}, {0: second})
    difference = 100.0 * (first.astype(float) - second)
    half = 1.96 * difference.std() / math.sqrt(5000)

    assert found is not None
    assert pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.12 * half) == (
        found.low, found.high)  # fmt: skip
    assert found == compare({0: first}, {0: second})


def test_equal_predictions_tell_nothing_apart() -> None:
    """No difference, no interval, no decided seed."""
    found = compare({0: hits([1, 2])}, {0: hits([1, 2])})

    assert found is not None
    assert math.isnan(found.low)
    assert (0, 0) == (found.better, found.worse)


def test_seeds_are_paired() -> None:
    """Only common seeds count; without any there is no comparison."""
    assert compare({0: hits([1])}, {1: hits([1])}) is None
    found = compare({0: hits([1]), 3: hits([])}, {0: hits([]), 4: hits([1, 2, 3])})

    assert found is not None
    assert (1, 1.0) == (found.seeds, found.only_first)


def test_seeds_are_decided_as_many_tests() -> None:
    """6 examples against none have p = 2 / 2^6 = 0.031: enough for one seed alone, and for none of two (Holm)."""
    six, none = hits([*range(6), 100]), hits([100])

    alone, both = compare({0: six}, {0: none}), compare({0: six, 1: six}, {0: none, 1: none})

    assert alone is not None
    assert both is not None
    assert (1, 0) == (alone.better, both.better)
    reversed_ = compare({0: none}, {0: six})
    assert reversed_ is not None
    assert (0, 1) == (reversed_.better, reversed_.worse)


def test_accuracy_interval_is_exact() -> None:
    """9,611 of 10,000 right: Clopper and Pearson's interval, about 0.4 points to each side."""
    assert rate_interval(9611, 10_000) == accuracy_interval(0.9611, 10_000)
    assert pytest.approx((0.9571, 0.9648), abs=1e-4) == accuracy_interval(0.9611, 10_000)

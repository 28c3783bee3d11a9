"""Random streams: published integers, uniformity, and independence of everything but (seed, name, step)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from repro.data.sets import Order
from repro.seeding import Draws, Streams, splitmix64, stream_key

MASK = (1 << 64) - 1
PUBLISHED = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
LEAST_P = 1e-3  # the seeds are fixed, so a sound generator passes for ever; a broken one gives a p far below this


def reference(state: int, count: int) -> list[int]:
    """SplitMix64 in plain integers: `count` outputs from `state`."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(bits ^ (bits >> 31))
    return outputs


def unsigned(bits: torch.Tensor) -> list[int]:
    """The same 64 bits read as unsigned."""
    return [int(b) & MASK for b in bits.flatten()]


def test_splitmix64_gives_the_published_numbers() -> None:
    """From state 1234567 come the five numbers that implementations of SplitMix64 publish."""
    states = 1234567 + torch.arange(1, 6) * (0x9E3779B97F4A7C15 - (1 << 64))

    assert PUBLISHED == reference(1234567, 5)
    assert PUBLISHED == unsigned(splitmix64(states))


@given(seed=st.integers(0, 2**40), step=st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_bits_are_splitmix64_from_a_mixed_key(seed: int, step: int) -> None:
    """A stream's integers are SplitMix64 started from the mixed key of (seed, name, step)."""
    key = (stream_key(seed, "name") + step * 0x9E3779B97F4A7C15) & MASK
    start = reference((key - 0x9E3779B97F4A7C15) & MASK, 1)[0]

    assert reference(start, 6) == unsigned(Streams(seed).bits("name", step, (2, 3)))


def test_uniform_numbers_are_uniform() -> None:
    """Uniform draws of many steps lie in [0, 1) and pass a Kolmogorov-Smirnov test, within and across steps."""
    streams = Streams(0)
    within, across = streams.uniform("a", 0, (20000,)), torch.cat([streams.uniform("a", s, (1,)) for s in range(4000)])
    for numbers in (within, across):
        assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
        assert LEAST_P < stats.kstest(numbers.double().numpy(), "uniform").pvalue


def test_normal_numbers_are_normal() -> None:
    """Normal draws pass a Kolmogorov-Smirnov test and stay finite."""
    numbers = Streams(0).normal("a", 3, (20000,))

    assert float(numbers.abs().max()) < 5.5
    assert LEAST_P < stats.kstest(numbers.double().numpy(), "norm").pvalue


@pytest.mark.parametrize("high", [2, 3, 10, 1000])
def test_integers_are_uniform(high: int) -> None:
    """Integers cover range(high) evenly by a chi-square test."""
    numbers = Streams(1).integers("a", 0, high, (20000,))

    assert 0 <= int(numbers.min()) <= int(numbers.max()) < high
    assert LEAST_P < stats.chisquare(torch.bincount(numbers, minlength=high).numpy()).pvalue


def test_integers_refuse_what_would_overflow() -> None:
    """A bound beyond 64-bit arithmetic is refused by value."""
    with pytest.raises(ValueError, match="high = 4194305 must lie"):
        Streams(0).integers("a", 0, (1 << 22) + 1, (1,))


def test_permutations_are_uniform() -> None:
    """All 24 orders of 4 things are equally frequent over steps by a chi-square test."""
    streams = Streams(0)
    codes = [int((streams.permutation("order", s, 4) * torch.tensor([64, 16, 4, 1])).sum()) for s in range(4800)]
    _, counts = torch.tensor(codes).unique(return_counts=True)

    assert 24 == len(counts)
    assert LEAST_P < stats.chisquare(counts.numpy()).pvalue


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal"])
def test_stacked_rows_are_the_single_seeds_draws(kind: str) -> None:
    """Row r of a stacked draw is what seeds[r] draws alone, whatever the other seeds."""
    stacked = getattr(Streams([5, 7, 9]), kind)("a", 3, (2, 4))

    for row, seed in enumerate([5, 7, 9]):
        assert torch.equal(getattr(Streams(seed), kind)("a", 3, (2, 4)), stacked[row])
    assert torch.equal(getattr(Streams([5, 7]), kind)("a", 3, (2, 4)), stacked[:2])


def test_neighbouring_seeds_are_uncorrelated() -> None:
    """The first numbers of 4,000 seeds are uniform, and so are those of 4,000 names."""
    seeds = torch.cat([Streams(s).uniform("a", 0, (1,)) for s in range(4000)])
    names = torch.cat([Streams(0).uniform(f"a{n}", 0, (1,)) for n in range(4000)])
    for numbers in (seeds, names):
        assert LEAST_P < stats.kstest(numbers.double().numpy(), "uniform").pvalue


def test_a_draw_leaves_other_draws_alone() -> None:
    """Draws keep no state: more draws, in any order, and the global generator change nothing; a longer draw extends."""
    expected = Streams(0).uniform("a", 2, (5,))
    streams = Streams(0)
    torch.manual_seed(99)
    streams.uniform("b", 2, (3,))
    streams.uniform("a", 1, (7,))
    first = streams.uniform("a", 2, (5,))

    assert torch.equal(expected, first)
    assert torch.equal(expected, Draws(streams, 2).uniform("a", (5,)))
    assert torch.equal(expected, streams.uniform("a", 2, (9,))[:5])


@pytest.mark.parametrize("seeds", [3, [3, 4]])
def test_reading_ahead_changes_nothing(seeds: int | list[int]) -> None:
    """Steps read in turn, in jumps, and with another shape between give what a fresh stream gives at that step."""
    streams = Streams(seeds)
    for step in [*range(40), 3, 4, 5, 100, 101, 0]:
        assert torch.equal(Streams(seeds).bits("a", step, (2, 3)), streams.bits("a", step, (2, 3)))
        assert torch.equal(Streams(seeds).bits("a", step, (5,)), streams.bits("a", step, (5,)))


@given(n=st.integers(1, 12), batch=st.integers(1, 30), start=st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_order_covers_every_index_once_an_epoch(n: int, batch: int, start: int) -> None:
    """Batches laid end to end are whole permutations, whatever the batch size; any step can be asked for first."""
    order = Order(Streams(4), "order", n, batch)
    last = order.at(start)
    steps = max(start + 1, -(-4 * n // batch))
    joined = torch.cat([order.at(step) for step in range(steps)])
    whole = joined[: len(joined) // n * n].reshape(-1, n)

    assert torch.equal(torch.arange(n).expand_as(whole), whole.sort(dim=1).values)
    assert torch.equal(last, order.at(start))
    assert all(len(order.at(step)) == batch for step in range(3))


def test_order_of_stacked_seeds_is_that_of_each() -> None:
    """Row r of a stacked order is the order of seeds[r]; epochs differ from each other."""
    stacked, single = Order(Streams([3, 8]), "order", 10, 4), Order(Streams(8), "order", 10, 4)

    assert all(torch.equal(single.at(step), stacked.at(step)[1]) for step in range(12))
    joined = torch.cat([single.at(step) for step in range(5)])
    assert not torch.equal(joined[:10], joined[10:])

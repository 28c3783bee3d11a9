"""The comparison with the released code tells every detail: each one, if dropped, is far outside the tolerances."""

from __future__ import annotations

from functools import partialmethod

import pytest

from repro.optim import Learner
from tests.released import Arrays, kept
from tests.released_distance import excess, of_entries, of_scalars, of_summary
from tests.released_plants import FAR_INTO_TRAINING, FROM_THE_START, Plant, apply
from tests.released_step import batch_of, observed_step, setup, start, variables

CLEARLY = 5


@pytest.fixture(scope="module")
def before() -> Arrays:
    """The start, without a departure."""
    return variables(start(setup("A"), kept("mpl_step")))


def excess_with(plant: Plant, case: str, steps: int, before: Arrays) -> tuple[float, str]:
    """The largest distance in tolerances over the steps, with a departure planted."""
    golden, chosen, found = kept("mpl_step"), setup(case), []
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, chosen)
        state = start(chosen, golden)
        for step in range(1, steps + 1):
            seen = observed_step(state, batch_of(golden, step), chosen.method)
            after, distances = variables(state), of_scalars(seen, golden, case, step)
            if case == "A":
                distances |= of_entries(before, after, golden, "state1")
            else:
                distances |= of_summary(before, after, golden, case, step)
            found.append(excess(distances, case, step))
    return max(found)


@pytest.mark.parametrize("name", FAR_INTO_TRAINING)
def test_departure_shows_after_one_step(name: str, before: Arrays) -> None:
    """One step of the far-advanced case is enough to tell it."""
    assert excess_with(FAR_INTO_TRAINING[name], "A", 1, before)[0] > CLEARLY


@pytest.mark.parametrize("name", FROM_THE_START)
def test_departure_shows_at_the_start(name: str, before: Arrays) -> None:
    """The first steps of training are enough to tell it."""
    steps, plant = FROM_THE_START[name]

    assert excess_with(plant, "B", steps, before)[0] > CLEARLY


@pytest.mark.parametrize("case", ["A", "B"])
def test_planted_step_without_a_departure_matches(case: str, before: Arrays) -> None:
    """The step in which departures are planted is the right one when none is."""
    plain: Plant = lambda patch, _: patch.setattr(Learner, "apply", partialmethod(apply))  # noqa: E731

    assert excess_with(plain, case, 1, before)[0] < 1

"""Whole steps of Meta Pseudo Labels against the authors' released code: same inputs, same start, same end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from repro.models import SmallConv
from repro.models.networks import SmallConvNet
from repro.optim import initial_average
from repro.seeding import Streams
from repro.settings import AverageStart
from tests.released import Arrays, kept
from tests.released_distance import OBSERVED, excess, of_entries, of_scalars, of_summary
from tests.released_step import batch_of, observed_step, setup, start, variables

UNOBSERVED = {"log/uda/l_ratio", "extra/mask/l", "extra/labels/u_ori", "extra/ema_rate"}


GOLDEN = kept("mpl_step")
Step = tuple[dict[str, Tensor], Arrays]


@pytest.fixture(scope="module")
def steps() -> dict[str, list[Step]]:
    """Three steps of case A and six of case B: what each computed, and the variables after it; first the start."""
    found = {}
    for case, count in (("A", 3), ("B", 6)):
        chosen = setup(case)
        state = start(chosen, GOLDEN)
        found[case] = [({}, variables(state))]
        for step in range(1, count + 1):
            seen = observed_step(state, batch_of(GOLDEN, step), chosen.method)
            found[case].append((seen, variables(state)))
    return found


def test_first_step(steps: dict[str, list[Step]]) -> None:
    """Losses, logits, rates, masks, feedback, and the change of all weights, momenta, statistics and averages."""
    (_, before), (seen, after) = steps["A"][:2]
    worst, name = excess(of_scalars(seen, GOLDEN, "A", 1) | of_entries(before, after, GOLDEN, "state1"), "A", 1)

    assert OBSERVED == set(seen)
    assert set(seen) | UNOBSERVED == {key.removeprefix("A/") for key in GOLDEN if key.startswith(("A/log", "A/extra"))}
    assert worst < 1, name


def test_three_steps(steps: dict[str, list[Step]]) -> None:
    """Three steps on end: weaker, since rounding grows."""
    (_, before), *_, (_, after) = steps["A"]
    for step in (2, 3):
        worst, name = excess(of_scalars(steps["A"][step][0], GOLDEN, "A", step), "A", step)
        assert worst < 1, (step, name)

    worst, name = excess(of_entries(before, after, GOLDEN, "state3"), "A", 3)

    assert worst < 1, name


@pytest.mark.parametrize("step", range(1, 7))
def test_first_six_steps_with_clipping(steps: dict[str, list[Step]], step: int) -> None:
    """From step 0 on: waiting, warm-ups, the ramp, the average's growing decay, and gradients that are clipped."""
    seen, after = steps["B"][step]
    distances = of_scalars(seen, GOLDEN, "B", step) | of_summary(steps["B"][0][1], after, GOLDEN, "B", step)

    worst, name = excess(distances, "B", step)

    assert worst < 1, name


def test_where_averages_start() -> None:
    """At the weights, or as released: 1 for batch-norm shifts and running variances, 0 for all else."""
    model = SmallConvNet(SmallConv(width=2), 10, Streams(0), "init")
    ones = {f"norms.{i}.{key}" for i in range(3) for key in ("bias", "running_variance")}

    released = initial_average(model, AverageStart.released)
    weights = initial_average(model, AverageStart.weights)

    assert all(torch.equal(torch.full_like(value, float(key in ones)), value) for key, value in released.items())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(weights[key].data_ptr() != value.data_ptr() for key, value in model.state_dict().items())
    assert set(released) == set(weights) == set(model.state_dict())

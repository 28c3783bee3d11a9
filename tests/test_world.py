"""Several processes that share every batch take the steps of one: all methods, forms of h, views and statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from repro.engine.distributed import World
from repro.seeding import Draws, Shard, Streams
from repro.settings import ConfigError
from repro.train.loop import Trainer
from tests.survival import ROOT, printed
from tests.tiny import CPU, METHODS, settings
from tests.world_cases import CASES, compute, ends, norm_example, start

FEW = ("sampled finite_difference", "released form", "images")
"""Enough to tell four processes from two."""
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
"""In float64: sums over parts in another order differ by 1e-16, and six steps enlarge that; a mistake is above 1e-4."""

Outcomes = dict[str, Any]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Outcomes]:
    """By number of processes, what each case came to."""
    place = tmp_path_factory.mktemp("world")
    (place / "experiments").symlink_to(ROOT / "experiments")
    torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))  # loaded once, for all processes
    found = {}
    for size, names in {1: tuple(CASES), 2: tuple(CASES), 4: FEW}.items():
        file = place / f"{size}.pt"
        statuses = ends(start(size, place, lambda names=names, file=file: compute(names, file)))  # type: ignore[misc]
        assert [0] * size == statuses, printed(place)[-3000:]
        found[size] = torch.load(file)
    return found


@pytest.mark.parametrize(("size", "case"), [(2, name) for name in CASES] + [(4, name) for name in FEW])
def test_several_processes_take_the_steps_of_one(size: int, case: str, outcomes: dict[int, Outcomes]) -> None:
    """Weights, momenta, averages, statistics, memory of h and the whole log, after several steps."""
    expected, actual = outcomes[1][case], outcomes[size][case]

    assert "" == actual["differing"]
    torch.testing.assert_close(actual["state"], expected["state"], **TOLERANCE)
    rows = [[torch.tensor(list(row.values())) for row in found["rows"]] for found in (actual, expected)]
    torch.testing.assert_close(*rows, **TOLERANCE, equal_nan=True)
    assert list(actual["rows"][0]) == list(expected["rows"][0])
    assert any(key.endswith("running_mean") for key in expected["state"]) == (case != "stacked moons")


@pytest.mark.parametrize(("size", "count"), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4)])
def test_batch_norm_is_over_each_group(size: int, count: int, outcomes: dict[int, Outcomes]) -> None:
    """Outputs and gradients are one process's on the group's rows; running statistics are the groups' mean."""
    layer, x, g = norm_example()
    ys, xs, statistics = [], [], []
    weight, bias = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    for rows, factors in zip(x.chunk(size // count), g.chunk(size // count), strict=True):
        one, _, _ = norm_example()
        rows.requires_grad_()
        y = one(rows)
        of_x, of_weight, of_bias = torch.autograd.grad((y * factors).sum(), [rows, one.weight, one.bias])
        ys, xs, weight, bias = [*ys, y], [*xs, of_x], weight + of_weight, bias + of_bias
        statistics.append(torch.stack([one.running_mean, one.running_variance]))
    mean, variance = torch.stack(statistics).mean(dim=0)

    expected: dict[str, Tensor] = {"y": torch.cat(ys).detach(), "x": torch.cat(xs), "weight": weight, "bias": bias,
                                   "mean": mean, "variance": variance}  # fmt: skip
    torch.testing.assert_close(outcomes[size][f"norm {count}"], expected, rtol=1e-11, atol=1e-12)


def test_parts_draw_what_the_whole_draws() -> None:
    """The rows of each part of what is passed through together; one process draws what it always drew."""
    streams = Streams(3)
    whole = streams.uniform("dropout", 5, (12, 2))  # four examples of one kind, then eight of another

    parts = [Draws(streams, 5, Shard(rank, 2)).uniform("dropout", (6, 2), (2, 4)) for rank in range(2)]

    assert torch.equal(torch.cat([whole[:2], whole[4:8]]), parts[0])
    assert torch.equal(torch.cat([whole[2:4], whole[8:]]), parts[1])
    assert torch.equal(whole, Draws(streams, 5).uniform("dropout", (12, 2), (4, 8)))


@pytest.mark.parametrize("key", ["labelled_batch", "unlabelled_batch"])
def test_a_batch_that_cannot_be_shared_is_refused(key: str) -> None:
    """By key, with what to do."""
    with pytest.raises(ConfigError, match=rf"^budget.{key} = 6: 4 processes cannot share 6 .* set a multiple of 4"):
        Trainer(settings("digits", METHODS["uda"], **{f"budget__{key}": 6}), 0, CPU, world=World(0, 4))


def test_unequal_groups_are_refused() -> None:
    """By key, with what to do."""
    config = settings("digits", METHODS["uda"], engine__batch_norm_processes=3)
    with pytest.raises(ConfigError, match=r"^engine.batch_norm_processes = 3: 4 .* set a divisor of 4, or 0"):
        Trainer(config, 0, CPU, world=World(0, 4))

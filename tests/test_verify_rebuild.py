"""Accuracies recomputed from predictions: which seeds give a number, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from repro.config import expected_networks, read_config
from tests.tiny import METHODS, settings, trained
from tests.verify_cases import HIGH, MPL, cell, config, hashed, planned, rebuilt, run_of, training_hash_of

RUN = run_of("mpl", HIGH, config(MPL))


def test_refused_seed_gives_no_number() -> None:
    """The other seeds are recomputed; the refused one is absent, and the sentence names run, seed and remedy."""
    found = rebuilt(hashed(cell(RUN, "training_hash", "train-9")))

    assert {1: 0.955, 2: 0.949, 3: 0.953, 4: 0.957} == found.accuracy["student"]
    assert [("mpl, seed 0: was trained on other data or another split than its settings and seeds give (hash differs); "
            "run it again: make reproduce")] == found.problems  # fmt: skip


def test_a_changed_record_gives_no_number_at_all() -> None:
    """Whoever changed one seed may have changed the others; where to have it back is said."""
    found = rebuilt(cell(RUN, "seconds", 9.0))

    assert {} == found.accuracy["student"]
    assert [("mpl, seed 0: its record was changed after it was written (hash differs); take it back: git checkout -- "
            "results/runs, or train and evaluate a plan that has the run again")] == found.problems  # fmt: skip


def test_what_no_setting_shows_stands_first_beside_a_verdict() -> None:
    """Seeds chosen after a look, seeds of several machines, code nobody else has: before what the recipe prescribes."""
    prescribed = {"budget.steps": 1_000_000, "optim.average_decay": 0.5, "data.labels": 1, "finetune.steps": 77}
    run = run_of("mpl", HIGH, config(MPL, recipe__values=prescribed))
    told = {"seeds_before": "0,1", "device_name": ["a GPU", *["a CPU"] * 4], "clean": "False", "revision": "abc",
            "torch": [*["2.0"] * 4, "2.1"], "source": [*["x" * 64] * 4, "y" * 64]}  # fmt: skip
    found = rebuilt(hashed(replace(run, seeds=run.seeds.assign(**told))))

    assert [] == found.problems
    assert found.departures[0].startswith("recorded before with seeds 0,1: intervals do not allow")
    assert ["its seeds were trained by different devices: a CPU, a GPU",
            "its seeds were trained by different versions of PyTorch: 2.0, 2.1",
            f"its seeds were trained by different training code: {'x' * 40}, {'y' * 40}",
            "trained by code with uncommitted changes, at revision abc"] == found.departures[1:5]  # fmt: skip
    assert 5 + len(prescribed) == len(found.departures)


def test_stacked_seeds_are_read() -> None:
    """Seeds that were trained together give one accuracy each."""
    run = run_of("mpl", {4: 900, 9: 950}, config(MPL))
    together = run.seeds.assign(group="4-9", training_hash=training_hash_of({}, [4, 9]))
    log = run.metrics[run.metrics["seed"] == "4"].assign(seed="4-9")
    stacked = rebuilt(hashed(replace(run, seeds=together, metrics=log, config=planned(run.config, [4, 9]))))

    assert [] == stacked.problems
    assert {4: 0.9, 9: 0.95} == stacked.accuracy["student"]
    assert (False, {(4, 9): "train-4,9"}) == (stacked.reduced, stacked.training_hash)


@pytest.mark.parametrize("name", METHODS)
def test_expected_networks_are_those_that_the_methods_train(name: str) -> None:
    """The networks that the verifier expects are those that training has."""
    small = settings("digits", {"name": name, **({"teacher_steps": 5} if name == "pseudo_label" else {})})

    assert set(trained(small, steps=0).state.learners) == expected_networks(small)[0]


@pytest.mark.parametrize(
    ("changes", "networks", "counted"),
    [
        ({"finetune__steps": 3}, {"teacher", "student", "student_finetuned"}, "student"),
        (
            {"optim__average_decay": 0.9},
            {"teacher", "student", "teacher_average", "student_average"},
            "student_average",
        ),
    ],
)
def test_averages_and_finetuned_weights_are_expected(changes: dict[str, Any], networks: set[str], counted: str) -> None:
    """Averaged weights count where there are any, finetuned ones never."""
    assert (networks, counted) == expected_networks(read_config(config(MPL, **changes)))

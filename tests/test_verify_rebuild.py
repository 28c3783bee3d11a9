"""Accuracies recomputed from predictions: which seeds give a number, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from repro.verify.completeness import expected_networks
from repro.verify.rebuild import rebuild

from repro.config import as_mapping
from repro.evaluate.run import predictions_hash
from repro.methods import METHODS
from repro.report.verdicts import departed
from repro.train.loop import Trainer
from repro.verify.claims import Status, Verdict
from tests.tiny import CPU, settings
from tests.verify_cases import (
    HIGH,
    MPL,
    SUPERVISED,
    N,
    config,
    folder,
    folders,
    labels_of,
    rebuilt,
    shuffled,
    training_hash_of,
)


def test_seed_given_twice_counts_not_at_all() -> None:
    """A copied folder is named, and its seed gives no number."""
    found = rebuilt([*folders("mpl", HIGH, MPL), folder("mpl", 2, 960, config(MPL))])

    assert [0, 1, 3, 4] == sorted(found.accuracy["student"])
    assert ["mpl, seed 2: is there twice; remove the folder not of the plan"] == found.problems


def test_refused_seed_gives_no_number() -> None:
    """The other seeds are recomputed; the refused one is absent, and the sentence names run, seed and remedy."""
    first, *rest = folders("mpl", HIGH, MPL)
    found = rebuilt([shuffled(first), *rest])

    assert {1: 0.955, 2: 0.949, 3: 0.953, 4: 0.957} == found.accuracy["student"]
    assert 1 == len(found.problems)
    assert "mpl, seed 0: " in found.problems[0]
    assert "git checkout -- results/runs, or train and evaluate" in found.problems[0]


def test_seeds_of_one_run_are_trained_alike() -> None:
    """A time limit or another number of workers decides no number, and another number of steps does."""
    *rest, last = folders("mpl", HIGH, MPL)
    for key, value, left in (("max_minutes", 9.0, 5), ("workers", 7, 5), ("steps", 7, 4)):
        changed = replace(last, config=last.config | {"budget": last.config["budget"] | {key: value}})
        found = rebuilt([*rest, changed])

        assert left == len(found.accuracy["student"])
        refused = [f"differs from that of mpl, seed 0 in budget.{key};" in problem for problem in found.problems]
        assert refused == ([] if left == 5 else [True])


def test_what_no_setting_shows_stands_first_beside_a_verdict() -> None:
    """Seeds chosen after a look, seeds of several machines: seen in a row of three, whatever the recipe prescribes."""
    prescribed = {"budget.steps": 1_000_000, "optim.average_decay": 0.5, "data.labels": 1, "finetune.steps": 77}
    runs = folders("mpl", HIGH, MPL, recipe__values=prescribed)
    told = {"seeds_before": ["0,1"], "device_name": "a GPU"}
    runs = [replace(run, environment=run.environment | {"device_name": "a CPU"} | (told if run.seeds == [1] else {}))
            for run in runs]  # fmt: skip

    found = rebuilt(runs)
    row = departed(Verdict("c", Status.REPRODUCED, "r", departures=[f"mpl: {text}" for text in found.departures]))

    assert 6 == len(found.departures)
    assert row.startswith("recorded before with seeds 0,1: intervals do not allow")
    assert "its seeds were trained by different devices: a CPU, a GPU; " in row


def test_rebuild_reads_stacked_seeds() -> None:
    """A folder of several seeds gives one accuracy and one row of right answers for each."""
    runs = folders("mpl", [900, 950], MPL)
    found = {role: np.concatenate([run.predictions[role] for run in runs]) for role in ("teacher", "student")}
    accuracy = {role: [0.9, 0.95] for role in found}
    hashes = {"predictions_hash": predictions_hash(found), "training_hash": training_hash_of({}, [4, 9])}
    stacked = replace(runs[0], seeds=[4, 9], predictions=found, accuracy=accuracy, data=runs[0].data | hashes)
    actual = rebuilt([stacked])

    assert [] == actual.problems
    assert {4: 0.9, 9: 0.95} == actual.accuracy["student"]
    assert {4: 900, 9: 950} == {seed: int(hits.sum()) for seed, hits in actual.correct["student"].items()}
    assert (N, False) == (actual.held_out, actual.reduced)


def test_rebuild_wants_folders_of_one_run() -> None:
    """Mixing runs is a mistake of the caller."""
    with pytest.raises(ValueError, match="one run"):
        rebuild([*folders("mpl", [900], MPL), *folders("base", [900], SUPERVISED)], labels_of, training_hash_of)


def test_a_run_on_other_training_data_is_refused_by_itself() -> None:
    """The hash of what it was trained on must be that of its settings and seed, whatever it is compared with."""
    first, *rest = folders("mpl", HIGH, MPL)
    found = rebuilt([replace(first, data=first.data | {"training_hash": "train-9"}), *rest])

    assert [1, 2, 3, 4] == sorted(found.accuracy["student"])
    assert "was trained on other data or another split" in found.problems[0]


def test_the_counted_network_is_not_a_matter_of_choice() -> None:
    """Even where every folder says so, MPL's teacher does not stand for MPL."""
    found = rebuilt([replace(run, counted="teacher") for run in folders("mpl", HIGH, MPL)])

    assert {} == found.accuracy["student"]
    assert "counts the network 'teacher', but by its configuration 'student' counts" in found.problems[0]


def test_expected_networks_are_those_that_the_methods_train() -> None:
    """The verifier's own list of networks, kept apart from training code, is the methods' list."""
    for name, method in METHODS.items():
        trained = settings("digits", {"name": name, **({"teacher_steps": 5} if name == "pseudo_label" else {})})
        trainer = Trainer(trained, 0, CPU)

        networks, counted = expected_networks(as_mapping(trained))

        assert set(trainer.state.learners) == networks
        assert method.COUNTED == counted


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
    assert (networks, counted) == expected_networks(config(MPL, **changes))

"""Accuracies recomputed from predictions: which seeds give a number, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from repro.evaluate.run import predictions_hash
from repro.verify.rebuild import rebuild
from tests.verify_cases import HIGH, MPL, SUPERVISED, N, config, folder, folders, labels_of, shuffled


def test_seed_given_twice_counts_not_at_all() -> None:
    """A copied folder is named, and its seed gives no number."""
    found = rebuild([*folders("mpl", HIGH, MPL), folder("mpl", 2, 960, config(MPL))], labels_of)

    assert [0, 1, 3, 4] == sorted(found.accuracy["student"])
    assert ["mpl, seed 2: is there twice; remove the folder not of the plan"] == found.problems


def test_refused_seed_gives_no_number() -> None:
    """The other seeds are recomputed; the refused one is absent, and the sentence names run, seed and remedy."""
    first, *rest = folders("mpl", HIGH, MPL)
    found = rebuild([shuffled(first), *rest], labels_of)

    assert {1: 0.955, 2: 0.949, 3: 0.953, 4: 0.957} == found.accuracy["student"]
    assert 1 == len(found.problems)
    assert "mpl, seed 0: " in found.problems[0]
    assert "dvc repro" in found.problems[0]


def test_rebuild_reads_stacked_seeds() -> None:
    """A folder of several seeds gives one accuracy and one row of right answers for each."""
    runs = folders("mpl", [900, 950], MPL)
    found = {"student": np.concatenate([run.predictions["student"] for run in runs])}
    data = runs[0].data | {"predictions_hash": predictions_hash(found)}
    stacked = replace(runs[0], seeds=[4, 9], predictions=found, accuracy={"student": [0.9, 0.95]}, data=data)
    actual = rebuild([stacked], labels_of)

    assert [] == actual.problems
    assert {4: 0.9, 9: 0.95} == actual.accuracy["student"]
    assert {4: 900, 9: 950} == {seed: int(hits.sum()) for seed, hits in actual.correct["student"].items()}
    assert (N, False) == (actual.held_out, actual.reduced)


def test_rebuild_wants_folders_of_one_run() -> None:
    """Mixing runs is a mistake of the caller."""
    with pytest.raises(ValueError, match="one run"):
        rebuild([*folders("mpl", [900], MPL), *folders("base", [900], SUPERVISED)], labels_of)

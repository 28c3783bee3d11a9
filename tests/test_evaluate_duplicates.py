"""Test examples that were trained on are counted, exactly, and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.data import DigitsData, source_of
from repro.data.sets import HeldOutSet, TrainingSet
from repro.data.toys import Digits
from repro.evaluate import evaluate as entry
from repro.evaluate.evaluate import duplicates, evaluate
from repro.results import Run, read_run, write_run
from repro.train.checkpoint import Result
from repro.train.loop import Trainer
from tests.tiny import CPU, left_by, settings
from tests.verify_cases import with_array

IMAGES = torch.arange(12 * 48, dtype=torch.uint8).reshape(12, 3, 4, 4)
"""Twelve different images."""


def train_on(labelled: Tensor, unlabelled: Tensor, labels: list[int], hidden: list[int]) -> TrainingSet:
    """A training set of these examples; where they came from does not matter."""
    index = torch.zeros(0, dtype=torch.int64)
    return TrainingSet(labelled, torch.tensor(labels), unlabelled, torch.tensor(hidden), index, index)


def counts(found: dict[str, int]) -> tuple[int, int]:
    """In training, and with another label there."""
    assert {"test_in_training", "other_label"} == found.keys()
    return found["test_in_training"], found["other_label"]


TRAIN = train_on(IMAGES[:2], IMAGES[2:6], [0, 1], [2, 3, 4, 5])


@pytest.mark.parametrize(("test", "labels", "expected"), [
    ([8, 9, 10], [0, 0, 0], (0, 0)),
    ([0, 8], [0, 0], (1, 0)),  # labelled
    ([5, 8], [5, 0], (1, 0)),  # unlabelled
    ([0, 5, 8], [1, 4, 0], (2, 2)),
    ([1, 1, 2], [1, 0, 2], (3, 1)),
    ([1, 1], [1, 1], (2, 0)),  # a test example that is there twice counts twice
])  # fmt: skip
def test_images_that_were_trained_on_are_counted(test: list[int], labels: list[int], expected: tuple[int, int]) -> None:
    """Labelled and unlabelled ones, and of these the ones with another label."""
    assert expected == counts(duplicates(TRAIN, HeldOutSet(IMAGES[test], torch.tensor(labels)), ()))


def test_one_bit_makes_another_image() -> None:
    """Nearly the same is not the same."""
    near = IMAGES[:6].clone()
    near[:, 2, 3, 3] ^= 1

    assert (0, 0) == counts(duplicates(TRAIN, HeldOutSet(near, torch.arange(6)), ()))


def test_a_test_image_counts_once_however_often_training_has_it() -> None:
    """Under its own label and another one: as both; as a labelled image that is among the unlabelled ones: once."""
    several = train_on(IMAGES[:1], IMAGES[:1], [3], [4])
    among = train_on(IMAGES[:2], IMAGES[:6], [0, 1], [0, 1, 2, 3, 4, 5])

    assert (1, 1) == counts(duplicates(several, HeldOutSet(IMAGES[:1], torch.tensor([3])), ()))
    assert (1, 0) == counts(duplicates(among, HeldOutSet(IMAGES[:1], torch.tensor([0])), ()))


def test_points_are_compared_within_their_seed() -> None:
    """Stacked seeds: a point of another seed's training is no duplicate; zeros of both signs are one point."""
    points = torch.tensor([[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [[6.0, 7.0], [8.0, 9.0], [10.0, 11.0]]])
    train = train_on(points[:, :1], points[:, 1:], [[0], [0]], [[1, 0], [1, 0]])  # type: ignore[list-item, arg-type]
    own = HeldOutSet(points[:, [0, 1]], torch.tensor([[0, 1], [0, 0]]))
    crossed = HeldOutSet(points.flip(0), torch.zeros(2, 3, dtype=torch.int64))
    negative = HeldOutSet(torch.tensor([[[-0.0, 1.0]], [[0.0, 1.0]]]), torch.zeros(2, 1, dtype=torch.int64))

    assert (4, 1) == counts(duplicates(train, own, (2,)))
    assert (0, 0) == counts(duplicates(train, crossed, (2,)))
    assert (1, 0) == counts(duplicates(train, negative, (2,)))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of a few steps on digits."""
    trainer = Trainer(settings("digits", {"name": "supervised"}), 0, CPU)
    trainer.run(Path(tmp_path_factory.mktemp("run")) / "state")
    return left_by(trainer)


def leaky(count: int, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first test images become unlabelled training images, their labels moved by `shift`."""
    honest = Digits.training_set

    def training(source: Digits, seeds: int) -> TrainingSet:
        train, test = honest(source, seeds), source.held_out_set(seeds)
        examples, labels = train.unlabelled.clone(), train.hidden_labels.clone()
        examples[:count], labels[:count] = test.examples[:count], (test.labels[:count] + shift) % 10
        return replace(train, unlabelled=examples, hidden_labels=labels)

    monkeypatch.setattr(Digits, "training_set", training)


def columns(run: Run) -> tuple[float, float]:
    """What the record of seed 0 says."""
    return run.seeds.loc[0, "test_in_training"], run.seeds.loc[0, "other_label"]


def test_a_run_records_them(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaked into training stands in the record, and is read back."""
    assert (0, 0) == columns(evaluate("run", result))
    leaky(7, 1, monkeypatch)

    assert (7, 7) == columns(read_run(write_run(evaluate("run", result), tmp_path)))


def test_the_line_of_a_run_says_so(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`repro evaluate` adds a clause where there are any, over all seeds, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(entry, "set_up_process", lambda: None)
    monkeypatch.setattr(entry, "load_results", lambda _: [result, replace(result, seeds=[1])])
    assert entry._evaluate_run("run").endswith(" % over 2 seeds")

    leaky(7, 0, monkeypatch)
    count = 2 * len(source_of(DigitsData()).held_out_set(0).labels)
    said = f"over 2 seeds; NOTE: 14 of {count} test examples are training examples too, 0 of them with another label"
    assert entry._evaluate_run("run").endswith(said)


def test_the_line_of_a_run_counts_seeds_that_give_one_class(result: Result) -> None:
    """Of two seeds one takes every test image for a 3."""
    run = evaluate("run", result)
    both = np.concatenate([run.predictions("teacher"), np.full_like(run.predictions("teacher"), 3)])
    collapsed = with_array(run, "predictions.teacher", both)

    assert "; 1 of them predict one class only" == entry.in_words(collapsed, "teacher")

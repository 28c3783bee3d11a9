"""Test examples that a run has trained on: how many there are, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.data.sets import HeldOutSet, TrainingSet
from repro.evaluate.run import EvaluatedRun


def duplicates(train: TrainingSet, test: HeldOutSet, lead: tuple[int, ...]) -> dict[str, int]:
    """How many test examples are training examples, labelled or unlabelled; of R seeds, the sum over the seeds.

    Only the same bytes count, except that a coordinate of -0.0 is one of 0.0.

    Args:
        train: labelled [*lead, B, *E] and unlabelled [*lead, U, *E] examples.
        test: examples [*lead, N, *E] of the same type.
        lead: () for one seed, (R,) for R seeds, each with its own training and test examples.

    Returns:
        "test_in_training", and of these as "other_label" those that have another label in training: with any of their
        copies, of labelled or unlabelled examples.

    Raises:
        ValueError: when the examples are of different types or shapes, so that none could be the same.
    """
    examples = torch.cat([train.labelled, train.unlabelled], dim=len(lead))
    labels = torch.cat([train.labels, train.hidden_labels], dim=len(lead))
    shape, other = examples.shape[len(lead) + 1 :], test.examples.shape[len(lead) + 1 :]
    if (examples.dtype, shape) != (test.examples.dtype, other):
        raise ValueError(
            f"test examples are {test.examples.dtype} {list(other)}, training examples {examples.dtype} {list(shape)}: "
            "they are not of one data set; prepare the data again: dvc repro prepare"
        )
    if not lead:
        examples, labels, test = examples[None], labels[None], HeldOutSet(test.examples[None], test.labels[None])
    rows = [_of_one_seed(*row) for row in zip(examples, labels, test.examples, test.labels, strict=True)]
    return {"test_in_training": sum(same for same, _ in rows), "other_label": sum(wrong for _, wrong in rows)}


def in_words(runs: Sequence[EvaluatedRun]) -> str:
    """What the printed line of one run's folders adds when a test example was trained on, else nothing."""
    same, other = (sum(run.data["duplicates"][key] for run in runs) for key in ("test_in_training", "other_label"))
    if not same:
        return ""
    count = sum(run.predictions[run.counted].size for run in runs)
    return f"; NOTE: {same} of {count} test examples are training examples too, {other} of them with another label"


def _of_one_seed(examples: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> tuple[int, int]:
    """Test examples that are in training, and those of them that have another label there."""
    known: dict[bytes, set[int]] = {}
    for digest, label in zip(_digests(examples), labels.tolist(), strict=True):
        known.setdefault(digest, set()).add(label)
    found = [(known[digest], label) for digest, label in zip(_digests(test), test_labels.tolist(), strict=True)
             if digest in known]  # fmt: skip
    return len(found), sum(there != {label} for there, label in found)


def _digests(examples: Tensor) -> Iterator[bytes]:
    """A hash of every example [N, *E], in order."""
    array = examples.cpu().numpy()
    if np.issubdtype(array.dtype, np.floating):
        array = array + 0.0  # -0.0 + 0.0 is 0.0
    return (hashlib.sha256(row.tobytes()).digest() for row in array)

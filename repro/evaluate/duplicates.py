"""Test examples that a run has trained on: how many there are, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.data.folder import UNKNOWN
from repro.data.images import ImageFiles
from repro.data.sets import Examples, HeldOutSet, TrainingSet
from repro.results import Run


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
    labels = torch.cat([train.labels, train.hidden_labels], dim=len(lead))
    if isinstance(test.examples, Tensor) and isinstance(train.unlabelled, Tensor):
        _refuse_other(train.unlabelled, test.examples, len(lead))
    known, asked = (_digests(part, len(lead)) for part in ([train.labelled, train.unlabelled], [test.examples]))
    rows = zip(known, labels.reshape(-1, labels.shape[-1]), asked, test.labels.reshape(-1, test.labels.shape[-1]),
               strict=True)  # fmt: skip
    found = [_of_one_seed(*row) for row in rows]
    return {"test_in_training": sum(same for same, _ in found), "other_label": sum(wrong for _, wrong in found)}


def _refuse_other(training: Tensor, test: Tensor, lead: int) -> None:
    mine, other = training.shape[lead + 1 :], test.shape[lead + 1 :]
    if (training.dtype, mine) != (test.dtype, other):
        raise ValueError(
            f"test examples are {test.dtype} {list(other)}, training examples {training.dtype} {list(mine)}: "
            "they are not of one data set; prepare the data again: dvc repro prepare"
        )


def in_words(run: Run, counted: str) -> str:
    """What the printed line of a run adds when a test example was trained on, else nothing."""
    groups = run.seeds.drop_duplicates("group")  # of seeds trained together each row says the sum
    same, other = (int(groups[key].sum()) for key in ("test_in_training", "other_label"))
    if not same:
        return ""
    count = run.predictions(counted).size
    return f"; NOTE: {same} of {count} test examples are training examples too, {other} of them with another label"


def _of_one_seed(
    training: Sequence[bytes], labels: Tensor, test: Sequence[bytes], test_labels: Tensor
) -> tuple[int, int]:
    """Test examples that are in training, and those of them that have another label there."""
    known: dict[bytes, set[int]] = {}
    for digest, label in zip(training, labels.tolist(), strict=True):
        known.setdefault(digest, set()).add(label)
    found = [(known[digest] - {UNKNOWN}, label) for digest, label in zip(test, test_labels.tolist(), strict=True)
             if digest in known]  # fmt: skip
    return len(found), sum(bool(there - {label}) for there, label in found)


def _digests(parts: Sequence[Examples], lead: int) -> list[list[bytes]]:
    """For each seed, a hash of every example of all parts, in order; of an image in a file, of the file's content."""
    rows: list[list[bytes]] = []
    for part in parts:
        stacked = [part] if isinstance(part, ImageFiles) or not lead else list(part)
        rows = rows or [[] for _ in stacked]
        for row, examples in zip(rows, stacked, strict=True):
            row.extend(_contents(examples) if isinstance(examples, ImageFiles) else _hashed(examples))
    return rows


def _contents(files: ImageFiles) -> Iterator[bytes]:
    return (digest.tobytes() for digest in files.digests)


def _hashed(examples: Tensor) -> Iterator[bytes]:
    """A hash of every example [N, *E], in order."""
    array = examples.cpu().numpy()
    if np.issubdtype(array.dtype, np.floating):
        array = array + 0.0  # -0.0 + 0.0 is 0.0
    return (hashlib.sha256(row.tobytes()).digest() for row in array)

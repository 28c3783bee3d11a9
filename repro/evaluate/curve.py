"""Test accuracy and wrong pseudo labels along training, for figures and for sizing selection bias only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.config.schema import Config
from repro.data.images import ImageFiles
from repro.data.sets import Examples, TrainingSet
from repro.evaluate.accuracy import accuracies
from repro.evaluate.labels import label_rows
from repro.evaluate.predict import Predictor
from repro.train.result import Result

LABELLER = "teacher"
"""The network that labels the unlabelled examples, in every method."""

_HELD = 2**30  # bytes of decoded images that are kept from one snapshot to the next


def curve_of(
    config: Config, result: Result, predictor: Predictor, examples: Examples, labels: np.ndarray, train: TrainingSet
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Tensor]]]:
    """The curves, see `EvaluatedRun.curve`, and the final networks, which are those of the last snapshot.

    Snapshots are read one file at a time. Where the class of any unlabelled example is unknown, nothing is said of
    pseudo labels.

    Args:
        config: the run's settings.
        result: what training left.
        predictor: of the run.
        examples: all N test examples [*lead, N, *E].
        labels: int64 [R, N].
        train: what the run was trained on.
    """
    count, lead = config.budget.curve_examples, len(predictor.lead)
    known = bool((train.hidden_labels >= 0).all())
    examples, labels = _part(examples, labels, lead, count)
    examples = predictor.held(examples, _HELD)
    unlabelled, truth = _part(train.unlabelled, label_rows(train.hidden_labels, predictor.lead), lead, count)
    unlabelled = predictor.held(unlabelled, _HELD) if known else unlabelled
    accuracy: dict[str, list[list[float]]] = {}
    steps, wrong, stays, previous = [], [], [], None
    snapshot: dict[str, Any] = {}
    for snapshot in result.snapshots:
        steps.append(snapshot["step"])
        for network, ranked in predictor.ranked(snapshot["networks"], examples, 1).items():
            accuracy.setdefault(f"accuracy/{network}", []).append(accuracies(ranked[..., 0], labels))
        if known:
            pseudo = predictor.classes(snapshot["networks"][LABELLER], unlabelled)
            wrong.append((pseudo != truth).mean(axis=1))
            stays.append(_share_that_stays_wrong(previous, pseudo, truth))
            previous = pseudo
    late_steps, late = [], []
    for checkpoint in result.late:
        late_steps.append(checkpoint["step"])
        late.append(accuracies(predictor.classes(checkpoint["networks"]["counted"], examples), labels))
    shares = {"pseudo_label_wrong": np.stack(wrong, axis=1), "wrong_stays": np.stack(stays, axis=1)} if known else {}
    curves = {key: np.array(values).T for key, values in (accuracy | {"late_accuracy": late}).items()} | shares
    floats = {key: values.astype(np.float32) for key, values in curves.items()}
    return {"step": np.array(steps), "late_step": np.array(late_steps)} | floats, dict(snapshot["networks"])


def some_of(examples: Examples, lead: int, some: slice | Tensor) -> Any:
    """Examples [*lead, n, *E] of [*lead, N, *E]."""
    return examples[some] if isinstance(examples, ImageFiles) else examples[(slice(None),) * lead + (some,)]


def _part(examples: Examples, labels: np.ndarray, lead: int, count: int) -> tuple[Examples, np.ndarray]:
    """`count` of the examples [*lead, N, *E] and labels [R, N], or all if it is 0.

    They are taken at even distances: files are listed class by class, and where the labelled examples are among the
    unlabelled ones they come first.
    """
    total = labels.shape[1]
    if not 0 < count < total:
        return examples, labels
    chosen = torch.arange(count) * total // count
    return some_of(examples, lead, chosen), labels[:, chosen.numpy()]


def _share_that_stays_wrong(previous: np.ndarray | None, now: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the labels [R, M] wrong before, the share that is the same wrong label now, [R]; NaN where none was wrong."""
    if previous is None:
        return np.full(len(now), np.nan)
    was_wrong = previous != truth
    count = was_wrong.sum(axis=1)
    same = (was_wrong & (now == previous)).sum(axis=1)
    share: np.ndarray = np.divide(same, count, out=np.full(len(now), np.nan), where=count > 0)
    return share

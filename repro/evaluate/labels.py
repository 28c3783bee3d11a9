"""The labels of test examples, for whoever recomputes an accuracy; needs no model code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.config.data import Data
from repro.config.read import read_config
from repro.data import source_of
from repro.data.sets import bound_hash


@dataclass(frozen=True)
class StoredLabels:
    """The test labels of a data set that is not everywhere, as evaluation found them beside the images."""

    data: str  # name of the data set
    labels: np.ndarray  # [N], of the smallest unsigned type that holds every class
    class_names: np.ndarray  # text [K]; [0] where classes are numbers
    examples_hash: str  # of the test examples

    @property
    def held_out_hash(self) -> str:
        """Of the test data that they belong to: another one if any label is another."""
        return bound_hash(self.examples_hash, torch.from_numpy(self.labels.astype(np.int64)))


def label_rows(labels: Tensor, lead: tuple[int, ...]) -> np.ndarray:
    """Labels [*lead, N] as int64 [R, N], with R = 1 without a leading shape."""
    rows: np.ndarray = labels.numpy()
    return rows if lead else rows[None]


def stores_labels(data: Data) -> bool:
    """Whether evaluation keeps the test labels, since they are nowhere but beside the images."""
    return not source_of(data).ships_labels


def labels_to_store(config: dict[str, Any]) -> StoredLabels | None:
    """The test labels of a run that are not shipped, with what ties them to the images; None where they are.

    Raises:
        ValueError: when a test image has no label, so that nothing can be right about it.
    """
    data = read_config(config).data
    source = source_of(data)
    if source.ships_labels:
        return None
    labels = source.held_out_labels([0])[0].numpy()
    if (labels < 0).any():
        raise ValueError(
            f"data.name = {data.name}: {int((labels < 0).sum())} test images have no class; move each into the folder "
            "of its class, then prepare and train again"
        )
    small = labels.astype(np.min_scalar_type(int(labels.max())))
    return StoredLabels(
        data.name, small, np.array(source.class_names(), dtype=np.str_), source.held_out_examples_hash()
    )


def test_labels(
    config: dict[str, Any], seeds: Sequence[int], stored: Callable[[str], StoredLabels] | None
) -> tuple[np.ndarray, str]:
    """Labels int64 [R, N] of the test examples of each seed, and the hash of the test data they belong to.

    Args:
        config: resolved settings of a run.
        seeds: of its folder.
        stored: gives the stored labels of a data set, by name, whose labels are not shipped; without it the data set
            is opened.
    """
    data = read_config(config).data
    if stored and stores_labels(data):
        found = stored(data.name)
        return np.tile(found.labels.astype(np.int64), (len(seeds), 1)), found.held_out_hash
    source = source_of(data)
    return source.held_out_labels(seeds).numpy(), source.held_out_hash(seeds)

"""The labels of test examples, for whoever recomputes an accuracy: shipped, or stored in results/labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.config import read_config
from repro.data import source_of
from repro.data.sets import bound_hash
from repro.files import write_whole
from repro.results import LABELS, RecordError, Run, read_record


@dataclass(frozen=True)
class StoredLabels:
    """The test labels of a data set that is not everywhere, as evaluation found them beside the images."""

    data: str  # name of the data set
    labels: np.ndarray  # [N], of the smallest unsigned type that holds every class
    examples_hash: str  # of the test examples

    @property
    def held_out_hash(self) -> str:
        """Of the test data that they belong to: another one if any label is another."""
        return bound_hash(self.examples_hash, torch.from_numpy(self.labels.astype(np.int64)))


def label_rows(labels: Tensor, lead: tuple[int, ...]) -> np.ndarray:
    """Labels [*lead, N] as int64 [R, N], with R = 1 without a leading shape."""
    rows: np.ndarray = labels.numpy()
    return rows if lead else rows[None]


def labels_to_store(config: dict[str, Any]) -> StoredLabels | None:
    """The test labels of a run that are not shipped, with what ties them to the images; None where they are."""
    data = read_config(config).data
    source = source_of(data)
    if source.ships_labels:
        return None
    labels = source.held_out_labels([0])[0].numpy()
    small = labels.astype(np.min_scalar_type(int(labels.max())))
    return StoredLabels(data.name, small, source.held_out_examples_hash())


def store_labels(stored: StoredLabels, root: Path = LABELS) -> Path:
    """Writes the labels under the hash of their test data, whole or not at all."""
    path = _path(root, stored.data, stored.held_out_hash)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, labels=stored.labels, examples=np.array(stored.examples_hash))
    write_whole(path, buffer.getvalue())
    return path


def read_labels(data: str, held_out_hash: str, root: Path = LABELS) -> StoredLabels:
    """The labels of the test data of this name and hash; a RecordError where they are missing, damaged or others."""

    def parse(content: bytes) -> StoredLabels:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            labels, examples = arrays["labels"], str(arrays["examples"])
        if labels.ndim != 1 or labels.dtype.kind != "u":
            raise ValueError("no labels")
        return StoredLabels(data, labels, examples)

    path = _path(root, data, held_out_hash)
    remedy = f"take it back: git checkout -- {path}, or evaluate a run of {data} where its images are"
    stored = read_record(path, parse, remedy)
    if stored.held_out_hash != held_out_hash:
        raise RecordError(f"{path} holds labels of other test data than were evaluated on (hash differs); {remedy}")
    return stored


def labels_of(run: Run, seeds: Sequence[int], root: Path = LABELS) -> tuple[np.ndarray, str]:
    """Labels int64 [R, N] of the test examples of some seeds, shipped or stored, and the hash of their test data."""
    source = source_of(read_config(run.config).data)
    if source.ships_labels:
        return source.held_out_labels(seeds).numpy(), source.held_out_hash(seeds)
    found = read_labels(source.config.name, str(run.seeds.loc[seeds[0], "held_out_hash"]), root)
    return np.tile(found.labels.astype(np.int64), (len(seeds), 1)), found.held_out_hash


def _path(root: Path, data: str, held_out_hash: str) -> Path:
    return root / f"{data}-{held_out_hash[:12]}.npz"

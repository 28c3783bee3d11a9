"""results/labels/<data set>-<hash>.npz: test labels of data sets that are not everywhere, each test set's once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.config import read_config
from repro.evaluate.labels import StoredLabels, stores_labels, test_labels
from repro.files import write_whole
from repro.results import LABELS, RecordError, Run, read_record


def store_labels(stored: StoredLabels, root: Path = LABELS) -> Path:
    """Writes the labels under the hash of their test data, whole or not at all."""
    path = _path(root, stored.data, stored.held_out_hash)
    content = {"labels": stored.labels, "class_names": stored.class_names, "examples": np.array(stored.examples_hash)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **content)
    write_whole(path, buffer.getvalue())
    return path


def read_labels(data: str, held_out_hash: str, root: Path = LABELS) -> StoredLabels:
    """The labels of the test data of this name and hash.

    Raises:
        RecordError: when the file is missing or damaged, or its labels are not those of that test data.
    """
    path = _path(root, data, held_out_hash)
    remedy = f"take it back: git checkout -- {path}, or evaluate a run of {data} where its images are"
    stored = read_record(path, lambda content: _stored(data, content), remedy)
    if stored.held_out_hash != held_out_hash:
        raise RecordError(f"{path} holds labels of other test data than were evaluated on (hash differs); {remedy}")
    return stored


def labels_of(run: Run, seeds: Sequence[int], root: Path = LABELS) -> tuple[np.ndarray, str]:
    """Labels int64 [R, N] of the test examples of some seeds, shipped or stored, and the hash of their test data."""
    held_out = str(run.seeds.loc[seeds[0], "held_out_hash"])
    return test_labels(run.config, seeds, lambda data: read_labels(data, held_out, root))


def labels_key(run: Run, seeds: Sequence[int]) -> str:
    """Equal for seeds of the same labels."""
    stored = stores_labels(read_config(run.config).data)
    return f"{run.config['data']}{run.seeds.loc[seeds[0], 'held_out_hash'] if stored else ''}{list(seeds)}"


def _path(root: Path, data: str, held_out_hash: str) -> Path:
    return root / f"{data}-{held_out_hash[:12]}.npz"


def _stored(data: str, content: bytes) -> StoredLabels:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        labels, names, examples = arrays["labels"], arrays["class_names"], str(arrays["examples"])
    if labels.ndim != 1 or labels.dtype.kind != "u" or names.ndim != 1:
        raise ValueError("no labels")
    return StoredLabels(data, labels, names, examples)

"""The data sets' own test labels, for whoever recomputes an accuracy; needs no model code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from repro.config.read import read_config
from repro.data.held_out import held_out_hash, held_out_labels


def label_rows(labels: Tensor, lead: tuple[int, ...]) -> np.ndarray:
    """Labels [*lead, N] as int64 [R, N], with R = 1 without a leading shape."""
    rows: np.ndarray = labels.numpy()
    return rows if lead else rows[None]


def test_labels(config: dict[str, Any], seeds: Sequence[int]) -> tuple[np.ndarray, str]:
    """Labels int64 [R, N] of the test examples of each seed, and the hash of the test data they belong to."""
    data = read_config(config).data
    return held_out_labels(data, seeds).numpy(), held_out_hash(data, seeds)

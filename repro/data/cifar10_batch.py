"""The content of one of CIFAR-10's batch files: a pickle from which only plain values and arrays can come."""

from __future__ import annotations

import io
import pickle  # only what has the published MD5 comes here, and only arrays can come out
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.data.content import check_images, check_labels

IMAGES = 10_000
"""In every batch file."""

REMEDY = "this is not the published CIFAR-10: delete artifacts/data/cifar10 and prepare it again"


def parse_batch(content: bytes, where: str) -> tuple[Tensor, Tensor]:
    """Images, uint8 [10000, 3, 32, 32], and labels, int64 [10000], of a batch file's content; `where` it came from.

    Raises:
        ValueError: when they are not there, or of another type, number or range.
    """
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError(f"{where}: has no entries data and labels; {REMEDY}")
    images, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "uif":
        raise ValueError(f"{where}: its images are {_kind(images)}, not an array of numbers; {REMEDY}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{where}: its labels are {_kind(labels)}, not a list of whole numbers; {REMEDY}")
    found, classes = torch.tensor(images), torch.tensor(labels, dtype=torch.int64)
    check_images(found, (IMAGES, 3072), where, REMEDY)
    check_labels(classes, IMAGES, 10, where, REMEDY)
    return found.reshape(IMAGES, 3, 32, 32), classes


def _kind(value: object) -> str:
    kinds = {type(item).__name__ for item in value} if isinstance(value, list) else set()
    inside = value.dtype.name if isinstance(value, np.ndarray) else ", ".join(sorted(kinds))
    return f"a {type(value).__name__}" + (f" of {inside}" if inside else "")


class _ArraysOnly(pickle.Unpickler):
    """Builds plain values and numpy arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """One of the three names that the published files ask for."""
        known = {
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": _dtype,
        }
        name = f"{module_name}.{global_name}"
        if name not in known:
            raise pickle.UnpicklingError(f"asks for {name}, which no published file of CIFAR-10 does")
        return known[name]


def _dtype(code: bytes, align: int, copy: int) -> np.dtype[Any]:
    """`numpy.dtype`, which now wants booleans where the files give numbers."""
    return np.dtype(code.decode(), align=bool(align), copy=bool(copy))

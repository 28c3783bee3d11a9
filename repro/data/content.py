"""What images and labels must look like, whoever published them: a second look, after every hash."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, uint8

from repro.data.sets import class_counts


def check_images(images: Tensor, shape: Sequence[int], where: str, remedy: str) -> None:
    """Refuses what is not uint8 of `shape`.

    Raises:
        ValueError: naming `where`, what it has and what it wants, and the remedy.
    """
    if images.dtype != uint8 or list(images.shape) != list(shape):
        raise ValueError(
            f"{where}: its images are {_kind(images)} {list(images.shape)}, not uint8 {list(shape)}; {remedy}"
        )


def check_labels(labels: Tensor, count: int, classes: int, where: str, remedy: str) -> None:
    """Refuses what is not `count` integers from 0 to `classes - 1`.

    Raises:
        ValueError: naming `where`, what it has and what it wants, and the remedy.
    """
    if labels.is_floating_point() or labels.is_complex() or _kind(labels) == "bool" or list(labels.shape) != [count]:
        raise ValueError(
            f"{where}: its labels are {_kind(labels)} {list(labels.shape)}, not {count} whole numbers; {remedy}"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise ValueError(
            f"{where}: {len(outside)} labels are outside 0 to {classes - 1}, such as {int(outside[0])}; {remedy}"
        )


def check_class_counts(labels: Tensor, counts: Sequence[int], where: str, remedy: str) -> None:
    """Refuses labels, int64 [N], of which class k does not occur `counts[k]` times.

    Raises:
        ValueError: naming `where`, every class that is wrong, and the remedy.
    """
    found = class_counts(labels, len(counts))
    wrong = [f"{there} of class {k} instead of {n}" for k, (there, n) in enumerate(zip(found, counts, strict=True))
             if there != n]  # fmt: skip
    if wrong:
        raise ValueError(f"{where}: has {', '.join(wrong)}; {remedy}")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

"""How far a training step ends from where the released code's step ends, in the change since the start."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from tests.released import Arrays, Vector, evenly

Distances = dict[str, float]

# At a first step only rounding, 1e-7, separates us from the reference, and through it the sign of a few LeakyReLU
# inputs within 6e-6 of 0, which moves the gradient of single variables by up to 1.6 %. The bounds are two to four times
# the largest distance seen over kernels (oneDNN and not, channels last, two threads, float64) and over inputs changed
# by 1e-7. Rounding then grows ten- to thirtyfold a step, as between the reference's own two formulas of the variance:
# 1.2e-7, 2.2e-6, 1.1e-5 in the student's weights after one, two and three steps, 1e-5, 3.2e-4, 2.2e-3 in the teacher's.
_TOLERANCES = {
    "exact": (1e-6, 1e-6, 1e-6),  # rates, weights of losses, masks: float32 arithmetic on given numbers
    "student loss": (1e-5, 5e-4, 3e-3),
    "teacher loss": (1e-5, 1e-3, 1.5e-2),
    "difference": (1e-3, 2e-3, 5e-2),  # of losses 200 times as large
    "student norm": (1e-3, 1e-3, 1e-2),
    "teacher norm": (2e-3, 4e-2, 0.3),
    "student logits": (1e-4, 2e-4, 1e-3),
    "teacher logits": (3e-5, 5e-3, 0.1),
    "statistics": (1e-4, 1e-4, 2e-4),  # and the average: a hundredth of the batch's is new, rounded to the whole
    "student": (5e-2, 5e-2, 0.1),
    "teacher": (5e-2, 0.4, 0.8),
    "student momentum at the logits": (2e-5, 2e-3, 1e-2),  # no LeakyReLU between these variables and the loss
    "teacher momentum at the logits": (3e-5, 3e-2, 0.1),
    "student weights at the logits": (2e-4, 2e-3, 1e-2),  # and the float32 rounding of a weight that moved by 1e-4
    "teacher weights at the logits": (2e-4, 3e-2, 0.1),
    "clipped": (8e-4, 3e-2, 0.1),  # the teacher's at the logits, scaled by the norm of the whole gradient
}
_MEMBERS = {
    "exact": ("log/lr/student", "log/lr/teacher", "log/global_step", "log/uda/u_ratio", "log/uda/weight",
              "extra/mask/u"),
    "student loss": ("log/cross_entropy/student_on_u", "log/cross_entropy/student_on_l",
                     "extra/cross_entropy/student_on_l_old"),
    "teacher loss": ("log/cross_entropy/teacher_on_u", "log/cross_entropy/teacher_on_l", "extra/cross_entropy/mpl",
                     "extra/teacher_loss"),
    "difference": ("log/mpl/dot_product", "log/mpl/moving_dot_product", "extra/mpl/raw_dot_product"),
    "student norm": ("extra/grad_norm/student",),
    "teacher norm": ("extra/grad_norm/teacher",),
    "student logits": ("extra/logits/s_on_u", "extra/logits/s_on_l_old", "extra/logits/s_on_l_new"),
    "teacher logits": ("extra/logits/l", "extra/logits/u_ori", "extra/logits/u_aug"),
    "statistics": ("student statistics", "average statistics", "average weights", "average weights at the logits"),
}  # fmt: skip
_CLASSES = {name: kind for kind, names in _MEMBERS.items() for name in names}
OBSERVED = frozenset(name for name in _CLASSES if "/" in name)
"""The logged numbers that a step is compared in."""


def excess(distances: Distances, case: str, step: int) -> tuple[float, str]:
    """The largest distance as a multiple of its tolerance, and which it is; `step` counts from 1."""
    depth = {"A": [0, 1, 2], "B": [0, 1, 1, 2, 2, 2]}[case][step - 1]

    def tolerance(name: str) -> float:
        kind = _CLASSES.get(name, name.removesuffix(", size"))
        if kind.endswith("at the logits"):
            return _TOLERANCES["clipped" if case == "B" and kind.startswith("teacher") else kind][depth]
        return _TOLERANCES[re.sub(" momentum| weights", "", kind)][depth]

    return max((distance / tolerance(name), name) for name, distance in distances.items())


def group(name: str) -> str | None:
    """Whose variable, of which kind and where; None for the teacher's running statistics, which stay where released."""
    owner = "average" if name.startswith("ema/") else "teacher" if name.startswith("teacher/") else "student"
    if "/moving_" in name:
        return None if owner == "teacher" else f"{owner} statistics"
    kind = "momentum" if name.endswith("/Momentum") else "weights"
    return f"{owner} {kind}" + (" at the logits" if "/head/dense/" in name else "")


def relative(ours: Vector, theirs: Vector) -> float:
    """Length of the difference in lengths of theirs; infinite where theirs alone is 0, or ours is not there."""
    if ours.shape != theirs.shape:
        return math.inf
    difference, length = float(np.linalg.norm(ours - theirs)), float(np.linalg.norm(theirs))
    if math.isnan(difference):
        return math.inf
    return difference / length if length else math.inf if difference else 0.0


def of_scalars(seen: dict[str, Tensor], golden: Arrays, case: str, step: int) -> Distances:
    """Each logged number and logits, by tag."""
    return {
        tag: relative(value.numpy().ravel(), golden[f"{case}/{tag}"][step - 1].astype(np.float64).ravel())
        for tag, value in seen.items()
    }


def of_entries(before: Arrays, after: Arrays, golden: Arrays, state: str) -> Distances:
    """For each group the largest over its variables: length of the difference, in lengths of the released change."""
    pieces = np.split(golden[f"entries/{state}"].astype(np.float64), np.cumsum(golden["counts"])[:-1])

    def distances() -> Iterator[tuple[str, float]]:
        for name, theirs in zip(golden["names"].tolist(), pieces, strict=True):
            place = group(name)
            if place and name in before:
                origin = evenly(before[name], len(theirs))
                ours = evenly(after[name], len(theirs)) if name in after else np.full_like(origin, np.nan)
                yield place, relative(ours - origin, theirs - origin)

    return _largest(distances())


def of_summary(before: Arrays, after: Arrays, golden: Arrays, case: str, step: int) -> Distances:
    """For each group the change of all first and last entries together, and the largest distance of a momentum's size.

    Size is the euclidean norm and the largest entry.
    """
    rows = dict(zip(golden["names"].tolist(), golden[f"{case}/summary"][step - 1].astype(np.float64), strict=True))
    members: dict[str, list[str]] = {}
    for name in before:
        if place := group(name):
            members.setdefault(place, []).append(name)
    found = _largest(
        (f"{place}, size", relative(_size(after[name]), rows[name][[0, 2]]))
        for place, names in members.items() if "momentum" in place for name in names
    )  # fmt: skip
    for place, names in members.items():
        origin, ours = (np.array([a[name][[0, -1]] for name in names]) for a in (before, after))
        found[place] = relative(ours - origin, np.array([rows[name][3:] for name in names]) - origin)
    return found


def _size(values: Vector) -> Vector:
    return np.array([np.linalg.norm(values), np.abs(values).max()])


def _largest(distances: Iterable[tuple[str, float]]) -> Distances:
    found: Distances = {}
    for name, distance in distances:
        found[name] = max(found.get(name, 0.0), distance)
    return found

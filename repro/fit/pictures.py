"""What a person looks at beside a classifier: its curves, what it takes for what, and its worst mistakes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from repro.data.images import ImageFiles
from repro.data.layout import printable
from repro.evaluate.predict import Score
from repro.files import write_whole

CURVES, CONFUSION, MISTAKES = "curves.png", "confusion.png", "mistakes.png"
_MOST_CLASSES = 40  # whose names can be read in the confusion matrix
_WORST = 16


def draw_curves(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """The losses along training, and the share of wrong pseudo labels where it is known."""
    names = [name for name in rows[-1] if name.endswith("loss") or name == "pseudo_label_wrong"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="mean since the last point")
    for name in names:
        axes.plot([row["step"] for row in rows], [row.get(name, np.nan) for row in rows], label=name.replace("_", " "),
                  marker="o" if len(rows) == 1 else "")  # fmt: skip
    axes.legend()
    _write(folder / CURVES, figure)


def draw_confusion(folder: Path, score: Score, names: Sequence[str], of: str) -> None:
    """Rows are the true classes, columns those predicted."""
    counts, side = np.array(score.confusion), min(14.0, 3 + 0.35 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true", title=of)
    axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _MOST_CLASSES:
        told = [_told(name) for name in names]
        axes.set_xticks(range(len(names)), told, rotation=90)
        axes.set_yticks(range(len(names)), told)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                light = count > counts[row].sum() / 2
                axes.text(column, row, str(count), ha="center", va="center", color="white" if light else "black")
    _write(folder / CONFUSION, figure)


def draw_mistakes(folder: Path, score: Score, files: ImageFiles, labels: np.ndarray, names: Sequence[str]) -> None:
    """The wrong predictions of the highest probability, as the network sees them; no file where there are none."""
    wrong = np.flatnonzero(score.classes != labels)
    worst = wrong[np.argsort(-score.shares[wrong], kind="stable")][:_WORST]
    if not len(worst):
        (folder / MISTAKES).unlink(missing_ok=True)
        return
    columns = min(4, len(worst))
    lines = -(-len(worst) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for axes in grid:
        axes.axis("off")
    for axes, number in zip(figure.axes, worst.tolist(), strict=False):
        axes.imshow(files[number : number + 1].centre()[0].permute(1, 2, 0).numpy())
        taken, true = (_told(names[int(of[number])]) for of in (score.classes, labels))
        told = f"{taken} {100 * score.shares[number]:.0f} %\nis {true}\n{_told(files.path(number).name)}"
        axes.set_title(told, fontsize=7)
    _write(folder / MISTAKES, figure)


def _told(name: str) -> str:
    """A name that is drawn: short, and no formula."""
    text = printable(name).replace("$", r"\$")
    return text if len(text) <= 24 else f"{text[:23]}…"


def _write(path: Path, figure: Any) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # of letters that its font does not have
        warnings.simplefilter("ignore")
        figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getbuffer())

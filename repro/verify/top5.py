"""The five likeliest classes of every test example: are they a record of their own run, and is the label among them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from repro.evaluate.accuracy import TOP, has_top5, in_top5
from repro.evaluate.run import EvaluatedRun, predictions_hash


def unfit_top5(run: EvaluatedRun, classes: int) -> Iterator[str]:
    """What is wrong with the five likeliest of so many classes, as can be seen without labels."""
    if not has_top5(classes) and not run.top5:
        return
    if run.top5.keys() != run.predictions.keys():
        yield "has the five likeliest classes of other networks than it has predictions of"
        return
    if run.data.get("top5_hash") != predictions_hash(run.top5):
        yield "the five likeliest classes are not those that were evaluated (hash differs)"
    for network, likeliest in run.top5.items():
        predicted = run.predictions[network]
        if likeliest.shape != (*predicted.shape, TOP) or likeliest.dtype != predicted.dtype:
            yield (f"{network} has likeliest classes {likeliest.dtype} {list(likeliest.shape)} for predictions "
                   f"{predicted.dtype} {list(predicted.shape)}")  # fmt: skip
        elif not np.array_equal(likeliest[..., 0], predicted):
            yield f"{network} predicts another class than the first of the five likeliest"
        elif (np.diff(np.sort(likeliest, axis=-1).astype(np.int64), axis=-1) == 0).any():
            yield f"{network} has a class twice among the five likeliest of an example"


def top5_of(run: EvaluatedRun, row: int, labels: np.ndarray) -> dict[str, float]:
    """For each network the share of labels int64 [N] among the five likeliest classes of a seed, by its row."""
    found = {network: in_top5(likeliest[row], labels) for network, likeliest in run.top5.items()}
    return {network: int(hits.sum()) / hits.size for network, hits in found.items()}


def top5_not_as_stored(run: EvaluatedRun, row: int, right: Mapping[str, float]) -> Iterator[str]:
    """Both are k/N, the same division, so they are equal exactly or one of them is wrong."""
    for network, share in right.items():
        stored = [*run.top5_accuracy.get(network, []), *[float("nan")] * (row + 1)][row]
        if stored != share:
            yield f"{network} was stored with top-5 accuracy {stored}, its likeliest classes give {share}"

"""What becomes of planted wrong labels: how many are put right, how many right ones made wrong; and calibration."""

from __future__ import annotations

import numpy as np

BINS = 15
"""Of equal width, for the expected calibration error (Guo et al. 2017)."""


class Planted:
    """Follows the pseudo labels of M unlabelled examples from the last step with wrong labels on.

    Args:
        steps: with wrong labels (`plant.steps`); 0 follows nothing.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._was_wrong: np.ndarray | None = None
        self.curves: dict[str, list[np.ndarray]] = {"put_right": [], "made_wrong": []} if steps else {}

    def see(self, step: int, pseudo: np.ndarray, truth: np.ndarray) -> None:
        """Takes down a snapshot: pseudo labels and true ones, [R, M].

        "put_right": of the examples whose label was wrong when planting ended, the share that is right now, [R].
        "made_wrong": of those whose label was right then, the share that is wrong now. Both NaN before, and where
        there was none.
        """
        if not self._steps:
            return
        if step == self._steps:
            self._was_wrong = pseudo != truth
        right, nothing = pseudo == truth, np.full(len(pseudo), np.nan)
        if self._was_wrong is None:
            shares = (nothing, nothing)
        else:
            shares = (_share(right, self._was_wrong), _share(~right, ~self._was_wrong))
        for values, share in zip(self.curves.values(), shares, strict=True):
            values.append(share)


def _share(what: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each row, the share of `among` for which `what` holds; NaN where there are none."""
    count = among.sum(axis=1)
    share: np.ndarray = np.divide((what & among).sum(axis=1), count, out=np.full(len(what), np.nan), where=count > 0)
    return share


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Expected calibration error of predictions [R, N, K] for labels [R, N]: [R], a share.

    The mean over `BINS` bins of confidence, weighted by their examples, of |accuracy - mean confidence|. A confidence
    on an edge counts to the bin below.
    """
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros(len(labels))
    for k in range(BINS):
        inside = bins == k
        gaps += np.abs((inside * (right.astype(float) - confidence)).sum(axis=1))
    found: np.ndarray = gaps / labels.shape[1]
    return found

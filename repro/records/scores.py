"""Scores of every recorded run, from stored predictions and the data sets' own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repro.evaluate.labels import test_labels
from repro.evaluate.run import EvaluatedRun
from repro.verify.rebuild import Scores, rebuild


def rebuild_all(runs: Mapping[str, Sequence[EvaluatedRun]]) -> dict[str, Scores]:
    """Every accuracy, recomputed from stored predictions and the data sets' own labels."""
    known: dict[str, tuple[np.ndarray, str]] = {}

    def labels_of(one: EvaluatedRun) -> tuple[np.ndarray, str]:
        key = f"{one.config['data']}{one.seeds}"
        if key not in known:
            known[key] = test_labels(one.config, one.seeds)
        return known[key]

    return {name: rebuild(folders, labels_of) for name, folders in runs.items()}

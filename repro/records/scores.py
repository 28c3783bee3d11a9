"""Scores of every recorded run, from stored predictions and the data sets' own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repro.config.data import Cifar10Data
from repro.config.read import read_config
from repro.data.training import split_settings, training_hash
from repro.evaluate.labels import test_labels
from repro.evaluate.run import EvaluatedRun
from repro.verify.rebuild import Scores, rebuild


def rebuild_all(runs: Mapping[str, Sequence[EvaluatedRun]]) -> dict[str, Scores]:
    """Every accuracy, recomputed from stored predictions and the data sets' own labels."""
    known: dict[str, tuple[np.ndarray, str]] = {}
    hashes = _TrainingHashes()

    def labels_of(one: EvaluatedRun) -> tuple[np.ndarray, str]:
        key = f"{one.config['data']}{one.seeds}"
        if key not in known:
            known[key] = test_labels(one.config, one.seeds)
        return known[key]

    return {name: rebuild(folders, labels_of, hashes.of) for name, folders in runs.items()}


class _TrainingHashes:
    """Hashes of training data, computed once for each data set and choice of seeds."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, config: dict[str, Any], seeds: Sequence[int]) -> str | None:
        """The hash; None where the data set has to be at hand for it and is not."""
        data = read_config(config).data
        key = f"{split_settings(data)}{list(seeds)}"
        if key not in self._known:
            try:
                self._known[key] = training_hash(data, seeds)
            except ValueError:
                if not isinstance(data, Cifar10Data):
                    raise
                self._known[key] = None
        return self._known[key]

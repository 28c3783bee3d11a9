"""Scores of every recorded run, from stored predictions and the data sets' own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repro.config.read import read_config
from repro.data import source_of
from repro.evaluate.run import EvaluatedRun
from repro.records.labels import LABELS, labels_key, labels_of
from repro.verify.rebuild import Scores, rebuild


def rebuild_all(runs: Mapping[str, Sequence[EvaluatedRun]], stored: Path = LABELS) -> dict[str, Scores]:
    """Every accuracy, recomputed from stored predictions and the data sets' own labels.

    Args:
        runs: folders by name.
        stored: where labels lie that are not shipped.
    """
    known: dict[str, tuple[np.ndarray, str]] = {}
    hashes = _TrainingHashes()

    def found(one: EvaluatedRun) -> tuple[np.ndarray, str]:
        key = labels_key(one)
        if key not in known:
            known[key] = labels_of(one, stored)
        return known[key]

    return {name: rebuild(folders, found, hashes.of) for name, folders in runs.items()}


class _TrainingHashes:
    """Hashes of training data, computed once for each data set and choice of seeds."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, config: dict[str, Any], seeds: Sequence[int]) -> str | None:
        """The hash; None where the data set has to be at hand for it and is not."""
        source = source_of(read_config(config).data)
        key = f"{source.split_settings()}{list(seeds)}"
        if key not in self._known:
            try:
                self._known[key] = source.training_hash(seeds)
            except ValueError:
                if source.shipped:
                    raise
                self._known[key] = None
        return self._known[key]

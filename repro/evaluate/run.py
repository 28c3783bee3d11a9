"""What is known of one evaluated run: the values that verdicts and the report are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from repro.config import decisive, departures, read_config
from repro.settings import ConfigError


@dataclass(frozen=True)
class EvaluatedRun:
    """One run folder: R seeds (one, unless trained stacked), N test examples, M unlabelled ones, T snapshots."""

    name: str  # of the run in its plan; the experiment's name unless the plan changes settings
    seeds: list[int]
    config: dict[str, Any]  # resolved
    counted: str  # the network whose accuracy is the method's, a key of `predictions`
    predictions: dict[str, np.ndarray]  # network -> uint8 or uint16 [R, N], predicted classes, final weights
    accuracy: dict[str, list[float]]  # network -> [R], as evaluation computed it; verification computes it again
    data: dict[str, Any]
    """training_hash, held_out_hash, the predictions' own hash, that of `top5` where there are any, and, unless the
    record is older, "duplicates": how many test examples the run has trained on, see `repro.evaluate.evaluate`."""
    environment: dict[str, Any]  # revision, clean, versions, device, seconds
    metrics: pd.DataFrame  # one row every log_every steps: step, then means over seeds
    curve: dict[str, np.ndarray] = field(default_factory=dict)
    """"step" [T]; "accuracy/<network>" [R, T] on the test set; unless the class of any unlabelled example is unknown,
    "pseudo_label_wrong" [R, T], the share of them that the labelling network gets wrong, and "wrong_stays" [R, T], of
    those wrong at the snapshot before, the share that now has the same wrong label (NaN at the first); "late_step" [L]
    and "late_accuracy" [R, L], of the counted network on the test set at the last checkpoints of training."""
    boundary: dict[str, np.ndarray] = field(default_factory=dict)
    """For data in the plane, first seeds only: "x" [G], "y" [G], "<network>" uint8 [S, G, G] (255 x probability of
    class 1, rows along y), "points" [S, P, 2], "classes" [S, P], "labelled" [S, B, 2], "labels" [S, B]."""
    top5: dict[str, np.ndarray] = field(default_factory=dict)
    """Where there are more than 10 classes: network -> uint8 or uint16 [R, N, 5], the likeliest classes in order, of
    which the first is the prediction."""
    top5_accuracy: dict[str, list[float]] = field(default_factory=dict)  # as `accuracy`, of `top5`

    @cached_property
    def departures(self) -> list[dict[str, Any]]:
        """From the recipe that its settings name: key, prescribed, here, open. None where they cannot be read today."""
        try:
            return [asdict(departure) for departure in departures(read_config(self.config))]
        except ConfigError:
            return []


def settings_of(run: EvaluatedRun) -> dict[str, Any]:
    """Those that decide what one seed of the run computes, whatever plan it is of and however it was executed.

    A setting that is newer than the record has its default, under which it was made. Where a record cannot be read
    today, its settings are compared as they stand.
    """
    try:
        found = decisive(read_config(run.config))
    except ConfigError:
        found = run.config
    return {key: value for key, value in found.items() if key not in {"title", "data_hash", "planned_seeds"}}


def predictions_hash(predictions: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the networks' names, in order, and their predicted classes: shapes, types and bytes."""
    digest = hashlib.sha256()
    for network in sorted(predictions):
        array = np.ascontiguousarray(predictions[network])
        digest.update(f"{network}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

"""Evaluates a trained run: the only code that opens test data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.config.data import TwoMoonsData
from repro.config.departures import departures
from repro.config.read import read_config
from repro.config.schema import Config
from repro.data.held_out import held_out_hash, held_out_set
from repro.data.image_files import ImageFiles
from repro.data.sets import Examples, Seeds
from repro.data.training import training_hash, training_set
from repro.evaluate.duplicates import duplicates
from repro.evaluate.labels import label_rows
from repro.evaluate.predict import Predictor
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.train.result import Result

LABELLER = "teacher"
"""The network that labels the unlabelled examples, in every method."""

_DRAWN_SEEDS = 3  # two-moons seeds whose decision boundary is kept for the figure


def evaluate(name: str, result: Result) -> EvaluatedRun:
    """Predictions of every network on all test examples, their accuracy, and the curves along training."""
    config = read_config(result.config)
    seeds: Seeds = list(result.seeds) if result.stacked else result.seeds[0]
    predictor = Predictor(config, seeds)
    test = held_out_set(config.data, seeds)
    labels = label_rows(test.labels, predictor.lead)
    curve, final = _curve(config, seeds, result, predictor, test.examples, labels)
    if result.finetuned:
        final[f"{result.counted}_finetuned"] = result.finetuned
    predictions = {network: predictor.classes(weights, test.examples) for network, weights in final.items()}
    return EvaluatedRun(
        name=name,
        seeds=list(result.seeds),
        config=result.config,
        counted=counted_network(result.counted, final),
        predictions=predictions,
        accuracy={network: accuracies(classes, labels) for network, classes in predictions.items()},
        data={
            "training_hash": training_hash(config.data, result.seeds),
            "held_out_hash": held_out_hash(config.data, result.seeds),
            "predictions_hash": predictions_hash(predictions),
            "duplicates": duplicates(training_set(config.data, seeds), test, predictor.lead),
        },
        environment=result.environment,
        departures=[asdict(departure) for departure in departures(config)],
        metrics=pd.DataFrame(result.rows),
        curve=curve,
        boundary=_boundary(config, list(result.seeds), predictor, final) if result.stacked else {},
    )


def first(examples: Examples, lead: int, some: slice) -> Any:
    """The first examples [*lead, n, *E] of [*lead, N, *E]."""
    return examples[some] if isinstance(examples, ImageFiles) else examples[(slice(None),) * lead + (some,)]


def counted_network(role: str, networks: dict[str, Any]) -> str:
    """The averaged weights if there are any, never finetuned ones: those are an arm of their own."""
    return f"{role}_average" if f"{role}_average" in networks else role


def accuracies(classes: np.ndarray, labels: np.ndarray) -> list[float]:
    """Share of correct predictions for each row of uint8 [R, N] against int64 [R, N]."""
    return [float(share) for share in (classes == labels).mean(axis=1)]


def _curve(
    config: Config, seeds: Seeds, result: Result, predictor: Predictor, examples: Examples, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Tensor]]]:
    """Test accuracy and wrong pseudo labels at every snapshot, for figures and for sizing selection bias only.

    Snapshots are read one file at a time; the networks of the last one, the final ones, are returned too.
    """
    train = training_set(config.data, seeds)
    some = slice(config.budget.curve_examples or None)
    lead = len(predictor.lead)
    examples, labels, unlabelled = first(examples, lead, some), labels[:, some], first(train.unlabelled, lead, some)
    truth = label_rows(train.hidden_labels, predictor.lead)[:, some]
    accuracy: dict[str, list[list[float]]] = {}
    steps, wrong, stays, previous = [], [], [], None
    snapshot: dict[str, Any] = {}
    for snapshot in result.snapshots:
        steps.append(snapshot["step"])
        for network, weights in snapshot["networks"].items():
            classes = predictor.classes(weights, examples)
            accuracy.setdefault(f"accuracy/{network}", []).append(accuracies(classes, labels))
        pseudo = predictor.classes(snapshot["networks"][LABELLER], unlabelled)
        wrong.append((pseudo != truth).mean(axis=1))
        stays.append(_share_that_stays_wrong(previous, pseudo, truth))
        previous = pseudo
    late_steps, late = [], []
    for checkpoint in result.late:
        late_steps.append(checkpoint["step"])
        late.append(accuracies(predictor.classes(checkpoint["networks"]["counted"], examples), labels))
    shares = {"pseudo_label_wrong": np.stack(wrong, axis=1), "wrong_stays": np.stack(stays, axis=1)}
    curves = {key: np.array(values).T for key, values in (accuracy | {"late_accuracy": late}).items()} | shares
    floats = {key: values.astype(np.float32) for key, values in curves.items()}
    return {"step": np.array(steps), "late_step": np.array(late_steps)} | floats, dict(snapshot["networks"])


def _share_that_stays_wrong(previous: np.ndarray | None, now: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the labels [R, M] wrong before, the share that is the same wrong label now, [R]; NaN where none was wrong."""
    if previous is None:
        return np.full(len(now), np.nan)
    was_wrong = previous != truth
    count = was_wrong.sum(axis=1)
    same = (was_wrong & (now == previous)).sum(axis=1)
    share: np.ndarray = np.divide(same, count, out=np.full(len(now), np.nan), where=count > 0)
    return share


def _boundary(
    config: Config, seeds: list[int], predictor: Predictor, final: dict[str, dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The networks on a grid over the plane, for the first data sets; see `EvaluatedRun.boundary`."""
    if not isinstance(config.data, TwoMoonsData):
        return {}
    drawn = min(_DRAWN_SEEDS, len(seeds))
    x, y = torch.linspace(-1.6, 2.6, 64), torch.linspace(-1.1, 1.6, 48)
    grid = torch.cartesian_prod(y, x).flip(-1).expand(len(seeds), -1, 2)
    train = training_set(config.data, seeds[:drawn])
    drawn_networks = {
        network: (255 * predictor.probabilities(weights, grid)[:drawn, :, 1]).round().to(torch.uint8)
        for network, weights in final.items()
    }
    return {
        "x": x.numpy(),
        "y": y.numpy(),
        "points": first(train.unlabelled, 1, slice(400)).numpy(),
        "classes": train.hidden_labels[:, :400].numpy().astype(np.uint8),
        "labelled": first(train.labelled, 1, slice(None)).numpy(),
        "labels": train.labels.numpy().astype(np.uint8),
    } | {network: values.reshape(drawn, len(y), len(x)).numpy() for network, values in drawn_networks.items()}

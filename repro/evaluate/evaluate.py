"""Evaluates a trained run: the only code that opens test data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.config.data import TwoMoonsData
from repro.config.read import read_config
from repro.config.schema import Config
from repro.data.held_out import held_out_hash, held_out_set
from repro.data.sets import Seeds
from repro.data.training import training_hash, training_set
from repro.evaluate.accuracy import TOP, accuracies, has_top5, top5_accuracies
from repro.evaluate.curve import curve_of, some_of
from repro.evaluate.duplicates import duplicates
from repro.evaluate.labels import label_rows
from repro.evaluate.predict import Predictor
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.train.result import Result

_DRAWN_SEEDS = 3  # two-moons seeds whose decision boundary is kept for the figure


def evaluate(name: str, result: Result) -> EvaluatedRun:
    """Predictions of every network on all test examples, their accuracy, and the curves along training."""
    config = read_config(result.config)
    seeds: Seeds = list(result.seeds) if result.stacked else result.seeds[0]
    predictor = Predictor(config, seeds)
    test = held_out_set(config.data, seeds)
    labels, train = label_rows(test.labels, predictor.lead), training_set(config.data, seeds)
    curve, final = curve_of(config, result, predictor, test.examples, labels, train)
    if result.finetuned:
        final[f"{result.counted}_finetuned"] = result.finetuned
    many = has_top5(predictor.class_count)
    ranked = predictor.ranked(final, test.examples, TOP if many else 1)
    predictions = {network: np.ascontiguousarray(classes[..., 0]) for network, classes in ranked.items()}
    top5 = ranked if many else {}
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
            "duplicates": duplicates(train, test, predictor.lead),
        }
        | ({"top5_hash": predictions_hash(top5)} if top5 else {}),
        environment=result.environment,
        metrics=pd.DataFrame(result.rows),
        curve=curve,
        boundary=_boundary(config, list(result.seeds), predictor, final) if result.stacked else {},
        top5=top5,
        top5_accuracy={network: top5_accuracies(classes, labels) for network, classes in top5.items()},
    )


def counted_network(role: str, networks: dict[str, Any]) -> str:
    """The averaged weights if there are any, never finetuned ones: those are an arm of their own."""
    return f"{role}_average" if f"{role}_average" in networks else role


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
        "points": some_of(train.unlabelled, 1, slice(400)).numpy(),
        "classes": train.hidden_labels[:, :400].numpy().astype(np.uint8),
        "labelled": some_of(train.labelled, 1, slice(None)).numpy(),
        "labels": train.labels.numpy().astype(np.uint8),
    } | {network: values.reshape(drawn, len(y), len(x)).numpy() for network, values in drawn_networks.items()}

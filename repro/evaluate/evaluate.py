"""Evaluates a trained run: the only code that opens test data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.config.read import read_config
from repro.config.schema import Config
from repro.data import source_of
from repro.data.sets import Seeds
from repro.evaluate.accuracy import TOP, accuracies, has_top5, top5_accuracies
from repro.evaluate.curve import curve_of, some_of
from repro.evaluate.duplicates import duplicates
from repro.evaluate.labels import label_rows
from repro.evaluate.predict import Predictor
from repro.results import Run, predictions_hash, seeds_table
from repro.seeding import seeds_label
from repro.train.result import Result

_DRAWN_SEEDS = 3  # two-moons seeds whose decision boundary is kept for the figure


def evaluate(name: str, result: Result) -> Run:
    """Predictions of every network on all test examples, their accuracy, and the curves along training."""
    config = read_config(result.config)
    seeds: Seeds = list(result.seeds) if result.stacked else result.seeds[0]
    predictor = Predictor(config, seeds)
    source = source_of(config.data)
    test = source.held_out_set(seeds)
    labels, train = label_rows(test.labels, predictor.lead), source.training_set(seeds)
    curve, final = curve_of(config, result, predictor, test.examples, labels, train)
    if result.finetuned:
        final[f"{result.counted}_finetuned"] = result.finetuned
    many = has_top5(predictor.class_count)
    ranked = predictor.ranked(final, test.examples, TOP if many else 1)
    predictions = {network: np.ascontiguousarray(classes[..., 0]) for network, classes in ranked.items()}
    group = seeds_label(result.seeds).partition("-")[2]
    columns: dict[str, Any] = {"group": group}
    columns |= {f"accuracy.{network}": accuracies(classes, labels) for network, classes in predictions.items()}
    columns |= {f"top5.{network}": top5_accuracies(c, labels) for network, c in (ranked if many else {}).items()}
    columns |= told(result.environment, len(result.seeds))
    columns |= {
        "training_hash": source.training_hash(result.seeds),
        "held_out_hash": source.held_out_hash(result.seeds),
        "predictions_hash": predictions_hash(predictions),
    }
    columns |= duplicates(train, test, predictor.lead)
    arrays = {f"predictions.{network}": classes for network, classes in predictions.items()}
    arrays |= {f"top5.{network}": classes for network, classes in (ranked if many else {}).items()}
    arrays |= {f"curve.{key.replace('/', '.')}": values for key, values in curve.items()}
    if result.stacked:
        arrays |= {f"boundary.{k}": v for k, v in _boundary(config, list(result.seeds), predictor, final).items()}
    return Run(
        name=name,
        config=result.config,
        seeds=seeds_table(pd.DataFrame(columns, index=pd.Index(result.seeds, name="seed"))),
        metrics=pd.DataFrame(result.rows).assign(seed=group).pipe(_seed_first),
        arrays=arrays,
    )


def told(environment: Mapping[str, Any], together: int) -> dict[str, Any]:
    """What a record says of a training: its own share of the seconds, device, versions, revision, where it went on."""
    found = {key: value for key, value in environment.items() if key not in {"sessions", "warnings"}}
    found["seconds"] = round(environment["seconds"] / together, 4)
    if len(sessions := environment.get("sessions", [])) > 1:
        found["resumed_at"] = " ".join(str(session["from_step"]) for session in sessions[1:])
    if environment.get("warnings"):
        found["warnings"] = "; ".join(environment["warnings"])
    return found


def _seed_first(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics[["seed", *metrics.columns.drop("seed")]]


def counted_network(role: str, networks: dict[str, Any]) -> str:
    """The averaged weights if there are any, never finetuned ones: those are an arm of their own."""
    return f"{role}_average" if f"{role}_average" in networks else role


def _boundary(
    config: Config, seeds: list[int], predictor: Predictor, final: dict[str, dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The networks on a grid over the plane, for the first data sets; see `EvaluatedRun.boundary`."""
    if config.data.shape != (2,):  # only points lie in a plane
        return {}
    drawn = min(_DRAWN_SEEDS, len(seeds))
    x, y = torch.linspace(-1.6, 2.6, 64), torch.linspace(-1.1, 1.6, 48)
    grid = torch.cartesian_prod(y, x).flip(-1).expand(len(seeds), -1, 2)
    train = source_of(config.data).training_set(seeds[:drawn])
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

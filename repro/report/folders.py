"""Recorded runs as the report has them: one for each group of seeds that were trained together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from repro.config import departures, read_config
from repro.evaluate.run import EvaluatedRun
from repro.results import Run, has_seed_axis
from repro.verify.evidence import expected_networks


def folders_of(runs: Mapping[str, Run]) -> dict[str, list[EvaluatedRun]]:
    """Each run's groups of seeds."""
    return {name: [_folder(run, group, seeds) for group, seeds in run.groups().items()] for name, run in runs.items()}


def _folder(run: Run, group: str, seeds: list[int]) -> EvaluatedRun:
    rows, table = run.rows(seeds), run.seeds.loc[seeds]

    def part(prefix: str) -> dict:
        found = {name: a for name, a in run.arrays.items() if name.startswith(prefix)}
        return {n.removeprefix(prefix): a[rows] if has_seed_axis(n) else a for n, a in found.items()}

    first = table.iloc[0].to_dict()
    metrics = run.metrics[run.metrics["seed"] == group].drop(columns="seed").dropna(axis=1, how="all")
    return EvaluatedRun(
        name=run.name,
        seeds=seeds,
        config=run.config,
        counted=expected_networks(read_config(run.config))[1],
        predictions=part("predictions."),
        accuracy={n: table[f"accuracy.{n}"].tolist() for n in run.networks},
        data={k: first[k] for k in ("training_hash", "held_out_hash", "predictions_hash")}
        | (
            {"duplicates": {k: first[k] for k in ("test_in_training", "other_label")}} if "other_label" in first else {}
        ),
        environment=first
        | {"seconds": float(table["seconds"].sum()), "clean": first["clean"] == "True"}
        | {"seeds_before": [first["seeds_before"]] if first.get("seeds_before") else []},
        departures=[asdict(departure) for departure in departures(read_config(run.config))],
        metrics=metrics.reset_index(drop=True),
        curve={k.replace("accuracy.", "accuracy/"): v for k, v in part("curve.").items()},
        boundary=part("boundary.") if rows[0] == 0 else {},
        top5=part("top5."),
    )

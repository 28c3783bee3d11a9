"""Evaluates every trained run of the plan: artifacts/runs/<run>/ to results/runs/<run>/.

    repro evaluate [<run> ...] [--plan params.yaml]

Recorded runs of other plans are left as they are. Test labels of data sets that are not shipped with the project go to
results/labels/, so that whoever has no images can recompute the accuracies.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.config import Config, expected_networks, read_config
from repro.data import source_of
from repro.data.images import UNKNOWN, ImageFiles
from repro.data.sets import Examples, HeldOutSet, Seeds, TrainingSet
from repro.engine.device import set_up_process, worker_pool
from repro.evaluate.feedback import FeedbackProbe
from repro.evaluate.labels import label_rows, labels_to_store, store_labels
from repro.evaluate.planted import Planted, calibration_error
from repro.evaluate.predict import Predictor, weights_hash
from repro.files import only_writer, plan_path, remove_folder, restore_folder, sweep
from repro.plan import read_plan
from repro.results import (
    LABELS,
    RUNS,
    TOP,
    RecordError,
    Run,
    accuracies,
    has_top5,
    joined,
    predictions_hash,
    read_run,
    seeds_table,
    settings_of,
    top5_accuracies,
    with_record_hashes,
    write_run,
)
from repro.seeding import seeds_label, seeds_listed
from repro.train.checkpoint import Damaged, OtherFormat, Result, load_results
from repro.train.stopping import die_with_parent

TRAINED = Path("artifacts/runs")


def evaluate_runs(arguments: argparse.Namespace) -> None:
    """Evaluates runs side by side in worker processes."""
    names = arguments.runs or [planned.name for planned in read_plan(Path(plan_path(arguments.plan))).runs]
    set_up_process()
    workers, context = worker_pool(processes(len(names)))
    with only_writer(".evaluation", "what is recorded"), ProcessPoolExecutor(workers, context, _start_worker) as pool:
        LABELS.mkdir(parents=True, exist_ok=True)
        sweep(RUNS)
        sweep(LABELS)
        try:
            for line in pool.map(_evaluate_run, names):
                print(line, flush=True)
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process was killed; what was recorded before is intact; if memory ran out, evaluate one run "
                f"at a time: repro evaluate <run>, with {', '.join(dict.fromkeys(names))} for <run>"
            ) from None


def processes(runs: int) -> int:
    """That evaluate so many runs."""
    return min(os.cpu_count() or 1, runs, 8)


def _start_worker() -> None:
    """A killed evaluation leaves no workers behind."""
    die_with_parent()


def _evaluate_run(name: str) -> str:
    """Evaluates all seeds of a run and replaces its record."""
    set_up_process()
    with only_writer(f"{name}.weights", f"what is trained of {name}"):
        restore_folder(TRAINED / name)
        try:
            results = load_results(TRAINED / name)
            if results[0].config["data"].get("test") == "":
                remove_folder(RUNS / name)  # what an earlier training with test images left
                return f"{name}: no test images, nothing to evaluate"
            evaluated = joined([evaluate(name, result) for result in results])
        except (Damaged, OtherFormat) as error:
            raise ValueError(f"{error}; train it again: dvc repro --force --single-item train@{name}") from error
    labels = labels_to_store(evaluated.config)
    if labels:
        store_labels(labels)
    write_run(with_record_hashes(with_seeds_seen(evaluated)))
    counted = expected_networks(read_config(evaluated.config))[1]
    accuracy = evaluated.seeds[f"accuracy.{counted}"]
    line = f"{name}: {counted} {100 * accuracy.mean():.2f} % over {len(accuracy)} seeds"
    collapsed = sum(len(set(classes.tolist())) == 1 for classes in evaluated.predictions(counted))
    if collapsed:
        line += f"; {collapsed} of them predict one class only"
    return line + in_words(evaluated, counted)


def with_seeds_seen(run: Run, root: Path = RUNS) -> Run:
    """The run, told which other seeds of it were recorded before: somebody may have chosen seeds by their results.

    A record that cannot be read today, or whose settings differ in more than the list of seeds, was another run.
    """
    try:
        old = read_run(root / run.name)
    except RecordError:
        return run
    if settings_of(old) != settings_of(run):
        return run
    now, before = (seeds_listed(one.seeds.index.tolist()) for one in (run, old))
    known = [text for text in old.seeds.get("seeds_before", pd.Series(dtype=str)).unique() if text]
    seen = list(dict.fromkeys([*known, *([before] if before != now else [])]))
    return replace(run, seeds=run.seeds.assign(seeds_before=" and ".join(seen))) if seen else run


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
    columns |= {
        f"weights_hash.{network}": _weights_hashes(weights, predictor.lead) for network, weights in final.items()
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


def _weights_hashes(weights: Mapping[str, Tensor], lead: tuple[int, ...]) -> list[str]:
    """Of each seed's own weights, [*lead, ...] by name."""
    own = [{name: value[row] for name, value in weights.items()} for row in range(*lead)] if lead else [weights]
    return [weights_hash(one) for one in own]


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
    """The networks on a grid over the plane, for the first data sets; the arrays `boundary.*` of its record."""
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


LABELLER = "teacher"
"""The network that labels the unlabelled examples, in every method."""

_HELD = 2**30  # bytes of decoded images that are kept from one snapshot to the next


def curve_of(
    config: Config, result: Result, predictor: Predictor, examples: Examples, labels: np.ndarray, train: TrainingSet
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Tensor]]]:
    """The curves, arrays `curve.*` of the record, and the final networks, which are those of the last snapshot.

    Snapshots are read one file at a time. Where the class of any unlabelled example is unknown, nothing is said of
    pseudo labels.

    Args:
        config: the run's settings.
        result: what training left.
        predictor: of the run.
        examples: all N test examples [*lead, N, *E].
        labels: int64 [R, N].
        train: what the run was trained on.
    """
    count, lead = config.budget.curve_examples, len(predictor.lead)
    known = bool((train.hidden_labels >= 0).all())
    examples, labels = _part(examples, labels, lead, count)
    examples = predictor.held(examples, _HELD)
    unlabelled, truth = _part(train.unlabelled, label_rows(train.hidden_labels, predictor.lead), lead, count)
    unlabelled = predictor.held(unlabelled, _HELD) if known else unlabelled
    accuracy: dict[str, list[list[float]]] = {}
    steps, wrong, stays, previous, quality = [], [], [], None, []
    planted = Planted(config.plant.steps)
    probe = FeedbackProbe(config, predictor.seeds) if config.budget.probe_feedback and known else None
    snapshot: dict[str, Any] = {}
    for snapshot in result.snapshots:
        steps.append(snapshot["step"])
        for network, ranked in predictor.ranked(snapshot["networks"], examples, 1).items():
            accuracy.setdefault(f"accuracy/{network}", []).append(accuracies(ranked[..., 0], labels))
            if config.plant.steps:
                p = predictor.probabilities(snapshot["networks"][network], examples).numpy()
                error = calibration_error(p.reshape(-1, *p.shape[-2:]), labels)
                accuracy.setdefault(f"calibration_error/{network}", []).append(error.tolist())
        if known:
            pseudo = predictor.classes(snapshot["networks"][LABELLER], unlabelled)
            wrong.append((pseudo != truth).mean(axis=1))
            stays.append(_share_that_stays_wrong(previous, pseudo, truth))
            planted.see(snapshot["step"], pseudo, truth)
            previous = pseudo
        if probe:
            found = probe.at(snapshot["step"], snapshot["networks"])
            quality.append({key: values.reshape(-1).cpu().numpy() for key, values in found.items()})
    late_steps, late = [], []
    for checkpoint in result.late:
        late_steps.append(checkpoint["step"])
        late.append(accuracies(predictor.classes(checkpoint["networks"]["counted"], examples), labels))
    shares = {"pseudo_label_wrong": np.stack(wrong, axis=1), "wrong_stays": np.stack(stays, axis=1)} if known else {}
    shares |= {key: np.stack(values, axis=1) for key, values in planted.curves.items() if values}
    shares |= {key: np.stack([one[key] for one in quality], axis=1) for key in (quality[0] if quality else {})}
    curves = {key: np.array(values).T for key, values in (accuracy | {"late_accuracy": late}).items()} | shares
    floats = {key: values.astype(np.float32) for key, values in curves.items()}
    return {"step": np.array(steps), "late_step": np.array(late_steps)} | floats, dict(snapshot["networks"])


def some_of(examples: Examples, lead: int, some: slice | Tensor) -> Any:
    """Examples [*lead, n, *E] of [*lead, N, *E]."""
    return examples[some] if isinstance(examples, ImageFiles) else examples[(slice(None),) * lead + (some,)]


def _part(examples: Examples, labels: np.ndarray, lead: int, count: int) -> tuple[Examples, np.ndarray]:
    """`count` of the examples [*lead, N, *E] and labels [R, N], or all if it is 0.

    They are taken at even distances: files are listed class by class, and where the labelled examples are among the
    unlabelled ones they come first.
    """
    total = labels.shape[1]
    if not 0 < count < total:
        return examples, labels
    chosen = torch.arange(count) * total // count
    return some_of(examples, lead, chosen), labels[:, chosen.numpy()]


def _share_that_stays_wrong(previous: np.ndarray | None, now: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the labels [R, M] wrong before, the share that is the same wrong label now, [R]; NaN where none was wrong."""
    if previous is None:
        return np.full(len(now), np.nan)
    was_wrong = previous != truth
    count = was_wrong.sum(axis=1)
    same = (was_wrong & (now == previous)).sum(axis=1)
    share: np.ndarray = np.divide(same, count, out=np.full(len(now), np.nan), where=count > 0)
    return share


def duplicates(train: TrainingSet, test: HeldOutSet, lead: tuple[int, ...]) -> dict[str, int]:
    """How many test examples are training examples, labelled or unlabelled; of R seeds, the sum over the seeds.

    Only the same bytes count, except that a coordinate of -0.0 is one of 0.0.

    Args:
        train: labelled [*lead, B, *E] and unlabelled [*lead, U, *E] examples.
        test: examples [*lead, N, *E] of the same type.
        lead: () for one seed, (R,) for R seeds, each with its own training and test examples.

    Returns:
        "test_in_training", and of these as "other_label" those that have another label in training: with any of their
        copies, of labelled or unlabelled examples.

    Raises:
        ValueError: when the examples are of different types or shapes, so that none could be the same.
    """
    labels = torch.cat([train.labels, train.hidden_labels], dim=len(lead))
    if isinstance(test.examples, Tensor) and isinstance(train.unlabelled, Tensor):
        _refuse_other(train.unlabelled, test.examples, len(lead))
    known, asked = (_digests(part, len(lead)) for part in ([train.labelled, train.unlabelled], [test.examples]))
    rows = zip(known, labels.reshape(-1, labels.shape[-1]), asked, test.labels.reshape(-1, test.labels.shape[-1]),
               strict=True)  # fmt: skip
    found = [_of_one_seed(*row) for row in rows]
    return {"test_in_training": sum(same for same, _ in found), "other_label": sum(wrong for _, wrong in found)}


def _refuse_other(training: Tensor, test: Tensor, lead: int) -> None:
    mine, other = training.shape[lead + 1 :], test.shape[lead + 1 :]
    if (training.dtype, mine) != (test.dtype, other):
        raise ValueError(
            f"test examples are {test.dtype} {list(other)}, training examples {training.dtype} {list(mine)}: "
            "they are not of one data set; prepare the data again: dvc repro prepare"
        )


def in_words(run: Run, counted: str) -> str:
    """What the printed line of a run adds when a test example was trained on, else nothing."""
    groups = run.seeds.drop_duplicates("group")  # of seeds trained together each row says the sum
    same, other = (int(groups[key].sum()) for key in ("test_in_training", "other_label"))
    if not same:
        return ""
    count = run.predictions(counted).size
    return f"; NOTE: {same} of {count} test examples are training examples too, {other} of them with another label"


def _of_one_seed(
    training: Sequence[bytes], labels: Tensor, test: Sequence[bytes], test_labels: Tensor
) -> tuple[int, int]:
    """Test examples that are in training, and those of them that have another label there."""
    known: dict[bytes, set[int]] = {}
    for digest, label in zip(training, labels.tolist(), strict=True):
        known.setdefault(digest, set()).add(label)
    found = [(known[digest] - {UNKNOWN}, label) for digest, label in zip(test, test_labels.tolist(), strict=True)
             if digest in known]  # fmt: skip
    return len(found), sum(bool(there - {label}) for there, label in found)


def _digests(parts: Sequence[Examples], lead: int) -> list[list[bytes]]:
    """For each seed, a hash of every example of all parts, in order; of an image in a file, of the file's content."""
    rows: list[list[bytes]] = []
    for part in parts:
        stacked = [part] if isinstance(part, ImageFiles) or not lead else list(part)
        rows = rows or [[] for _ in stacked]
        for row, examples in zip(rows, stacked, strict=True):
            row.extend(_contents(examples) if isinstance(examples, ImageFiles) else _hashed(examples))
    return rows


def _contents(files: ImageFiles) -> Iterator[bytes]:
    return (digest.tobytes() for digest in files.digests)


def _hashed(examples: Tensor) -> Iterator[bytes]:
    """A hash of every example [N, *E], in order."""
    array = examples.cpu().numpy()
    if np.issubdtype(array.dtype, np.floating):
        array = array + 0.0  # -0.0 + 0.0 is 0.0
    return (hashlib.sha256(row.tobytes()).digest() for row in array)

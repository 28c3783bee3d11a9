"""Evaluates every trained run of the plan: artifacts/runs/<run>/ to results/runs/<run>/.

    repro evaluate [<run> ...] [--plan params.yaml]

Recorded runs of other plans are left as they are. Test labels of data sets that are not shipped with the project go to
results/labels/, so that whoever has no images can recompute the accuracies.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
from repro.evaluate.predict import Predictor, weights_hash
from repro.files import TRAINED, only_writer, plan_path, refuse_path, remove_folder, restore_folder, sweep
from repro.plan import read_plan
from repro.results import (
    LABELS,
    RUNS,
    TOP,
    RecordError,
    Run,
    accuracies,
    has_top5,
    in_top5,
    joined,
    predictions_hash,
    read_run,
    seeds_table,
    settings_of,
    with_record_hashes,
    write_run,
)
from repro.seeding import seeds_label, seeds_listed
from repro.train.checkpoint import Damaged, OtherFormat, Result, load_results
from repro.train.stopping import die_with_parent


def evaluate_runs(arguments: argparse.Namespace) -> None:
    """Evaluates runs side by side in worker processes."""
    names = arguments.runs or [planned.name for planned in read_plan(Path(plan_path(arguments.plan))).runs]
    for name in names:
        refuse_path(name)
    set_up_process()
    workers, context = worker_pool(processes(len(names)))
    with only_writer(".evaluation", "what is recorded"), ProcessPoolExecutor(workers, context, die_with_parent) as pool:
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


@contextmanager
def trained(name: str) -> Iterator[list[Result]]:
    """What training left of a run, which nobody else writes meanwhile; what is damaged is refused."""
    with only_writer(f"{name}.weights", f"what is trained of {name}"):
        restore_folder(TRAINED / name)
        try:
            yield load_results(TRAINED / name)
        except (Damaged, OtherFormat) as error:
            raise ValueError(f"{error}; train it again: dvc repro --force --single-item train@{name}") from error


def _evaluate_run(name: str) -> str:
    """Evaluates all seeds of a run and replaces its record."""
    set_up_process()
    with trained(name) as results:
        if results[0].config["data"].get("test") == "":
            remove_folder(RUNS / name)  # what an earlier training with test images left
            return f"{name}: no test images, nothing to evaluate"
        evaluated = joined([evaluate(name, result) for result in results])
    labels = labels_to_store(evaluated.config)
    if labels:
        store_labels(labels)
    write_run(with_record_hashes(with_seeds_seen(evaluated)))
    counted = expected_networks(read_config(evaluated.config))[1]
    accuracy = evaluated.seeds[f"accuracy.{counted}"]
    return f"{name}: {counted} {100 * accuracy.mean():.2f} % over {len(accuracy)} seeds{in_words(evaluated, counted)}"


def with_seeds_seen(run: Run) -> Run:
    """The run, told which other seeds of it were recorded before: somebody may have chosen seeds by their results.

    A record that cannot be read today, or whose settings differ in more than the list of seeds, was another run.
    """
    try:
        old = read_run(RUNS / run.name)
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
    columns |= {f"top5.{network}": in_top5(c, labels).mean(axis=1) for network, c in (ranked if many else {}).items()}
    columns |= told(result.environment, len(result.seeds))
    columns["training_hash"] = source.training_hash(result.seeds)
    columns["held_out_hash"] = source.held_out_hash(result.seeds)
    columns["predictions_hash"] = predictions_hash(predictions)
    columns |= {f"weights_hash.{network}": _weights_hashes(own, predictor.lead) for network, own in final.items()}
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
        metrics=pd.DataFrame([{"seed": group} | row for row in result.rows]),
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
    pseudo labels. `examples` are all N test examples [*lead, N, *E], `labels` int64 [R, N].
    """
    count, lead = config.budget.curve_examples, len(predictor.lead)
    known = bool((train.hidden_labels >= 0).all())
    examples, labels = _part(examples, labels, lead, count)
    examples = predictor.held(examples, _HELD)
    unlabelled, truth = _part(train.unlabelled, label_rows(train.hidden_labels, predictor.lead), lead, count)
    unlabelled = predictor.held(unlabelled, _HELD) if known else unlabelled
    accuracy: dict[str, list[list[float]]] = {}
    steps: list[int] = []
    pseudo, quality = [], []
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
            pseudo.append(predictor.classes(snapshot["networks"][LABELLER], unlabelled))
        if probe:
            found = probe.at(snapshot["step"], snapshot["networks"])
            quality.append({key: values.reshape(-1).cpu().numpy() for key, values in found.items()})
    late_steps, late = [], []
    for checkpoint in result.late:
        late_steps.append(checkpoint["step"])
        late.append(accuracies(predictor.classes(checkpoint["networks"]["counted"], examples), labels))
    shares = label_curves(np.stack(pseudo, axis=1), truth, steps, config.plant.steps) if known else {}
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


def label_curves(pseudo: np.ndarray, truth: np.ndarray, steps: list[int], planting: int) -> dict[str, np.ndarray]:
    """Of pseudo labels [R, T, M] at T steps, held against the true ones [R, M]: shares along training, [R, T].

    "pseudo_label_wrong"; "wrong_stays": of those wrong a snapshot before, the share with the same wrong label now.
    Where the first `planting` steps had wrong labels, "put_right": of those wrong when planting ended, the share that
    is right now; "made_wrong": of those right then, the share that is wrong now. NaN before, and where there was none.
    """
    wrong = pseudo != truth[:, None]
    stays = _share(pseudo[:, 1:] == pseudo[:, :-1], wrong[:, :-1])
    found = {"pseudo_label_wrong": wrong.mean(axis=-1), "wrong_stays": stays}
    if planting:
        first = steps.index(planting) if planting in steps else len(steps)
        was_wrong, now = wrong[:, first : first + 1], wrong[:, first:]
        found |= {"put_right": _share(~now, was_wrong), "made_wrong": _share(now, ~was_wrong)}
    before = {key: ((0, 0), (len(steps) - shares.shape[1], 0)) for key, shares in found.items()}
    return {key: np.pad(shares, before[key], constant_values=np.nan) for key, shares in found.items()}


def _share(what: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Over the last axis, the share of `among` for which `what` holds; NaN where there are none."""
    count = np.broadcast_to(among, what.shape).sum(axis=-1)
    share: np.ndarray = np.divide((what & among).sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return share


BINS = 15
"""Of equal width, for the expected calibration error (Guo et al. 2017)."""


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Expected calibration error of predictions [R, N, K] for labels [R, N]: [R], a share.

    The mean over `BINS` bins of confidence, weighted by their examples, of |accuracy - mean confidence|. A confidence
    on an edge counts to the bin below.
    """
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros(len(labels))
    for k in range(BINS):
        gaps += np.abs(((bins == k) * (right.astype(float) - confidence)).sum(axis=1))
    found: np.ndarray = gaps / labels.shape[1]
    return found


def duplicates(train: TrainingSet, test: HeldOutSet, lead: tuple[int, ...]) -> dict[str, int]:
    """How many test examples are training examples, labelled or unlabelled; of R seeds, the sum over the seeds.

    Only the same bytes count, except that a coordinate of -0.0 is one of 0.0. With `lead` = (R,), each seed has its own
    examples. Of these, "other_label" are those that have another label in training: with any of their copies.
    """
    same = wrong = 0
    for seed in range(*lead or (1,)):

        def own(part: Any, seed: int = seed) -> Any:
            return part[seed] if lead else part

        known: defaultdict[bytes, set[int]] = defaultdict(set)
        for examples, labels in ((train.labelled, train.labels), (train.unlabelled, train.hidden_labels)):
            for digest, label in zip(_hashes(own(examples)), own(labels).tolist(), strict=True):
                known[digest].add(label)
        for digest, label in zip(_hashes(own(test.examples)), own(test.labels).tolist(), strict=True):
            same += digest in known
            wrong += digest in known and bool(known[digest] - {UNKNOWN, label})
    return {"test_in_training": same, "other_label": wrong}


def _hashes(examples: Examples) -> Iterator[bytes]:
    """Of every example [N, *E], in order; of an image in a file, its content's."""
    if isinstance(examples, ImageFiles):
        return (digest.tobytes() for digest in examples.digests)
    array = examples.cpu().numpy()
    if np.issubdtype(array.dtype, np.floating):
        array = array + 0.0  # -0.0 + 0.0 is 0.0
    return (hashlib.sha256(row.tobytes()).digest() for row in array)


def in_words(run: Run, counted: str) -> str:
    """What the printed line adds where seeds predict one class, or a test example was trained on; else nothing."""
    collapsed = sum(len(set(classes.tolist())) == 1 for classes in run.predictions(counted))
    said = f"; {collapsed} of them predict one class only" if collapsed else ""
    groups = run.seeds.drop_duplicates("group")  # of seeds trained together each row says the sum
    same, other = (int(groups[key].sum()) for key in ("test_in_training", "other_label"))
    if same:
        count = run.predictions(counted).size
        said += f"; NOTE: {same} of {count} test examples are training examples too, {other} of them with another label"
    return said

"""What looks unlike a training, though every hash fits: said with the evidence, for a reader to judge.

No file can prove that it was trained. Each rule here is plain, and all recorded runs pass it with room to spare; what
it finds is no refusal, since an honest run may be the first of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np

from repro.config import Config
from repro.results import Run

Correct = Mapping[str, Mapping[int, np.ndarray]]
"""Network -> seed -> bool [N], which test examples are right."""

_ALIKE = 0.8
"""Of the examples that one of two seeds gets wrong, the share with the same wrong answer; 0.70 is the most recorded."""
_FEWEST_ERRORS = 20  # hard examples are wrong in every seed, and few of them show nothing
_COLLAPSED = 0.9  # networks that give one class for so many examples err alike whatever they learned
_CURVE = 0.005  # a GPU may round otherwise where a curve takes a part of the examples; recorded: 0
_LOGGED = 0.4  # the log's last row is of augmented batches, with dropout, before the last steps; recorded: 0.28
_SLOWER = 10.0  # than the median of the run's seeds on the same device, or faster; recorded: 5.8
_STEP = {"cpu": 1e-4, "cuda": 2e-5}
"""Seconds below which no step of a network stays on a device, whatever its size; recorded on a CPU: 5e-4."""


def flags(run: Run, config: Config, correct: Correct) -> list[str]:
    """All that is found of a run whose record is whole, a sentence each."""
    return [*_alike(run, correct), *_ends_elsewhere(run, config, correct), *_other_log(run), *_seconds(run, config)]


def _alike(run: Run, correct: Correct) -> Iterator[str]:
    """A seed copied over another, with a few answers changed."""
    for network, right in correct.items():
        classes = {seed: run.predictions(network)[place] for seed, place in zip(right, run.rows(right), strict=True)}
        seeds = [seed for seed, row in classes.items() if np.bincount(row).max() <= _COLLAPSED * row.size]
        if len(seeds) < 2 or max(int(row.max()) for row in classes.values()) < 2:  # of two classes one is right
            continue
        predicted = np.stack([classes[seed] for seed in seeds])
        wrong = ~np.stack([right[seed] for seed in seeds])
        same, count = np.zeros((len(seeds), len(seeds)), np.float32), wrong.sum(axis=1)
        for one in np.flatnonzero(np.bincount(predicted[wrong])):
            there = (wrong & (predicted == one)).astype(np.float32)
            same += there @ there.T
        both = wrong.astype(np.float32) @ wrong.T.astype(np.float32)
        either = count[:, None] + count[None, :] - both
        share = np.where(either >= _FEWEST_ERRORS, same / np.maximum(either, 1), 0.0)
        share = np.triu(share, k=1)
        if found := int((share >= _ALIKE).sum()):
            i, j = np.unravel_index(int(share.argmax()), share.shape)
            more = f" (and {found - 1} more pairs)" if found > 1 else ""
            yield (f"{network}: seeds {seeds[i]} and {seeds[j]}{more} give the same wrong answer to "
                   f"{100 * share[i, j]:.0f} % of the {either[i, j]:.0f} examples that either gets wrong: "
                   "one may be a copy of the other")  # fmt: skip


def _ends_elsewhere(run: Run, config: Config, correct: Correct) -> Iterator[str]:
    """The last snapshot of a curve is the final network: both give the same accuracy."""
    for network, right in correct.items():
        curve = run.arrays.get(f"curve.accuracy.{network}")
        if curve is None or not curve.shape[1] or run.arrays["curve.step"][-1] != config.budget.steps:
            continue
        for seed, place in zip(right, run.rows(right), strict=True):
            total, count = right[seed].size, config.budget.curve_examples
            part = np.arange(count) * total // count if 0 < count < total else slice(None)
            share = float(right[seed][part].mean())
            if not abs(float(curve[place, -1]) - share) <= _CURVE:
                yield (f"{network}: the curve of seed {seed} ends at an accuracy of {curve[place, -1]:.4f}, its "
                       f"predictions give {share:.4f} on the same examples")  # fmt: skip


def _other_log(run: Run) -> Iterator[str]:
    """The share of wrong pseudo labels is in the log and, of the same network, in the curve."""
    curve = run.arrays.get("curve.pseudo_label_wrong")
    if curve is None or not curve.shape[1] or "pseudo_label_wrong" not in run.metrics:
        return
    last = run.metrics.groupby("seed")["pseudo_label_wrong"].last()
    for group, seeds in run.groups().items():
        ends = float(curve[run.rows(seeds), -1].mean())
        if group in last and abs(last[group] - ends) > _LOGGED:
            yield (f"seed {group}: the log ends with {100 * last[group]:.0f} % of pseudo labels wrong, the curve with "
                   f"{100 * ends:.0f} %")  # fmt: skip


def _seconds(run: Run, config: Config) -> Iterator[str]:
    """No device takes a step in no time, nor one seed a tenth of another's."""
    if "seconds" not in run.seeds:
        return
    device = run.seeds.get("device", run.seeds["group"].map(lambda _: "cpu"))
    together = run.seeds["group"].map(run.seeds["group"].value_counts())
    step = run.seeds["seconds"] * together / config.budget.steps
    for seed in run.seeds.index[~(step >= device.map(lambda name: _STEP.get(str(name).split(":")[0], 2e-5)))]:
        yield (f"seed {seed}: {run.seeds.loc[seed, 'seconds']:g} seconds for {config.budget.steps:,} steps is less "
               "than any device of its kind takes")  # fmt: skip
    if "device_name" not in run.seeds:
        return
    usual = run.seeds.groupby("device_name")["seconds"].transform("median")
    ratio = run.seeds["seconds"] / usual
    for seed in run.seeds.index[(ratio > _SLOWER) | (ratio < 1 / _SLOWER)]:
        yield (f"seed {seed}: {run.seeds.loc[seed, 'seconds']:g} seconds, where half of the seeds on the same device "
               f"took less than {usual[seed]:g}")  # fmt: skip


def before_registration(finished: Mapping[int, str], registered: datetime | None) -> str:
    """That a seed was finished before its claim was registered, or does not say when; empty where all came after.

    Times are as ISO 8601 has them, with their zone; `registered` is None where the claim does not say that it was.
    """
    if registered is None:
        return ""
    for seed, when in finished.items():
        try:
            before = datetime.fromisoformat(when) < registered
        except (ValueError, TypeError):
            return f"seed {seed} does not say when it was finished, so not whether its claim came first"
        if before:
            return f"seed {seed} was finished at {when}, before its claim was registered at {registered.isoformat()}"
    return ""

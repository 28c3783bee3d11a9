"""One arm of a comparison: a run, its scores, and how it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from repro.evaluate.run import EvaluatedRun
from repro.report.groups import STATED, Group
from repro.report.style import LOOKS
from repro.report.swept import swept
from repro.verify.rebuild import Scores


@dataclass(frozen=True)
class Arm:
    """A run by its name, with what was recorded and what could be recomputed of it."""

    name: str
    suffix: str  # what the name ends in, the same in every group
    title: str  # for people
    runs: tuple[EvaluatedRun, ...]  # its folders, without those of which any seed was refused
    counted: str  # the network whose accuracy is the method's
    accuracy: dict[int, float]  # seed -> share correct, recomputed from predictions; refused seeds are absent
    networks: dict[str, dict[int, float]]  # the same for every network
    correct: dict[int, np.ndarray]  # seed -> bool [N], which test examples the counted network gets right
    problems: tuple[str, ...]  # why numbers were refused
    training_hash: dict[tuple[int, ...], str]  # seeds of a folder -> hash of its training data
    top5: dict[int, float]  # as `accuracy`, of labels among the five likeliest classes; empty up to 10 classes


def compared_examples(arms: Sequence[Arm]) -> str:
    """On which unlabelled examples the pseudo labels along training are compared with the classes."""
    bounds = {run.config["budget"].get("curve_examples", 0) for arm in arms for run in arm.runs}
    if bounds <= {0}:
        return "all unlabelled examples"
    if len(bounds) == 1:
        return f"the same {bounds.pop():,} unlabelled examples at each point"
    return "as many unlabelled examples as each run's `budget.curve_examples` says"


def arms_of(
    group: Group, names: Sequence[str], runs: Mapping[str, Sequence[EvaluatedRun]], scores: Mapping[str, Scores]
) -> list[Arm]:
    """The group's arms in the order of `LOOKS`, points of a sweep in the order of their values."""
    arms = [_arm(group, name, tuple(runs.get(name, ())), scores.get(name)) for name in names]
    arms += _not_varied(group, names, runs, scores)
    order = list(LOOKS)

    def key(arm: Arm) -> tuple[str, float, int, str]:
        point = swept(group, arm.name)
        rank = order.index(arm.suffix) if arm.suffix in LOOKS else len(order)
        return (
            (point.what, swept_value(arm, point.what, point.value), rank, arm.name)
            if point
            else ("", 0, rank, arm.name)
        )

    return _told_apart(sorted(arms, key=key))


def _not_varied(
    group: Group, names: Sequence[str], runs: Mapping[str, Sequence[EvaluatedRun]], scores: Mapping[str, Scores]
) -> list[Arm]:
    """For a sweep, the stated setting's own runs: the point between the values that are tried besides it."""
    found = []
    points = {(point.what, point.arm) for name in names if (point := swept(group, name))}
    for what, suffix in sorted(points):
        name = f"{STATED}{suffix}"
        if not runs.get(name) or what not in _SETTINGS:
            continue
        arm = _arm(group, name, tuple(runs[name]), scores.get(name))
        section, key = _SETTINGS[what]
        value = f"{runs[name][0].config[section][key]:g}"
        title = f"{arm.title}, {what} {value} (as stated above)"
        found.append(replace(arm, name=f"{group.prefix}{what}_{value}_{suffix}", suffix=suffix, title=title))
    return found


def _told_apart(arms: Sequence[Arm]) -> list[Arm]:
    """The same arms; those that share a title carry their run's name in it."""
    titles = Counter(arm.title for arm in arms)
    return [replace(arm, title=f"{arm.title} ({arm.name})") if titles[arm.title] > 1 else arm for arm in arms]


def _arm(group: Group, name: str, runs: tuple[EvaluatedRun, ...], scores: Scores | None) -> Arm:
    point = swept(group, name)
    suffix = point.arm if point else name.removeprefix(group.prefix)
    title = next((str(run.config.get("title") or "") for run in runs), "") or suffix.replace("_", " ")
    if point and f"{point.what} {point.value}" not in title:
        title = f"{title}, {point.what} {point.value}"
    counted = scores.counted if scores else next((run.counted for run in runs), "")
    accuracy = dict(scores.accuracy.get(counted, {})) if scores else {}
    return Arm(
        name=name,
        suffix=suffix,
        title=title,
        runs=tuple(run for run in runs if set(run.seeds) <= accuracy.keys()),
        counted=counted,
        accuracy=accuracy,
        networks={network: dict(values) for network, values in scores.accuracy.items()} if scores else {},
        correct=dict(scores.correct.get(counted, {})) if scores else {},
        training_hash=dict(scores.training_hash) if scores else {},
        top5=dict(scores.top5.get(counted, {})) if scores else {},
        problems=tuple(scores.problems) if scores else ("its accuracy was not recomputed from predictions",),
    )


_SETTINGS = {"noise": ("data", "noise"), "batch": ("budget", "unlabelled_batch")}


def swept_value(arm: Arm, what: str, value: str) -> float:
    """The setting that a sweep varies, from the run's configuration, else from its name."""
    section, key = _SETTINGS.get(what, ("", ""))
    for run in arm.runs:
        if key in run.config.get(section, {}):
            return float(run.config[section][key])
    return float(value.replace("p", ".").replace("_", "."))

"""Runs, scores and claims made up, and the report on them, that the tests of the report share."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from repro.evaluate.run import EvaluatedRun
from repro.report.arms import Arm, arms_of
from repro.report.groups import CIFAR10, FILES, GROUPS, SVHN, Group
from repro.report.render import Report, render
from repro.verify.claims import Claim, Ordering, Origin
from repro.verify.rebuild import Scores

STEPS = np.array([0, 50, 100])
STATED, TUNED, FEEDBACK_ONLY, SWEEP, _, DIGITS, LONG, QUICK = [
    group for group in GROUPS if group not in (*CIFAR10, *SVHN, *FILES)
]


def make_run(name: str, finals: list[float], first_seed: int = 0, title: str = "", **changes: object) -> EvaluatedRun:
    """A run whose accuracy rises from 0.5 over 0.9 to `finals`, one for each seed."""
    seeds = list(range(first_seed, first_seed + len(finals)))
    rising = np.array([[0.5, 0.9, final] for final in finals])
    grid = np.tile(np.linspace(0, 255, 5), (1, 4, 1)).astype(np.uint8)
    values: dict[str, object] = {
        "name": name,
        "seeds": seeds,
        "config": {"title": title, "data": {}, "budget": {}, "recipe": {"name": "none"}},
        "counted": "student",
        "predictions": {},
        "accuracy": {"student": finals},
        "data": {},
        "environment": {"revision": "0123456789abcdef", "clean": True, "device_name": "a CPU", "seconds": 60.0},
        "metrics": pd.DataFrame(
            {"step": [50, 100], "feedback": [0.1, 0.2], "feedback_spread": [0.3, 0.3], "noise_floor": [0.0, math.nan]}
        ),
        "curve": {
            "step": STEPS,
            "accuracy/student": rising,
            "pseudo_label_wrong": 1 - rising,
            "wrong_stays": np.where(STEPS == 0, np.nan, rising),
        },
        "boundary": {
            "x": np.linspace(-1, 2, 5),
            "y": np.linspace(-1, 1, 4),
            "points": np.zeros((1, 3, 2)),
            "classes": np.array([[0, 1, 1]]),
            "labelled": np.zeros((1, 2, 2)),
            "labels": np.array([[0, 1]]),
            "student": grid,
        },
    }
    return EvaluatedRun(**(values | changes))  # type: ignore[arg-type]


def make_scores(run: EvaluatedRun, problems: tuple[str, ...] = (), training_hash: str = "h") -> Scores:
    """Scores that repeat what the run says of itself."""
    accuracy = {network: dict(zip(run.seeds, values, strict=True)) for network, values in run.accuracy.items()}
    return Scores(
        name=run.name,
        config=run.config,
        counted=run.counted,
        accuracy=accuracy,
        correct={},
        departures=[],
        problems=list(problems),
        reduced=True,
        held_out=1000,
        training_hash={tuple(run.seeds): training_hash},
    )


def report_on(*runs: EvaluatedRun) -> Report:
    """The report on these runs, without claims."""
    return render({run.name: [run] for run in runs}, {run.name: make_scores(run) for run in runs}, [], [], [])


def arms_on(group: Group, *runs: EvaluatedRun) -> list[Arm]:
    """The arms of `group` that these runs make."""
    scores = {run.name: make_scores(run) for run in runs}
    return arms_of(group, list(scores), {run.name: [run] for run in runs}, scores)


def first_cells(markdown: str) -> list[str]:
    """First column of a Markdown table, without its head."""
    return [line.split("|")[1].strip() for line in markdown.splitlines()[2:]]


def make_claim(name: str, by: Origin = Origin.paper, cost: str = "", discrepancy: str = "") -> Claim:
    """A claim about two runs."""
    rule = Ordering("a", ("b",), 0.0, 1.0)
    return Claim(name, f"{name} holds", "Table 2", "w", "mpl", rule, by, cost=cost, known_discrepancy=discrepancy)


def section_of(markdown: str, heading: str) -> str:
    """A section's text; the empty string when it is not there."""
    _, _, rest = markdown.partition(f"\n## {heading}\n")
    return rest.split("\n## ")[0]

"""Whom a training run tells what, and how it ends before its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

Progress = Callable[[int], None]
"""Called with the number of steps done since the last call."""

Report = Callable[[dict[str, float]], None]
"""Called with each new row."""

Say = Callable[[str], None]
"""Called with what a person should know."""


class Calls(TypedDict, total=False):
    """The arguments of `Trainer.steps` besides its folder."""

    progress: Progress
    deadline: float
    report: Report
    stop: Callable[[], bool]
    say: Say


class OutOfTime(Exception):
    """The time budget is spent; the state is saved, and the same command goes on from it."""


class Stopped(Exception):
    """Someone asked for an end; the state is saved, and the same command goes on from it."""

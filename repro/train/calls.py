"""Whom a training run tells what, and how it ends before its time."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], None]
"""Called with the number of steps done since the last call."""

Report = Callable[[dict[str, float]], None]
"""Called with each new row."""

Say = Callable[[str], None]
"""Called with what a person should know."""


class OutOfTime(Exception):
    """The time budget is spent; the state is saved, and the same command goes on from it."""


class Stopped(Exception):
    """Someone asked for an end; the state is saved, and the same command goes on from it."""

"""A few strikes; `python -m tests.survival` makes many."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.survival import ROOT, STRIKES, trials


@pytest.mark.slow
@pytest.mark.parametrize(("run", "kinds"), [
    ("digits_mpl", ("leader SIGKILL", "all SIGINT")),
    ("moons_tuned_mpl", ("worker SIGKILL", "all, and SIGKILL while they save SIGTERM")),
])  # fmt: skip
def test_what_is_struck_down_ends_as_if_it_had_not_been(run: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    """The same weights, log and predictions, the right exit status, and nothing left behind."""
    assert set(kinds) <= set(STRIKES)
    found = trials(tmp_path / "place", run, kinds, 1, random.Random(3))  # noqa: S311 - moments are no secret

    assert [] == [why for tried in found.values() for _, why in tried if why]
    assert sum(met for tried in found.values() for met, _ in tried) > 0


def test_the_table_shows_the_recorded_trials() -> None:
    """tests/README.md has a row for each kind of trial in results/survival.json, and all survived."""
    trials = json.loads((ROOT / "results/survival.json").read_text())["trials"]
    rows = [f"| {row['says']} | {row['trials']} | {row['strikes']} | {row['survived']} |" for row in trials]
    shown = (ROOT / "tests/README.md").read_text().splitlines()

    assert [] == [row for row in rows if row not in shown]
    assert all(row["survived"] == row["trials"] > 0 for row in trials)

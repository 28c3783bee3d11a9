"""The sweep of what the paper leaves open, as the report shows it."""

from __future__ import annotations

from pathlib import Path

from repro.records.scores import rebuild_all

from repro.records.runs import read_runs
from repro.report.arms import arms_of
from repro.report.groups import GROUPS, grouped

SWEEP = next(group for group in GROUPS if group.key == "moons_sweep")


def test_a_sweep_shows_the_stated_setting_among_its_points() -> None:
    """The value that is not varied comes from the stated setting's own runs, with their numbers."""
    names = {"moons_stated_mpl", "moons_sweep_noise_0.05_mpl", "moons_sweep_noise_0.2_mpl"}
    runs = {
        name: found for name, found in read_runs(Path(__file__).parent.parent / "results/runs").items() if name in names
    }
    scores = rebuild_all(runs)
    swept_names = {group.key: found for group, found in grouped(runs)}["moons_sweep"]

    arms = arms_of(SWEEP, swept_names, runs, scores)

    assert [f"moons_sweep_noise_{value}_mpl" for value in ("0.05", "0.1", "0.2")] == [arm.name for arm in arms]
    assert scores["moons_stated_mpl"].accuracy["student"] == arms[1].accuracy
    assert "as stated above" in arms[1].title

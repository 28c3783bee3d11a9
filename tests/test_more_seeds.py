"""More seeds in a plan: what is trained stays, bit for bit, and the record says that it was looked at before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.train.result import load_results
from tests.entry_points import call

ROOT = Path(__file__).parent.parent
SHORT = ["budget.steps=40", "budget.log_every=20", "budget.snapshots=2", "finetune.steps=3", "model.width=2"]
RUNS = {
    "single": {"experiment": "digits_mpl", "overrides": SHORT},
    "stacked": {"experiment": "moons_tuned_mpl", "overrides": ["budget.steps=40", "budget.stack=2"]},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which entry points run."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    return tmp_path


def trained(place: Path, seeds: str, name: str = "single", **changed: Any) -> str:
    """Prepares and trains a run with these seeds; what training printed."""
    plan = {"runs": {name: RUNS[name] | changed | {"seeds": seeds}}}
    (place / "params.yaml").write_text(yaml.safe_dump(plan))
    for stage in (["prepare"], ["train", name, "--seeds", seeds]):
        done = call(place, *stage)
        assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def files(place: Path, name: str = "single") -> dict[str, tuple[int, bytes]]:
    """Every file of weights with its inode and content."""
    found = (place / "artifacts/runs" / name).rglob("*.pt")
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in found if path.name != "result.pt"}


@pytest.mark.parametrize(("name", "first", "more"), [("single", "0-1", "0-2"), ("stacked", "0-1", "0-3")])
def test_trained_seeds_stay(place: Path, name: str, first: str, more: str) -> None:
    """Their weights are the very files; only the new seeds train; results say which plan each is of."""
    trained(place, first, name)
    before = files(place, name)

    said = trained(place, more, name)
    after, results = files(place, name), load_results(place / "artifacts/runs" / name)

    assert "trained already by a plan of fewer seeds, and kept" in said
    assert before == {path: content for path, content in after.items() if path in before}
    assert len(after) > len(before)
    assert 1 == len({result.config["planned_seeds"] for result in results})
    assert [["0,1"], []] == [results[i].environment.get("planned_before", []) for i in (0, -1)]
    assert not (place / "state" / name).exists()


def test_a_record_of_added_seeds_counts_and_says_so(place: Path) -> None:
    """Verification takes it as whole, and every verdict on it shows that someone had seen the first seeds."""
    trained(place, "0")
    trained(place, "0-1")
    trained(place, "0-2")
    assert call(place, "evaluate").returncode == 0

    (score,) = rebuild_all(read_runs(place / "results/runs")).values()

    assert [] == score.problems
    assert {0, 1, 2} == set(score.accuracy["student"])
    (said,) = (departure for departure in score.departures if "seeds" in departure)
    assert "seeds were added when 0 and 0,1 had been trained" == said.partition(":")[0]


@pytest.mark.parametrize("change", [
    {"overrides": [*SHORT, "optim.student.learning_rate=0.05"]},
    {"overrides": [*SHORT, "finetune.learning_rate=0.5"]},
])  # fmt: skip
def test_other_settings_train_again(place: Path, change: dict[str, Any]) -> None:
    """Nothing is kept of a run that only has the name."""
    trained(place, "0-1")

    assert "kept" not in trained(place, "0-2", **change)
    assert all("planned_before" not in result.environment for result in load_results(place / "artifacts/runs/single"))


def test_fewer_seeds_are_no_more_seeds(place: Path) -> None:
    """Leaving a seed out after it was seen is choosing by the result: the others are trained as a new run."""
    trained(place, "0-2")

    assert "kept" not in trained(place, "0-1")
    assert "kept" not in trained(place, "1-3")


def test_damaged_weights_are_trained_again(place: Path) -> None:
    """A snapshot that is not what was written is not taken over; the other seed is."""
    trained(place, "0-1")
    (snapshot, *_) = sorted((place / "artifacts/runs/single/seed-0").glob("snapshots-*.pt"))
    snapshot.write_bytes(snapshot.read_bytes()[:-7])

    said = trained(place, "0-2")

    assert re.findall(r"single: (.*) trained already", said) == ["seed-1"]
    assert 3 == len(load_results(place / "artifacts/runs/single"))

"""More seeds in a plan: what is trained stays, bit for bit; a record says that seeds were chosen after a look."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from repro.records.scores import rebuild_all

from repro.records.runs import read_runs
from repro.train.checkpoint import load_result, load_results, save_result
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
    assert not (place / "state" / name).exists()


def test_added_seeds_are_those_of_a_plan_that_had_them_at_once(place: Path, tmp_path_factory: Any) -> None:
    """The same weights, finetuned ones among them, the same log, and nothing else than the durations differs."""
    at_once = tmp_path_factory.mktemp("at_once")
    (at_once / "experiments").symlink_to(ROOT / "experiments")
    trained(at_once, "0-2")
    trained(place, "0-1")
    trained(place, "0-2")

    ours, theirs = (load_results(folder / "artifacts/runs/single") for folder in (place, at_once))

    for one, other in zip(ours, theirs, strict=True):
        assert (one.seeds, one.config, one.made_by, one.rows) == (other.seeds, other.config, other.made_by, other.rows)
        for a, b in zip(one.snapshots, other.snapshots, strict=True):
            assert all(torch.equal(a["networks"][n][k], v) for n, w in b["networks"].items() for k, v in w.items())
        assert all(torch.equal(one.finetuned[key], value) for key, value in other.finetuned.items())


def test_a_record_of_seeds_chosen_with_results_at_hand_says_so(place: Path) -> None:
    """Seeds added or left out after a record: every verdict shows it; not after a training alone, or the same again."""

    def said(seeds: str) -> list[str]:
        trained(place, seeds)
        assert call(place, "evaluate").returncode == 0
        (score,) = rebuild_all(read_runs(place / "results/runs")).values()
        assert [] == score.problems
        return [departure.partition(":")[0] for departure in score.departures if "seeds" in departure]

    trained(place, "0")
    assert [] == said("0-1") == said("0-1")
    assert ["recorded before with seeds 0,1"] == said("0-2")
    assert ["recorded before with seeds 0,1 and 0,1,2"] == said("0")
    (place / "results/runs/single/seed-0/config.yaml").write_text("a_key: of another version\n")
    assert [] == said("0-1")  # what nobody can read today is no record


@pytest.mark.parametrize("change", [
    {"overrides": [*SHORT, "optim.student.learning_rate=0.05"]},
    {"overrides": [*SHORT, "finetune.learning_rate=0.5"]},
])  # fmt: skip
def test_other_settings_train_again(place: Path, change: dict[str, Any]) -> None:
    """Nothing is kept of a run that only has the name."""
    trained(place, "0-1")

    said = trained(place, "0-2", **change)

    assert "single: seed-0 is trained again: what is there has other settings" in said
    assert "kept" not in said


def test_fewer_seeds_are_no_more_seeds(place: Path) -> None:
    """Leaving a seed out after it was seen is choosing by the result: the others are trained as a new run."""
    trained(place, "0-2")

    assert "kept" not in trained(place, "0-1")
    assert "kept" not in trained(place, "1-3")


@pytest.mark.parametrize(("spoilt", "why"), [
    ({"made_by": "source"}, "was trained by other code"),
    ({"config": "data_hash"}, "was trained on other data"),
])  # fmt: skip
def test_other_code_or_data_train_again(place: Path, spoilt: dict[str, str], why: str) -> None:
    """Else seeds of two methods would be one run."""
    trained(place, "0-1")
    folder = place / "artifacts/runs/single/seed-0"
    result = load_result(folder)
    assert result
    ((part, key),) = spoilt.items()
    other = {"losses.py": "f00"} if key == "source" else "f00"
    save_result(folder, replace(result, **{part: getattr(result, part) | {key: other}}))

    said = trained(place, "0-2")

    assert f"seed-0 is trained again: what is there {why}" in said
    assert "single: seed-1 trained already" in said


def test_a_stack_of_other_seeds_is_trained_again(place: Path) -> None:
    """0 and 1 trained together stay; 2, which trained alone, trains with 3."""
    trained(place, "0-2", "stacked")

    assert "stacked: seeds-0-1 trained already" in trained(place, "0-3", "stacked")
    assert [[0, 1], [2, 3]] == [result.seeds for result in load_results(place / "artifacts/runs/stacked")]


def test_an_interrupted_taking_over_begins_again(place: Path) -> None:
    """A kill before the new seeds are trained: what was taken over waits in the state, and is whole."""
    trained(place, "0-1")
    before = files(place)
    plan = {"runs": {"single": RUNS["single"] | {"seeds": "0-2"}}}
    (place / "params.yaml").write_text(yaml.safe_dump(plan))
    assert call(place, "prepare").returncode == 0
    (place / "state/single/.partly-seed-0").mkdir(parents=True)
    (place / "state/single/.partly-seed-0/snapshots-0001.pt").write_bytes(b"half")

    assert "seed-0, seed-1 trained already" in call(place, "train", "single", "--seeds", "0-2").stdout
    assert before.items() <= files(place).items()


def test_damaged_weights_are_trained_again(place: Path) -> None:
    """A snapshot that is not what was written is not taken over; the other seed is."""
    trained(place, "0-1")
    (snapshot, *_) = sorted((place / "artifacts/runs/single/seed-0").glob("snapshots-*.pt"))
    snapshot.write_bytes(snapshot.read_bytes()[:-7])

    said = trained(place, "0-2")

    assert re.findall(r"single: (.*) trained already", said) == ["seed-1"]
    assert 3 == len(load_results(place / "artifacts/runs/single"))

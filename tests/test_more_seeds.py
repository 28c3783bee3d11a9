"""More seeds in a plan: what is trained stays, bit for bit; a record says that seeds were chosen after a look."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.results import read_run
from repro.train.checkpoint import load_result, load_results, save_result
from tests import entry_points
from tests.entry_points import ran

ROOT = Path(__file__).parent.parent
RUN, STACKED = "digits_mpl", "moons_tuned_mpl"
SHORT = ["budget.steps=40", "budget.log_every=20", "budget.snapshots=2", "finetune.steps=3", "model.width=2"]
OVERRIDES = {RUN: SHORT, STACKED: ["budget.steps=40", "budget.stack=2"]}


def trained(place: Path, seeds: str, run: str = RUN, overrides: list[str] | None = None) -> str:
    """What training a run with these seeds printed."""
    return entry_points.trained(place, {run: {"overrides": overrides or OVERRIDES[run], "seeds": seeds}})


def files(place: Path, run: str = RUN) -> dict[str, tuple[int, bytes]]:
    """Every file of weights with its inode and content."""
    found = sorted((place / "artifacts/runs" / run).rglob("*.pt"))
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in found if path.name != "result.pt"}


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which seeds 0 and 1 are trained, only to be copied."""
    place = tmp_path_factory.mktemp("two_seeds")
    (place / "experiments").symlink_to(ROOT / "experiments")
    trained(place, "0-1")
    return place


@pytest.fixture
def begun(two_seeds: Path, tmp_path: Path) -> Path:
    """A folder in which seeds 0 and 1 are trained."""
    return shutil.copytree(two_seeds, tmp_path / "begun", symlinks=True)


def test_added_seeds_are_those_of_a_plan_that_had_them_at_once(begun: Path, workplace: Path) -> None:
    """What was trained stays, the very files; with the new ones it is, to the last bit, a run of all seeds at once."""
    before = files(begun)
    trained(workplace, "0-2")
    (begun / "state" / RUN / ".partly-seed-0").mkdir(parents=True)  # as a kill leaves it
    (begun / "state" / RUN / ".partly-seed-0/snapshots-0001.pt").write_bytes(b"half")

    said = trained(begun, "0-2")
    ours, theirs = (load_results(folder / "artifacts/runs" / RUN) for folder in (begun, workplace))

    assert "seed-0, seed-1 trained already by a plan of fewer seeds, and kept" in said
    assert before.items() <= files(begun).items()
    assert not (begun / "state" / RUN).exists()
    for one, other in zip(ours, theirs, strict=True):
        assert (one.seeds, one.config, one.made_by, one.rows) == (other.seeds, other.config, other.made_by, other.rows)
        for a, b in zip(one.snapshots, other.snapshots, strict=True):
            assert all(torch.equal(a["networks"][n][k], v) for n, w in b["networks"].items() for k, v in w.items())
        assert all(torch.equal(one.finetuned[key], value) for key, value in other.finetuned.items())


def test_a_stack_of_other_seeds_is_trained_again(workplace: Path) -> None:
    """0 and 1 trained together stay; 2, which trained alone, trains with 3."""
    trained(workplace, "0-2", STACKED)
    before = {path: file for path, file in files(workplace, STACKED).items() if "seeds-0-1" in path}

    assert "seeds-0-1 trained already" in trained(workplace, "0-3", STACKED)
    assert [[0, 1], [2, 3]] == [result.seeds for result in load_results(workplace / "artifacts/runs" / STACKED)]
    assert before.items() <= files(workplace, STACKED).items()


def test_a_record_of_seeds_chosen_with_results_at_hand_says_so(begun: Path) -> None:
    """Seeds added or left out after a record are told by it; not after a training alone, or the same again."""

    def said(seeds: str) -> str:
        trained(begun, seeds)
        ran(begun, "evaluate")
        seeds_of = read_run(begun / "results/runs" / RUN).seeds
        (found,) = seeds_of["seeds_before"].unique() if "seeds_before" in seeds_of else ("",)
        return str(found)

    assert said("0-1") == said("0-1") == ""
    assert said("0-2") == "0,1"
    assert said("0") == "0,1 and 0,1,2"
    (begun / "results/runs" / RUN / "config.yaml").write_text("a_key: of another version\n")
    assert said("0-1") == ""  # what nobody can read today is no record


def test_other_settings_train_again(begun: Path) -> None:
    """Nothing is kept of a run that only has the name."""
    said = trained(begun, "0-2", overrides=[*SHORT, "finetune.learning_rate=0.5"])

    assert f"{RUN}: seed-0 is trained again: what is there has other settings" in said
    assert "kept" not in said


@pytest.mark.parametrize(("part", "key", "why"), [
    ("made_by", "source", "was trained by other code"), ("config", "data_hash", "was trained on other data"),
    ("", "", "seed-0/snapshots-0001.pt holds"),
])  # fmt: skip
def test_other_code_or_data_or_damage_train_again(begun: Path, part: str, key: str, why: str) -> None:
    """Else seeds of two methods would be one run; the seed that is as it should be stays."""
    folder = begun / "artifacts/runs" / RUN / "seed-0"
    if part:
        result = load_result(folder)
        other: Any = {"losses.py": "f00"} if key == "source" else "f00"
        save_result(folder, replace(result, **{part: getattr(result, part) | {key: other}}))
    else:
        snapshot = folder / "snapshots-0001.pt"
        snapshot.write_bytes(snapshot.read_bytes()[:-7])

    said = trained(begun, "0-2")

    assert "seed-0 is trained again: " in said
    assert why in said
    assert re.findall(r": (.*) trained already", said) == ["seed-1"]

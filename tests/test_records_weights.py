"""Kept weights: a run's network in half precision, from which its recorded accuracy is computed again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from repro.evaluate.predict import weights_hash
from repro.evaluate.weights import KeptWeights, held_against_records, read_weights, write_weights
from repro.results import RecordError, read_runs
from repro.train.checkpoint import load_results
from tests.entry_points import call, ran, trained

ROOT = Path(__file__).parent.parent
FILE = "results/weights/digits_mpl-seed-1-student_average.safetensors"
SHORT = ["budget.steps=60", "budget.log_every=30", "budget.snapshots=2", "optim.average_decay=0.9"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained, evaluated and exported run of digits, and what the three printed."""
    place = tmp_path_factory.mktemp("exported")
    (place / "experiments").symlink_to(ROOT / "experiments")
    runs = {
        "digits_mpl": {"overrides": SHORT, "seeds": "0-1"},
        "moons_tuned_mpl": {"overrides": ["budget.steps=9", "budget.stack=2"], "seeds": "0-1"},
    }
    trained(place, runs)
    ran(place, "evaluate")
    return place


def test_an_exported_network_gives_its_accuracy_again(exported: Path) -> None:
    """From the file, the images and the record alone, though the trained weights are gone; half as large."""
    written = ran(exported, "export", "digits_mpl", "--seed", "1")
    size = (exported / FILE).stat().st_size
    numbers = sum(value.numel() for value in load_file(exported / FILE).values())
    (exported / "artifacts/runs").rename(exported / "away")

    again = ran(exported, "recompute", FILE)
    (exported / "away").rename(exported / "artifacts/runs")

    assert FILE in written
    assert size < 2.3 * numbers + 8000
    assert "digits_mpl seed 1, student_average: " in again
    assert float(again.rpartition("; ")[2].split(" %")[0]) > 99


def test_other_predictions_than_the_recorded_ones_are_said(exported: Path) -> None:
    """A network of another seed under the run's name: the status says that it is not what was recorded."""
    ran(exported, "export", "digits_mpl", "--seed", "1")
    kept = read_weights(exported / FILE)
    other = KeptWeights(kept.run, 0, kept.network, kept.config, kept.revision, kept.weights)
    write_weights(other, exported / "results/weights")

    done = call(exported, "recompute", FILE, FILE.replace("seed-1", "seed-0"))

    assert (1, 2) == (done.returncode, len(done.stdout.splitlines()))
    assert float(done.stdout.splitlines()[1].rpartition("; ")[2].split(" %")[0]) < 99
    assert 1 == call(exported, "recompute", FILE.replace("seed-1", "seed-0"), FILE).returncode  # whichever is the last


def test_kept_weights_are_held_against_the_record(exported: Path) -> None:
    """By the hash of the final weights; one number in another place, and `verify` refuses the file by name."""
    ran(exported, "export", "digits_mpl", "--seed", "1")
    place, runs = exported / "results/weights", read_runs(exported / "results/runs")
    for other in place.glob("*-seed-0-*"):
        other.unlink()
    kept, run = read_weights(exported / FILE), runs["digits_mpl"]
    older = replace(run, seeds=run.seeds.drop(columns="weights_hash.student_average"))
    name = next(name for name, value in kept.weights.items() if value.ndim > 1)

    assert ([], []) == held_against_records(place, runs)
    wrong, unchecked = held_against_records(place, {"digits_mpl": older})
    assert not wrong
    assert "student_average.safetensors, whose record is older than hashes of weights" in unchecked[0]
    assert "no seed 1 of digits_mpl is recorded" in held_against_records(place, {})[0][0]

    kept.weights[name].view(-1)[0] += 0.01
    write_weights(kept, place)
    done = call(exported, "verify", "results")
    assert 1 == done.returncode, done.stderr
    assert f"refused: {FILE}: its weights are not those that were recorded (hash differs)" in done.stdout


def test_every_network_of_every_seed_has_the_hash_of_its_own_weights(exported: Path) -> None:
    """Teacher, student and averages, stacked ones each by its seed; by hand for two numbers."""
    assert hashlib.sha256(
        b"atorch.int64[]" + bytes(8) + b"wtorch.float16[1, 2]\x00<\x00\xc0"
    ).hexdigest() == weights_hash({"w": torch.tensor([[1.0, -2.0]]), "a": torch.tensor(0)})
    runs = read_runs(exported / "results/runs")
    for name in ("digits_mpl", "moons_tuned_mpl"):
        for result in load_results(exported / "artifacts/runs" / name):
            for network, weights in result.networks().items():
                for row, seed in enumerate(result.seeds):
                    own = {key: value[row] for key, value in weights.items()} if result.stacked else weights
                    assert weights_hash(own) == runs[name].seeds.loc[seed, f"weights_hash.{network}"]
    assert 5 * 2 == runs["digits_mpl"].seeds.filter(like="weights_hash.").stack().nunique()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["digits_mpl", "--seed", "7"], "digits_mpl has no seed 7; --seed takes one of 0, 1"),
    (
        ["digits_mpl", "--network", "uncle"],
        "digits_mpl has no network uncle; --network takes one of student, student_average,",
    ),
    (["moons_tuned_mpl"], "its seeds are one stacked model"),
    (["absent"], "no trained weights in artifacts/runs/absent"),
])  # fmt: skip
def test_what_cannot_be_exported_is_one_sentence(exported: Path, arguments: list[str], sentence: str) -> None:
    """With the choice there is."""
    done = call(exported, "export", *arguments)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    """Cut short, of another kind, or missing."""
    whole = write_weights(KeptWeights("a", 0, "student", {}, "r", {"w": torch.ones(2, 2)}), tmp_path)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-3])
    (tmp_path / "text").write_text("no weights")

    assert "a-seed-0-student.safetensors" == whole.name
    for name in ("cut", "text"):
        with pytest.raises(RecordError, match=r"is not what was recorded \(.*\); take it back: git checkout"):
            read_weights(tmp_path / name)
    with pytest.raises(RecordError, match="is missing"):
        read_weights(tmp_path / "absent")


def test_numbers_of_a_channel_keep_their_precision(tmp_path: Path) -> None:
    """A variance of 1e-9 is 0 in half precision, and its channel would be divided by nothing."""
    weights = {"kernel": torch.randn(4, 3), "variance": torch.tensor([1e-9, 1e6]), "count": torch.tensor(7)}

    found = read_weights(write_weights(KeptWeights("a", 0, "student", {}, "r", weights), tmp_path)).weights

    assert torch.equal(weights["variance"], found["variance"])
    assert torch.equal(weights["count"], found["count"])
    assert torch.float32 == found["kernel"].dtype
    assert 0 < (weights["kernel"] - found["kernel"]).abs().max() < 2e-3


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    """Rather than kept as infinite."""
    with pytest.raises(ValueError, match="a, seed 0: w of student is not finite in half precision"):
        write_weights(KeptWeights("a", 0, "student", {}, "r", {"w": torch.full((2, 2), 1e6)}), tmp_path)
    assert [] == list(tmp_path.iterdir())

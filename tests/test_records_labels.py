"""Stored test labels: accuracies are recomputed where no image is, and labels that were touched are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repro.config import as_mapping
from repro.evaluate import evaluate as entry
from repro.evaluate.labels import StoredLabels, labels_to_store, read_labels, store_labels
from repro.results import LABELS, RecordError, Run, read_runs, with_record_hashes
from repro.verify import rules
from repro.verify.evidence import Scores, scores_of
from tests.folders import CLASSES, TEST_IMAGES, config_of, images, trained_on
from tests.tiny import settings

REMEDY = r"take it back: git checkout -- .*, or evaluate a run of folder where its images are"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which a run on a folder was trained, evaluated and recorded, as the command does."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(entry, "set_up_process", lambda: None)
        result = trained_on(config_of(images(place / "images")), place)
        patch.setattr(entry, "load_results", lambda _: [result])
        entry._evaluate_run("folder_uda")
    return place


@pytest.fixture
def elsewhere(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that has the records alone: neither images nor what `prepare` made of them."""
    shutil.copytree(recorded / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_run() -> Run:
    """What is recorded in the working directory."""
    return read_runs()["folder_uda"]


def held_out_hash(run: Run) -> str:
    """Of the test data that it was evaluated on."""
    return str(run.seeds.loc[0, "held_out_hash"])


def scores(run: Run | None = None) -> Scores:
    """Its scores."""
    return scores_of({"folder_uda": run or the_run()})["folder_uda"]


def test_accuracies_are_recomputed_without_images(elsewhere: Path) -> None:
    """Every network's accuracy and top-5 accuracy are those that evaluation saw, and nothing is refused."""
    run, found = the_run(), scores()

    assert not (elsewhere / "artifacts").exists()
    assert [] == found.problems
    assert {"teacher", "teacher_average"} == set(found.accuracy) == set(found.top5)
    for network in found.accuracy:
        assert {0: run.seeds.loc[0, f"accuracy.{network}"]} == found.accuracy[network]
        assert {0: run.seeds.loc[0, f"top5.{network}"]} == found.top5[network]


@pytest.mark.parametrize("checkout", [True, False])
def test_results_elsewhere_are_checked_by_their_own_labels(
    checkout: bool, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`repro verify FOLDER`, from a place that has none of them, with claims to judge and without."""
    run = the_run()
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    if not checkout:
        monkeypatch.setattr(rules, "_PROJECT", Path.cwd())

    status, printed = rules.verify_elsewhere(elsewhere), capsys.readouterr().out

    assert 0 == status
    assert "refused" not in printed
    assert f"folder_uda: teacher_average {100 * float(run.seeds.loc[0, 'accuracy.teacher_average']):.2f} %" in printed
    assert checkout == ("claims judged" in printed or "judged by" in printed)


def test_labels_are_stored_once_and_small(elsewhere: Path) -> None:
    """One file for the test set, named after the hash in the run's record, with the classes' names."""
    stored = read_labels("folder", held_out_hash(the_run()))

    assert [f"folder-{held_out_hash(the_run())[:12]}.npz"] == [path.name for path in LABELS.iterdir()]
    assert np.uint8 == stored.labels.dtype
    assert [label for label in range(CLASSES) for _ in range(TEST_IMAGES)] == stored.labels.tolist()


def flattering() -> StoredLabels:
    """Labels by which every prediction is right."""
    run = the_run()
    stored, predicted = read_labels("folder", held_out_hash(run)), run.predictions("teacher_average")[0]
    return replace(stored, labels=predicted.astype(np.uint8))


DAMAGED = r"is not what was recorded \(.*\); "


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda path: path.unlink(), "is missing; "),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), DAMAGED),
    (lambda path: np.savez(path, labels=np.zeros((3, 3)), examples=np.array(0)), DAMAGED),
    (lambda path: store_labels(flattering(), LABELS).rename(path),
     r"holds labels of other test data than were evaluated on \(hash differs\); "),
])  # fmt: skip
def test_labels_that_are_not_a_runs_give_no_number(spoil: Callable[[Path], object], said: str, elsewhere: Path) -> None:
    """Missing, damaged, something else or exchanged: refused by name, with what to do."""
    (path,) = LABELS.glob("*.npz")
    spoil(path)
    found = scores()

    assert {} == found.accuracy["teacher"] == found.top5
    (problem,) = found.problems
    with pytest.raises(RecordError, match=f"^{LABELS}/folder-.*npz {said}{REMEDY}$"):
        read_labels("folder", held_out_hash(the_run()))
    assert problem.startswith("folder_uda, seed 0: the test labels cannot be had: results/labels/folder-")


def test_labels_and_hash_exchanged_together_are_refused(elsewhere: Path) -> None:
    """Labels that flatter, with the hash in the record to match, leave the stored accuracy behind."""
    run = the_run()
    other = flattering()
    store_labels(other)
    touched = with_record_hashes(replace(run, seeds=run.seeds.assign(held_out_hash=other.held_out_hash)))

    found = scores(touched)

    assert run.seeds.loc[0, "accuracy.teacher"] != 1.0
    assert {} == found.accuracy["teacher"]
    assert "was stored with accuracy" in found.problems[0]


@pytest.mark.parametrize("data", ["digits", "two_moons"])
def test_what_is_shipped_is_not_stored(data: str) -> None:
    """Labels that come with the project, or are drawn, are not recorded a second time."""
    assert labels_to_store(as_mapping(settings(data, {"name": "supervised"}))) is None

"""Run folders: written whole, read back the same, damage named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro import files
from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.records import runs as records
from repro.records.runs import RecordError, read_run, read_runs, replace_run
from repro.records.verdicts import BEGIN, END, read_verdicts, replace_generated, write_verdicts
from repro.verify.claims import Status, Verdict


def a_run(seed: int = 3) -> EvaluatedRun:
    """A small run with one network."""
    predictions = {"teacher": np.array([[0, 1, 1]], dtype=np.uint8)}
    return EvaluatedRun(
        name="arm", seeds=[seed], config={"title": "Arm"}, counted="teacher", predictions=predictions,
        accuracy={"teacher": [2 / 3]}, data={"predictions_hash": predictions_hash(predictions)},
        environment={"torch": "2"}, metrics=pd.DataFrame([{"step": 1, "loss": 0.5}]),
        curve={"step": np.array([0, 1]), "accuracy/teacher": np.zeros((1, 2), dtype=np.float32)},
    )  # fmt: skip


def test_a_run_reads_back_as_written(tmp_path: Path) -> None:
    """Every field survives, array types and slashed names too."""
    run = a_run()

    replace_run([run], tmp_path)
    back = read_run(tmp_path / "arm" / "seed-3")

    assert run.accuracy == back.accuracy
    assert run.data == back.data
    assert list(run.curve) == list(back.curve)
    assert back.predictions["teacher"].dtype == np.uint8
    assert (run.predictions["teacher"] == back.predictions["teacher"]).all()
    assert predictions_hash(back.predictions) == run.data["predictions_hash"]
    pd.testing.assert_frame_equal(run.metrics, back.metrics)


def test_replacing_a_run_leaves_no_old_seed_behind(tmp_path: Path) -> None:
    """A plan with fewer seeds does not keep the others' numbers."""
    replace_run([a_run(1), a_run(2)], tmp_path)
    replace_run([a_run(2)], tmp_path)

    assert [[2]] == [run.seeds for run in read_runs(tmp_path)["arm"]]


def test_a_failed_write_keeps_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is half-written: the record before stays whole and no temporary folder remains."""
    replace_run([a_run()], tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "_save_arrays", full)
    with pytest.raises(OSError, match="No space left"):
        replace_run([replace(a_run(), accuracy={"teacher": [0.0]})], tmp_path)

    assert {"teacher": [2 / 3]} == read_run(tmp_path / "arm" / "seed-3").accuracy
    assert ["arm"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["evaluation.json", "predictions.npz", "config.yaml", "metrics.csv"])
def test_a_damaged_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """A truncated, exchanged or missing file is named with what to do, and none of its parser's words."""
    folder = replace_run([a_run()], tmp_path) / "seed-3"
    content = (folder / name).read_bytes()
    remedy = f"take it back: git checkout -- {folder}, or train and evaluate a plan that has the run again"

    (folder / name).unlink()
    with pytest.raises(RecordError) as missing:
        read_run(folder)
    assert f"{folder / name} is missing; {remedy}" == str(missing.value)
    damages = [b"", b"text", content[: len(content) // 2]] if name.endswith((".npz", ".json")) else [b""]
    for damage in damages:
        (folder / name).write_bytes(damage)
        with pytest.raises(RecordError) as damaged:
            read_run(folder)
        assert f"{folder / name} is not what was recorded; {remedy}" == str(damaged.value)


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_what_a_killed_evaluation_leaves_is_no_run(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders under way are passed over; where the old one is still put aside, the command that ends it is named."""
    replace_run([a_run()], tmp_path)
    replace_run([replace(a_run(), name="other")], tmp_path)
    left = files.partly(tmp_path / "arm")
    replace_run([a_run()], tmp_path / "under_way")
    (tmp_path / "under_way/arm").rename(left)
    (tmp_path / "under_way").rmdir()
    calls: list[object] = []

    def kill(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        if killed_at < 3:
            with pytest.raises(KeyboardInterrupt):
                files.replace_folder(left, tmp_path / "arm")
        else:
            files.replace_folder(left, tmp_path / "arm")

    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    if killed_at == 2:
        with pytest.raises(RecordError, match=r"arm is missing: an evaluation was interrupted; run it .*cli\.evaluate"):
            read_runs(tmp_path)
        files.sweep(tmp_path)
    assert {"arm": 1, "other": 1} == {name: len(folders) for name, folders in read_runs(tmp_path).items()}


def test_verdicts_read_back_as_written(tmp_path: Path) -> None:
    """Status and numbers survive JSON."""
    verdicts = [
        Verdict("a", Status.NOT_RUN, "no results"),
        Verdict("b", Status.REPRODUCED, "so it is", 1.5, 0.5, 2.5, 5, 0.01),
    ]

    write_verdicts(verdicts, tmp_path / "verdicts.json")

    assert verdicts == read_verdicts(tmp_path / "verdicts.json")


def test_damaged_verdicts_are_refused(tmp_path: Path) -> None:
    """A missing or cut file, or a folder in its place, names the command that makes it anew, without an errno."""
    path = tmp_path / "verdicts.json"
    with pytest.raises(RecordError, match=r"verdicts\.json is missing; judge again with: .*repro\.cli\.verify$"):
        read_verdicts(path)
    for content in ("[{", "[3]", '[{"status": "x"}]'):
        path.write_text(content)
        with pytest.raises(RecordError, match=r"verdicts\.json is not what was recorded; .*repro\.cli\.verify$"):
            read_verdicts(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match=r"verdicts\.json cannot be opened \(Is a directory\); .*cli\.verify$"):
        read_verdicts(path)


def test_only_the_generated_part_of_the_readme_is_replaced() -> None:
    """What stands around the marks is kept to the letter."""
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert f"before\n{BEGIN}\nnew\n{END}\nafter\n" == replace_generated(text, "new")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_readme_without_marks_is_refused(text: str) -> None:
    """The table is not put in a place of its own choosing."""
    with pytest.raises(RecordError, match="README"):
        replace_generated(text, "table")

"""Run folders: written whole, read back the same, damage named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro.evaluate.run import EvaluatedRun, predictions_hash
from repro.records import runs as records
from repro.records.runs import RecordError, read_run, read_runs, replace_run
from repro.records.verdicts import BEGIN, END, read_verdicts, replace_generated, write_verdicts
from repro.verify.verdict import Status, Verdict


def a_run(seed: int = 3) -> EvaluatedRun:
    """A small run with one network."""
    predictions = {"teacher": np.array([[0, 1, 1]], dtype=np.uint8)}
    return EvaluatedRun(
        name="arm", seeds=[seed], config={"title": "Arm"}, counted="teacher", predictions=predictions,
        accuracy={"teacher": [2 / 3]}, data={"predictions_hash": predictions_hash(predictions)},
        environment={"torch": "2"}, departures=[], metrics=pd.DataFrame([{"step": 1, "loss": 0.5}]),
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
    """A truncated or missing file names the folder and what to do."""
    folder = replace_run([a_run()], tmp_path) / "seed-3"
    content = (folder / name).read_bytes()

    (folder / name).unlink()
    with pytest.raises(RecordError, match="evaluate it again"):
        read_run(folder)
    if name.endswith((".npz", ".json")):
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(RecordError, match="seed-3"):
            read_run(folder)


def test_verdicts_read_back_as_written(tmp_path: Path) -> None:
    """Status and numbers survive JSON."""
    verdicts = [
        Verdict("a", Status.NOT_RUN, "no results"),
        Verdict("b", Status.REPRODUCED, "so it is", 1.5, 0.5, 2.5, 5, 0.01),
    ]

    write_verdicts(verdicts, tmp_path / "verdicts.json")

    assert verdicts == read_verdicts(tmp_path / "verdicts.json")


def test_damaged_verdicts_are_refused(tmp_path: Path) -> None:
    """A missing or cut file names the command that makes it anew."""
    with pytest.raises(RecordError, match=r"repro\.cli\.verify"):
        read_verdicts(tmp_path / "verdicts.json")
    (tmp_path / "verdicts.json").write_text("[{")
    with pytest.raises(RecordError, match=r"repro\.cli\.verify"):
        read_verdicts(tmp_path / "verdicts.json")


def test_only_the_generated_part_of_the_readme_is_replaced() -> None:
    """What stands around the marks is kept to the letter."""
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert f"before\n{BEGIN}\nnew\n{END}\nafter\n" == replace_generated(text, "new")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_readme_without_marks_is_refused(text: str) -> None:
    """The table is not put in a place of its own choosing."""
    with pytest.raises(RecordError, match="README"):
        replace_generated(text, "table")

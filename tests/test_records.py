"""Recorded runs: written whole, read back the same, joined with care, damage named; verdicts likewise."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro import results
from repro.results import RecordError, Run, joined, read_run, read_runs, record_hashes, write_run
from repro.verify import rules
from repro.verify.claims import Status, Verdict, read_claims, read_verdicts, write_verdicts
from repro.verify.evidence import Scores, rebuild
from tests.verify_cases import HIGH, MPL, cell, config, labels_of, run_of

ROOT = Path(__file__).parent.parent


def a_run(*seeds: int) -> Run:
    """A run of these seeds, with a number in its log that has no short decimal form."""
    run = run_of("arm", dict.fromkeys(seeds, 900), config(MPL))
    metrics = run.metrics.assign(loss=np.arange(len(run.metrics)) / 3, late=np.nan)
    settings = run.config | {"data_hash": "of all seeds"}
    return results.with_record_hashes(replace(run, metrics=metrics, config=settings))


def test_writing_what_was_read_changes_no_byte(tmp_path: Path) -> None:
    """Of a recorded run, whose every hash is that of what is there, arrays too."""
    recorded = read_run(ROOT / "results/runs/digits_mpl")
    place = write_run(recorded, tmp_path)

    assert recorded.seeds["record_hash"].tolist() == [*record_hashes(recorded).values()]
    assert record_hashes(recorded) == record_hashes(read_run(place))
    for name in ("config.yaml", "seeds.csv", "metrics.csv"):
        assert (ROOT / "results/runs/digits_mpl" / name).read_bytes() == (place / name).read_bytes()


def test_a_failed_write_keeps_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is half-written: the record before stays whole, and what is under way is no run."""
    write_run(a_run(1), tmp_path)

    def full(path: Path, *_: object) -> None:
        if path.name == "arrays.npz":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        write_run(a_run(2), tmp_path)

    assert {"arm": [1]} == {name: run.seeds.index.tolist() for name, run in read_runs(tmp_path).items()}


@pytest.mark.parametrize("left", [".partly-other", ".replaced-other"])
def test_a_record_whose_writer_was_killed_is_named(left: str, tmp_path: Path) -> None:
    """It is no run, and nobody should take it for one that was not trained; nor a file for a run."""
    write_run(a_run(1), tmp_path)
    (tmp_path / left).mkdir()
    with pytest.raises(RecordError, match=rf"other is missing: its writer was killed; .* mv .*\{left} .*other$"):
        read_runs(tmp_path)
    shutil.rmtree(tmp_path / left)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RecordError, match=r"notes\.txt is no folder of a run; remove it$"):
        read_runs(tmp_path)


def test_of_two_that_a_killed_writer_left_the_old_one_is_named(tmp_path: Path) -> None:
    """What it was writing may be cut off, what it was to replace is whole; a file is neither."""
    for left in (".partly-other", ".replaced-other"):
        (tmp_path / left).mkdir()
    (tmp_path / ".partly-file").touch()

    with pytest.raises(RecordError, match=r"other is missing: .* mv .*\.replaced-other "):
        read_runs(tmp_path)


def test_seeds_recorded_apart_are_joined_in_order() -> None:
    """Rows, logs and arrays stay together; what all seeds share is there once."""
    apart, whole = [a_run(seed) for seed in (5, 1, 3)], a_run(1, 3, 5)
    found = joined(apart)

    assert [1, 3, 5] == found.seeds.index.tolist()
    pd.testing.assert_frame_equal(whole.seeds.drop(columns="record_hash"), found.seeds.drop(columns="record_hash"))
    for name, array in whole.arrays.items():
        assert np.array_equal(array, found.arrays[name])


def test_a_seed_twice_is_not_joined() -> None:
    """Which of the two would count?"""
    with pytest.raises(ValueError, match="arm: seed 3 is there twice; remove one of the two records"):
        joined([a_run(1, 3), a_run(3)])


@pytest.mark.parametrize("other", [
    replace(a_run(3), config=a_run(3).config | {"finetune": {"steps": 3}}),
    replace(a_run(3), name="other"),
    replace(a_run(3), arrays={"predictions.student": a_run(3).arrays["predictions.student"]}),
    replace(a_run(3), arrays=a_run(3).arrays | {"curve.step": np.array([0, 400])}),
], ids=["settings", "name", "networks", "steps"])  # fmt: skip
def test_other_settings_are_not_joined(other: Run) -> None:
    """Seeds of one run differ in nothing else."""
    with pytest.raises(
        ValueError, match="recorded with different settings, networks or steps; train and evaluate a plan"
    ):
        joined([a_run(1), other])


def test_what_decides_a_seed_is_not_how_it_was_executed() -> None:
    """Another precision, rate or amount of labels is another run; title, plan, workers and the data's place are not."""
    run = a_run(1)

    def changed(part: str, **values: object) -> Run:
        return replace(run, config=run.config | {part: run.config[part] | values})

    for part, other in (("engine", {"precision": "bfloat16"}), ("engine", {"threads": 2}), ("budget", {"stack": 2}),
                        ("optim", {"average_decay": 0.5}), ("data", {"labels": 100})):  # fmt: skip
        assert results.settings_of(changed(part, **other)) != results.settings_of(run), other
    described = replace(run, config=run.config | {"title": "other", "planned_seeds": "1,2", "data_hash": ""})
    executed = changed("budget", workers=1, max_minutes=9.0, checkpoint_minutes=1.0)
    for same in (described, executed, changed("engine", readers=1)):
        assert results.settings_of(same) == results.settings_of(run)


VERDICTS = [
    Verdict("a", Status.NOT_RUN, "no results"),
    Verdict("b", Status.REPRODUCED, "so it is", 1.5, 0.5, 2.5, 5, 0.01, departures=["x"]),
]


def test_verdicts_read_back_as_written(tmp_path: Path) -> None:
    """Status and numbers survive JSON."""
    write_verdicts(VERDICTS, tmp_path / "verdicts.json")

    assert VERDICTS == read_verdicts(tmp_path / "verdicts.json")


def test_damaged_verdicts_are_refused(tmp_path: Path) -> None:
    """A missing or cut file, or a folder in its place, names the command that makes it anew, without an errno."""
    path = tmp_path / "verdicts.json"
    with pytest.raises(RecordError, match=r"verdicts\.json is missing; judge again with: repro verify$"):
        read_verdicts(path)
    for content in ("[{", "[3]", '[{"status": "x"}]'):
        path.write_text(content)
        with pytest.raises(RecordError, match=r"verdicts\.json is not what was recorded \(.*\); .*repro verify$"):
            read_verdicts(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match=r"verdicts\.json cannot be opened \(Is a directory\); .*repro verify$"):
        read_verdicts(path)


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A results folder of somebody else: one run on the digits, whose data are everywhere."""
    place = tmp_path / "theirs"
    shutil.copytree(ROOT / "results/runs/digits_quick_uda", place / "runs/digits_quick_uda")
    return place


def test_another_results_folder_is_verified_where_it_lies(
    another: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From any working directory: accuracies, hashes, claims; nothing is written. What is changed there gives 1."""
    monkeypatch.chdir(tmp_path)
    shares = read_run(another / "runs/digits_quick_uda").seeds["accuracy.teacher"]
    before = sorted(tmp_path.rglob("*"))

    assert 0 == rules.verify_elsewhere(another)
    assert 0 == rules.verify_elsewhere(tmp_path / "theirs")
    told = capsys.readouterr().out
    assert f"digits_quick_uda: teacher {100 * shares.mean():.2f} % over 5 seeds" in told
    assert f"{len(read_claims(ROOT / 'experiments/claims.yaml'))} NOT_RUN" in told
    assert "theirs/verdicts.json is not there to compare with" in told
    assert before == sorted(tmp_path.rglob("*"))

    seeds = another / "runs/digits_quick_uda/seeds.csv"
    seeds.write_text(seeds.read_text().replace(",True,", ",False,", 1))
    assert 1 == rules.verify_elsewhere(another)
    assert "refused: digits_quick_uda, seed 0: its record was changed" in capsys.readouterr().out
    with pytest.raises(ValueError, match="empty: has no run in a folder runs; name a results folder"):
        rules.verify_elsewhere(tmp_path / "empty")


def test_verdicts_of_another_folder_are_compared(
    another: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those it was written with, under `results` of a project too; without claims that is said."""
    verdicts = rules.judged(read_runs(another / "runs"), another / "labels", ROOT / "experiments/claims.yaml")[0]
    write_verdicts(verdicts, another / "verdicts.json")
    another.rename(tmp_path / "results")

    assert 0 == rules.verify_elsewhere(tmp_path)
    write_verdicts([replace(verdicts[0], n=3), *verdicts[1:]], tmp_path / "results/verdicts.json")
    assert 1 == rules.verify_elsewhere(tmp_path)
    assert f"1 other than {tmp_path}/results/verdicts.json says: {verdicts[0].claim}" in capsys.readouterr().out

    monkeypatch.setattr(rules, "_PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert 0 == rules.verify_elsewhere(tmp_path)
    assert "no claim was judged: experiments/claims.yaml is not here" in capsys.readouterr().out


def test_data_that_are_not_here_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hash of training data cannot be compared without them. A changed record gives 1."""
    recorded = {name: run_of(name, HIGH, config(MPL)) for name in ("mpl", "base")}

    def scores_of(runs: dict[str, Run], _: Path) -> dict[str, Scores]:
        return {name: rebuild(run, labels_of, lambda *_: None) for name, run in runs.items()}

    monkeypatch.setattr(rules, "scores_of", scores_of)
    monkeypatch.setattr(rules, "read_claims", lambda _: [])
    monkeypatch.setattr(rules, "read_runs", lambda: recorded)
    monkeypatch.chdir(tmp_path)

    assert 0 == rules.verify()
    assert "not checked: the training data of digits, which are not here, of mpl, base\n" in capsys.readouterr().out
    recorded["mpl"] = cell(recorded["mpl"], "seconds", 3.0)
    assert 1 == rules.verify()
    assert "refused: mpl, seed 0: its record was changed" in capsys.readouterr().out

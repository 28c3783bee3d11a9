"""The early alarm as a user meets it: a record, a canary that passes, and one that does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from repro.train.result import load_results
from tests.entry_points import call
from tests.test_cli import ROOT

RUN = {
    "experiment": "digits_uda",
    "overrides": ["budget.steps=60", "budget.log_every=2", "budget.snapshots=2"],
    "seeds": "0-9",
}


def shifted(bands: Path) -> None:
    """The file's bands of the UDA loss, e times as high."""
    content = json.loads(bands.read_text())
    for row in content["tiny_uda"]["rows"].values():
        row["uda_loss"][0] += 1.0
    bands.write_text(json.dumps(content))


@pytest.mark.slow
def test_the_alarm_from_record_to_flag(tmp_path: Path) -> None:
    """Fresh seeds pass the bands of the recorded ones; where these lie elsewhere, canary and training both say so."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    plan = tmp_path / "params.yaml"
    plan.write_text(yaml.safe_dump({"runs": {"tiny_uda": RUN}}))
    train = ["train", "tiny_uda", "--seeds", "0-9"]
    for stage in (["prepare"], train, ["evaluate"], ["verify"]):
        done = call(tmp_path, *stage)
        assert done.returncode == 0, done.stderr
    assert "ALARM" not in done.stdout

    honest = call(tmp_path, "alarm", "--seeds", "1000,1001")
    shifted(tmp_path / "results/bands.json")
    shutil.rmtree(tmp_path / "artifacts/runs/tiny_uda")  # else there is nothing to train
    broken, again = call(tmp_path, "alarm", "--seeds", "1000,1001"), call(tmp_path, *train)
    plan.write_text(yaml.safe_dump({"runs": {"tiny_uda": RUN | {"overrides": ["budget.steps=80"]}}}))
    other, unknown = call(tmp_path, "alarm"), call(tmp_path, "alarm", "tiny_udo")

    assert (0, "tiny_uda: 6 of 60 steps, seeds 1000, 1001: as recorded\n") == (honest.returncode, honest.stdout)
    assert broken.returncode == 4
    assert "mean of 2 seeds: uda_loss = " in broken.stdout
    assert "ALARM tiny_uda seed-3: uda_loss = " in again.stdout
    assert all(result.environment["alarms"] for result in load_results(tmp_path / "artifacts/runs/tiny_uda"))
    assert (2, True) == (other.returncode, "undo the change of the settings" in other.stderr)
    assert (2, True) == (unknown.returncode, "did you mean 'tiny_uda'" in unknown.stderr)


def test_without_bands_the_alarm_says_what_it_takes(tmp_path: Path) -> None:
    """No record, no comparison: ten seeds are needed."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": {"tiny_uda": RUN}}))

    done = call(tmp_path, "alarm")

    assert done.returncode == 2
    assert "it takes 10 recorded seeds" in done.stderr

"""Two processes give the same bits; older arithmetic draws the same data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.entry_points import python

ROOT = Path(__file__).parents[1]
OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
"""What an old processor computes with, as far as this one can be told to."""
TRAINS = """
import hashlib, sys
from pathlib import Path
from repro.data import source_of
from repro.engine.device import choose_device, set_up_process
from repro.plan import compose
from repro.train.loop import Trainer, finetune

set_up_process()
for run, seeds, changes in (("digits_mpl", 0, ["budget.steps=4", "finetune.steps=2", "optim.student.warmup_steps=0",
                                         "optim.teacher.warmup_steps=0"]),
                            ("moons_tuned_mpl", [0, 1, 2], ["budget.steps=2"])):
    config = compose(run, changes)
    trainer = Trainer(config, seeds, choose_device())
    trainer.run(Path(sys.argv[1], run))
    digest = hashlib.sha256(repr(trainer.rows).encode())
    for tensor in [*trainer.state.state_dict().values(), *finetune(trainer).values()]:
        digest.update(tensor.numpy().tobytes())
    listed = [seeds] if isinstance(seeds, int) else seeds
    source = source_of(config.data)
    print(digest.hexdigest(), source.training_hash(listed), source.held_out_hash(listed))
"""


def left_by(place: Path, **environment: str) -> list[list[str]]:
    """For each run, the hashes of weights and log, of its training and of its test data."""
    done = python("-c", TRAINS, str(place), **environment)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    """Weights and log of two fresh processes are equal; a third with older arithmetic draws equal data."""
    once, again, old = left_by(tmp_path / "once"), left_by(tmp_path / "again"), left_by(tmp_path / "old", **OLD)

    assert once == again
    assert [hashes[1:] for hashes in once] == [hashes[1:] for hashes in old]


def test_what_is_recorded_says_that_two_runs_are_identical() -> None:
    """results/determinism.json, whose table tests/README.md shows."""
    compared = json.loads((ROOT / "results/determinism.json").read_text())["compared"]

    assert all(one["identical"] for one in compared if one["variant"] == "the same again")

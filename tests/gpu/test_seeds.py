"""Seeds that experiments/gpu/seeds.py trains at once are those that `repro train` trains one by one, on a CPU too."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from repro.evaluate.evaluate import evaluate_runs
from repro.results import Run, read_run
from repro.train.launch import train
from repro.train.loop import NotFinite
from repro.train.prepare import prepare

PROJECT = Path(__file__).parents[2]
RUN, STACKED = "digits_mpl", "moons_tuned_mpl"
SHORT = ["budget.steps=24", "budget.log_every=12", "budget.snapshots=2", "finetune.steps=2", "model.width=2"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, whose groups train in this process."""
    spec = importlib.util.spec_from_file_location("gpu_seeds", PROJECT / "experiments/gpu/seeds.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_seeds", module)  # where its dataclass looks for its types
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    return module


@pytest.fixture
def place(workplace: Path) -> Path:
    """With a prepared plan of three seeds."""
    prepared(workplace, "0-2")
    return workplace


def prepared(place: Path, seeds: str, *overrides: str) -> None:
    """The plan small.yaml."""
    runs = {RUN: {"seeds": seeds, "overrides": [*SHORT, *overrides]}, STACKED: {"seeds": "0-1"}}
    (place / "small.yaml").write_text(yaml.safe_dump({"runs": runs}))
    prepare(Path("small.yaml"))


def recorded(script: Any, seed: int) -> Run:
    """What is recorded of one seed."""
    return read_run(script.RECORDS / RUN / f"seed-{seed}" / RUN)


@pytest.mark.slow
def test_seeds_at_once_are_those_trained_alone(script: Any, place: Path) -> None:
    """Predictions, weights, curves and log of each, bit for bit, and each in its own place."""
    assert 0 == train(RUN, "0-2")
    evaluate_runs(Namespace(runs=[RUN]))
    alone = read_run(place / "results/runs" / RUN)
    shutil.rmtree(place / "results")

    assert 0 == script.main(["small.yaml", f"{RUN}:0-1", "--at-once", "2", "--processes", "1"])
    assert not (place / "results/runs").exists()  # one of the planned seeds is missing
    assert 0 == script.main(["small.yaml", RUN, "--at-once", "2", "--processes", "1"])

    found = read_run(place / "results/runs" / RUN)
    assert [[seed] for seed in (0, 1, 2)] == [list(recorded(script, seed).seeds.index) for seed in (0, 1, 2)]
    assert ["taken one by one, 2 at once"] * 2 + ["taken one by one, 1 at once"] == list(found.seeds["way"])
    assert alone.config == found.config
    assert alone.arrays.keys() == found.arrays.keys()
    for name in alone.arrays:
        np.testing.assert_array_equal(alone.arrays[name], found.arrays[name], name)
    assert alone.metrics.equals(found.metrics)
    same = [
        name
        for name in map(str, alone.seeds)
        if name.startswith(("accuracy", "weights_hash", "predictions", "training"))
    ]
    assert alone.seeds[same].equals(found.seeds[same])

    prepared(place, "0-1")
    shutil.rmtree(script.RECORDS)
    assert 0 == script.main(["small.yaml", RUN, "--processes", "1"])
    assert ["0,1,2"] == list(read_run(place / "results/runs" / RUN).seeds["seeds_before"].unique())


@pytest.mark.slow
def test_what_is_not_finished_is_no_record(
    script: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a group that fails nothing is left, nor is it done; seeds of other settings are not taken for these."""
    looks: list[object] = []

    def check_finite(*_: object) -> None:
        looks.append(0)
        if len(looks) == 4:  # the last seed at its last step
            raise NotFinite("student is NaN")

    with monkeypatch.context() as patch:
        patch.setattr("repro.train.loop.check_finite", check_finite)
        assert 1 == script.main(["small.yaml", f"{RUN}:0-1", "--processes", "1"])
    assert "error: digits_mpl seeds-0-1: student is NaN" in capsys.readouterr().out
    assert not script.RECORDS.exists()
    assert 75 == script.main(["small.yaml", f"{RUN}:0", "--minutes", "0", "--processes", "1"])
    assert 1 == script.main(["small.yaml", STACKED, "--processes", "1"])
    assert f"budget.stack = 50 trains seeds as one; train it by: repro train {STACKED}" in capsys.readouterr().out
    for named in ("digits_uda", f"{RUN}:7"):
        with pytest.raises(ValueError, match=f"{named}: is not in the plan; its runs and seeds: repro plan"):
            script.main(["small.yaml", named])

    assert 0 == script.main(["small.yaml", f"{RUN}:0", "--processes", "1"])
    prepared(place, "0-2", "optim.student.learning_rate=0.01")
    with pytest.raises(ValueError, match="seed-0/digits_mpl: was recorded with other settings than those in artifacts"):
        script.main(["small.yaml", f"{RUN}:1", RUN])

"""Several processes at the real entry point: deaths, stops, another number of them, and one voice for what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from repro.__main__ import main
from repro.files import only_writer
from repro.methods import mpl
from repro.optim import Learner
from tests.survival import ROOT, Process, outcome, prepared, printed, seeds_of
from tests.world_cases import ends, start

RUN = "digits_mpl"
ARGUMENTS = ("train", RUN, "--seeds", seeds_of(RUN))
TRAIN = partial(main, list(ARGUMENTS))
GONE = "another process of this training ended or does not answer"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what training needs, only to be copied."""
    return prepared(tmp_path_factory.mktemp("ready") / "place", [RUN])


@pytest.fixture(scope="module")
def unbroken(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What two processes leave that nobody interrupts."""
    place = shutil.copytree(ready, tmp_path_factory.mktemp("unbroken") / "place", symlinks=True)
    assert [0, 0] == ends(together(place)), printed(place)
    return outcome(place, RUN)


@pytest.fixture
def place(ready: Path, tmp_path: Path) -> Path:
    """A folder with what training needs."""
    return shutil.copytree(ready, tmp_path / "place", symlinks=True)


def together(place: Path, spoil: Callable[[int], None] = lambda _: None) -> list[Process]:
    """Two processes that train the run."""
    return start(2, place, TRAIN, spoil=spoil)


def wait_for_checkpoint(place: Path) -> None:
    """Of the first seed, or what training has said instead."""
    until = time.monotonic() + 180
    while not list(place.glob("state/digits_mpl/seed-0/checkpoint-*.pt")):
        assert time.monotonic() < until, printed(place)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_others_and_the_same_goes_on(rank: int, place: Path, unbroken: str) -> None:
    """Soon, with one sentence; what comes out has the bits of a training that nobody interrupted."""
    processes = together(place)
    wait_for_checkpoint(place)
    processes[rank].send(signal.SIGKILL)
    statuses = ends(processes, 20)

    assert {rank: -signal.SIGKILL, 1 - rank: 2} == dict(enumerate(statuses))
    assert 1 == printed(place).count(GONE)
    assert "Traceback" not in printed(place)
    assert [0, 0] == ends(together(place)), printed(place)
    assert unbroken == outcome(place, RUN)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_another_number_may_go_on(place: Path) -> None:
    """All save at the same step and exit alike; one process alone then says what differs, and finishes."""
    processes = together(place)
    wait_for_checkpoint(place)
    processes[1].send(signal.SIGTERM)

    assert [85, 85] == ends(processes), printed(place)
    assert 1 == printed(place).count("digits_mpl: stopped by SIGTERM; the state is saved, run again to go on")
    assert [0] == ends(start(1, place, TRAIN)), printed(place)
    assert "with 1 process instead of 2: the last bits may differ" in printed(place)


@pytest.mark.slow
def test_what_the_first_process_meets_ends_all_with_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a lock that another training holds: nobody waits for the first process, and only one speaks."""
    monkeypatch.chdir(place)
    with only_writer(RUN, "run digits_mpl"):
        statuses = ends(together(place), 30)

    assert [2, 2] == statuses
    assert 1 == printed(place).count("error: run digits_mpl is being written by process")
    assert "Traceback" not in printed(place)


@pytest.mark.slow
def test_processes_that_drift_apart_are_told_so(place: Path) -> None:
    """Before a state is saved that not all of them hold; the tensor is named."""

    def slip(rank: int) -> None:
        apply = Learner.apply
        if rank == 1:
            Learner.apply = lambda self, gradients, step: apply(self, [g * (1 + 1e-6) for g in gradients], step)  # type: ignore[method-assign]

    statuses = ends(together(place, slip), 60)

    assert [2, 2] == statuses, printed(place)
    assert 1 == printed(place).count("error: process 1 does not hold the state of process 0 (teacher.model.")
    assert [] == list(place.glob("state/digits_mpl/*/checkpoint-*"))


@pytest.mark.slow
def test_what_one_process_finds_not_finite_ends_all(place: Path) -> None:
    """All stop at the row that shows it, with one sentence."""

    def spoil(rank: int) -> None:
        ramp = mpl.ramp
        if rank == 1:
            mpl.ramp = lambda step, steps: ramp(step, steps) * (torch.nan if step == 20 else 1)

    statuses = ends(together(place, spoil), 60)

    assert [2, 2] == statuses, printed(place)
    kept = "the last saved state is kept in state/digits_mpl/seed-0/checkpoint-"
    assert 1 == printed(place).count("error: ") == printed(place).count(kept)


@pytest.mark.slow
def test_processes_that_do_not_see_the_same_files_are_told_so(place: Path, tmp_path: Path) -> None:
    """A state that only the first process finds."""
    other = shutil.copytree(place, tmp_path / "other", symlinks=True)
    processes = together(place)
    wait_for_checkpoint(place)
    processes[0].send(signal.SIGTERM)
    ends(processes)

    statuses = ends(together(place, lambda rank: os.chdir(other) if rank == 1 else None), 30)

    assert [2, 2] == statuses, printed(place)
    assert 1 == printed(place).count("all must see the files in state/digits_mpl/seed-0")


@pytest.mark.slow
def test_torchrun_starts_it_and_is_outlived_by_no_process(place: Path, unbroken: str) -> None:
    """Its processes save and stop when it is killed; started again, it ends with an unbroken training's bits."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
               "repro", *ARGUMENTS]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (place / "log").open("w") as log:
        launcher = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)  # noqa: S603 - our own
        wait_for_checkpoint(place)
        launcher.kill()
        launcher.wait()
        until = time.monotonic() + 30
        while "its launcher is gone; the state is saved" not in printed(place) and time.monotonic() < until:
            time.sleep(0.1)
        assert "digits_mpl: its launcher is gone; the state is saved, run again to go on" in printed(place)
        again = subprocess.run(command, cwd=place, env=environment, stdout=log, stderr=log, check=False, timeout=100)  # noqa: S603 - our own

    assert 0 == again.returncode, printed(place)
    assert unbroken == outcome(place, RUN)


def test_an_incomplete_environment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is missing, and how to start."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.setenv("WORLD_SIZE", "2")

    status = ends(start(1, tmp_path, TRAIN))

    assert [2] == status
    assert "error: WORLD_SIZE = 2: RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set" in printed(tmp_path)
    assert not torch.distributed.is_initialized()

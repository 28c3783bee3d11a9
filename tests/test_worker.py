"""A worker of a training: its lines in the log, and the end of memory as one sentence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from repro.engine.device import is_out_of_memory
from repro.train import job, launch, stopping
from repro.train.job import line
from tests.entry_points import python
from tests.tiny import METHODS, settings


def test_lines_come_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the log that follow each other within half a minute are left out."""
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr(job.time, "monotonic", lambda: now[0])
    listener = job.Listener(lambda _: None, said.append, lambda: False, last=0.0)
    for row in range(6):
        now[0] += 12.0
        listener.log(f"row {row}")

    assert said == ["row 2", "row 5"]


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
])  # fmt: skip
def test_an_end_of_memory_is_one_sentence(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the settings and the checkpoint that is kept; other errors pass as they are."""
    config = settings("digits", METHODS["uda"], budget__labelled_batch=6, budget__workers=2)
    mine = job.Job("mine", [3], config, tmp_path / "mine", {})
    listener = job.Listener(lambda _: None, print, lambda: False)
    (tmp_path / "mine/seed-3").mkdir(parents=True)
    (tmp_path / "mine/seed-3/checkpoint-000000007.pt").touch()

    def fail(*_: object) -> bool:
        raise error

    monkeypatch.setattr(job, "Trainer", fail)
    with pytest.raises(job.OutOfMemory) as caught:
        job.train_job(mine, listener)

    said = str(caught.value)
    assert said.startswith("mine seed-3: memory ran out; lower budget.workers = 2, or take smaller batches (budget.lab")
    assert "budget.labelled_batch = 6" in said
    assert "checkpoint-000000007.pt" in said
    assert "\n" not in said
    monkeypatch.setattr(job, "Trainer", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match=r"^another$"):
        job.train_job(mine, listener)


def test_a_refused_allocation_of_this_machine_is_recognised() -> None:
    """PyTorch says on a CPU what the sentence expects."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not agree"))


@pytest.mark.parametrize(("began", "minutes", "stops", "trained"), [
    (False, -1.0, False, True),  # so that a command that is run again and again comes to an end
    (True, -1.0, False, False),
    (True, 1.0, False, True),
    (False, 1.0, True, False),
])  # fmt: skip
def test_a_job_begins_while_there_is_time(
    began: bool, minutes: float, stops: bool, trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first always takes some steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "train_job", lambda *_: True)
    config = settings("digits", METHODS["uda"])
    mine = job.Job("mine", [3], config, tmp_path / "mine", {}, deadline=time.monotonic() + 60 * minutes)

    assert trained is launch._train_one(mine, job.Listener(lambda _: None, print, lambda: stops), began)


# Signals


def test_of_signals_that_come_together_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system signals the main process, then all; later a second one would end it. After the block all is past.

    What nohup has made deaf to SIGHUP stays so.
    """
    monkeypatch.setattr(stopping.time, "monotonic", lambda: 7.0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    flags = stopping.Flags()
    try:
        with stopping.Stopping(flags) as found:
            os.kill(os.getpid(), signal.SIGHUP)
            assert (flags.stops, found.status) == (False, 0)
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGTERM)
            assert (True, stopping.EXIT_OUT_OF_TIME, "SIGUSR2") == (flags.stops, found.status, found.name)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_it_at_once() -> None:
    """A person who asks twice does not want to wait for the end of a step."""
    script = """
import os, signal, time
from repro.train import stopping
with stopping.Stopping(stopping.Flags()):
    os.kill(os.getpid(), signal.SIGTERM)
    now = time.monotonic()
    stopping.time.monotonic = lambda: now + 3
    print("saving", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("saved", flush=True)
"""
    done = python("-c", script)

    assert (-signal.SIGTERM, "saving\n") == (done.returncode, done.stdout)


# The log line: what a person reads while a run goes on


def test_a_row_reads_as_a_sentence() -> None:
    """Step, losses, wrong pseudo labels, h with its spread and its noise; what is not measured is not said."""
    row = {"step": 200.0, "student_loss": 1.9234, "teacher_labelled_loss": 0.5, "uda_loss": 0.0312,
           "pseudo_label_wrong": 0.4312, "feedback": -0.00123, "feedback_spread": 0.004,
           "noise_floor": 0.001}  # fmt: skip

    assert (
        "cifar10_mpl seed-0: step 200 of 300000; losses: student 1.923, teacher labelled 0.500, UDA 0.031; "
        "43.1 % of pseudo labels wrong; h -1.2e-03 ± 4.0e-03; of which noise +1.0e-03"
    ) == line("cifar10_mpl seed-0", row, 300_000)
    assert "run: step 5 of 9; losses: labelled 0.700" == line("run", {"step": 5.0, "labelled_loss": 0.7}, 9)
    assert "noise" not in line("run", {"step": 5.0, "feedback": 1.0, "feedback_spread": 0.0, "noise_floor": 0.0}, 9)


@pytest.mark.parametrize(("steps", "shown", "said"), [
    (1010, (1000, 1001, 1002), ["1000/1010 steps", "1001/1010 steps, about 135 s left",
                                "1002/1010 steps, about 120 s left"]),
    (1000, (0, 300, 600, *range(601, 621)), ["620/1000 steps, about 5700 s left"]),
])  # fmt: skip
def test_the_time_left_is_of_what_is_done_now(
    steps: int,
    shown: Sequence[int],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every 15 seconds. Steps that an earlier start left count at once, and say nothing of the pace; nor do jumps.

    Seeds that go on from saved states say so one after another: after five minutes only the pace of now counts.
    """
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.sys.stderr, "isatty", lambda: False)
    bar = stopping.Progress("run", steps)
    for done in shown:
        now[0] += 15
        bar.show(done)

    assert [f"run: {line}" for line in said] == capsys.readouterr().out.splitlines()[-len(said) :]

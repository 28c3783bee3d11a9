"""A worker of a training: its lines in the log, and the end of memory as one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from repro.engine.device import is_out_of_memory
from repro.train import job
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

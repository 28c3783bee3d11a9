"""A few trials of every kind of interruption; `python -m tests.survival.run` makes many, which REPRODUCE.md shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.entry_points import clean_processes
from tests.survival.disks import may_mount
from tests.survival.kills import STRIKES
from tests.survival.run import FEW, RECORD, ROOT, table
from tests.survival.workplace import prepared

KINDS = {
    *STRIKES, "kill_evaluation", "unsafe_training", "operation_training", "unsafe_evaluation", "operation_evaluation",
    "full", "read_only", "limit", "cut", "flipped", "zeros", "all_damaged", "second",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_what_is_interrupted_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    """Every kind of kill, full disk and rot, once: the same weights, log and predictions, and nothing left behind."""
    command = [sys.executable, "-m", "tests.survival.run", name, "--few", "--out", str(tmp_path / "record.json")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own

    assert (0, "") == (done.returncode, done.stderr), done.stdout[-5000:]
    tried = {row["id"] for row in json.loads((tmp_path / "record.json").read_text())["trials"]}
    mounted = {"full", "read_only"} if name == "mpl_stacked" or not may_mount() else set()
    assert KINDS - mounted == tried


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """The recorded trials."""
    found: dict[str, Any] = json.loads(RECORD.read_text())
    return found


def test_everything_that_was_tried_survived(record: dict[str, Any]) -> None:
    """The record has every kind of trial, and no failure."""
    assert KINDS == {row["id"] for row in record["trials"]}
    assert {} == {row["id"]: row["failures"] for row in record["trials"] if row["failures"]}
    assert all(row["survived"] == row["trials"] > 0 for row in record["trials"])
    assert [] == [row["id"] for row in record["trials"] if not row["strikes"]]  # none that never met a running process


def test_the_protocol_shows_the_recorded_trials(record: dict[str, Any]) -> None:
    """The table in REPRODUCE.md is the one that the trials printed."""
    assert table(record) in (ROOT / "REPRODUCE.md").read_text()


def two_threads(place: Path) -> None:
    """A process that has computed with two threads forks one that prepares."""
    torch.set_num_threads(2)
    torch.ones(1 << 22).exp()  # starts the second
    prepared(place, ["supervised"])


def test_a_forked_process_ends_whatever_threads_its_parent_used(tmp_path: Path) -> None:
    """The threads that a parent has started are not there in its child, who would wait for them for ever."""
    process = clean_processes().Process(target=two_threads, args=(tmp_path,))

    process.start()
    process.join(130)

    assert 0 == process.exitcode

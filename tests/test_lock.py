"""One writer: others are refused with who holds the place, a dead process's lock is taken over."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repro import files
from repro.files import Held, only_writer

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from repro.files import only_writer
with only_writer("run", "run x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def holder(workplace: Path) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    started = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", HOLD], cwd=workplace, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout.readline() == "held\n"
    return started


def test_a_second_writer_is_told_who_the_first_is(workplace: Path) -> None:
    """At once, with process, machine, time and command; another place is free."""
    first = holder(workplace)
    began = time.monotonic()

    said = rf"^run x is being written by process {first.pid} on {platform.node()} since .*-c"
    with pytest.raises(Held, match=said), only_writer("run", "run x"):
        pass
    assert time.monotonic() - began < 5
    with only_writer("other", "run y"):
        pass
    first.kill()
    first.communicate()


def test_a_killed_holder_lets_go(workplace: Path) -> None:
    """Nobody has to remove a lock by hand."""
    first = holder(workplace)
    first.kill()
    first.communicate()

    with only_writer("run", "run x"):
        assert f"process {os.getpid()} on" in (files.LOCKS / "run.lock").read_text()
    assert "" == (files.LOCKS / "run.lock").read_text()


def test_the_workers_of_a_dead_holder_are_waited_for(workplace: Path) -> None:
    """They hold the lock too, until they notice; a holder on another machine is not taken for dead."""
    first = holder(workplace)
    path = files.LOCKS / "run.lock"
    said = path.read_text()
    path.write_text(said.replace(str(first.pid), "4194305"))  # above the largest process number

    patience, files._PATIENCE = files._PATIENCE, 0.5
    began = time.monotonic()
    try:
        with pytest.raises(Held), only_writer("run", "run x"):
            pass
        waited = time.monotonic() - began
        path.write_text(said.replace(str(first.pid), "4194305").replace(platform.node(), "elsewhere"))
        began = time.monotonic()
        with pytest.raises(Held, match="elsewhere"), only_writer("run", "run x"):
            pass
        assert time.monotonic() - began < 0.4 < waited
    finally:
        files._PATIENCE = patience
        first.kill()
        first.communicate()


def test_the_lock_is_free_after_an_error() -> None:
    """However the block ends."""
    with pytest.raises(ZeroDivisionError), only_writer("run", "run x"):
        raise ZeroDivisionError
    with only_writer("run", "run x"):
        pass

"""Files and folders that take their place whole or not at all, whatever moment a kill chooses."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import time
from pathlib import Path

import pytest

from repro import files
from repro.files import link_or_copy, partly, replace_between, replace_folder, restore_folder, sweep, write_whole
from tests.entry_points import started


def folder(path: Path, content: str) -> Path:
    """A folder with one file."""
    path.mkdir(parents=True)
    (path / "file").write_text(content)
    return path


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_failed_writes_keep_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the old file stays whole and nothing else is left in the folder."""
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left") as error:
        write_whole(path, b"new")

    assert str(path) == error.value.filename
    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_writing_makes_folders_and_replaces(tmp_path: Path) -> None:
    """A file appears with its folders and all its pieces, then is replaced, and can be read by others."""
    path = tmp_path / "a" / "b"
    write_whole(path, b"old")
    write_whole(path, b"n", memoryview(b"ew"))

    assert b"new" == path.read_bytes()
    assert 0o644 == path.stat().st_mode & 0o777


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was there is gone, files that the new one lacks too, and nothing is left beside it."""
    place = folder(tmp_path / "place", "old")
    (place / "other").write_text("old")
    replace_folder(folder(partly(place), "new"), place)

    assert ["file"] == [path.name for path in place.iterdir()]
    assert "new" == (place / "file").read_text()
    assert [place] == list(tmp_path.iterdir())


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_renames_loses_nothing(killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder is there, or comes back with the next `sweep`."""
    place, calls = folder(tmp_path / "place", "old"), []
    replace = os.replace

    def kill(source: object, target: object) -> None:
        calls.append(source)
        if len(calls) == killed_at:
            raise Killed
        replace(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            replace_folder(folder(partly(place), "new"), place)
    sweep(tmp_path)

    assert "old" == (place / "file").read_text()
    assert [place] == list(tmp_path.iterdir())


def test_a_kill_after_the_renames_keeps_the_new(tmp_path: Path) -> None:
    """The folder that was put aside does not come back over the one that took its place."""
    place = folder(tmp_path / "place", "new")
    folder(tmp_path / ".replaced-place", "old")
    restore_folder(place)

    assert "new" == (place / "file").read_text()
    assert [place] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_take_its_place_leaves_the_old(tmp_path: Path) -> None:
    """An error between the renames undoes the first."""
    place = folder(tmp_path / "place", "old")
    with pytest.raises(OSError, match="No such file"):
        replace_folder(tmp_path / "missing", place)

    assert "old" == (place / "file").read_text()
    assert [place] == list(tmp_path.iterdir())


def test_links_where_there_can_be_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across disks a file is copied; a link to a symbolic link is one to the file itself."""
    (tmp_path / "source").write_text("content")
    (tmp_path / "symbolic").symlink_to("source")
    link_or_copy(tmp_path / "symbolic", tmp_path / "linked")
    assert (tmp_path / "source").samefile(tmp_path / "linked")

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    link_or_copy(tmp_path / "source", tmp_path / "linked")
    assert not (tmp_path / "source").samefile(tmp_path / "linked")
    assert "content" == (tmp_path / "linked").read_text()


def test_text_between_two_marks_is_replaced() -> None:
    """All between them and nothing else, however often; what stands there may hold anything but the marks."""
    once = replace_between("head\n<b>\nold\n<e>\ntail\n", "<b>", "<e>", "new\\1\n<x>", "README.md")

    assert "head\n<b>\nnew\\1\n<x>\n<e>\ntail\n" == once
    assert once == replace_between(once, "<b>", "<e>", "new\\1\n<x>", "README.md")
    assert "<b>\n\n<e>" == replace_between("<b><e>", "<b>", "<e>", "", "README.md")


@pytest.mark.parametrize("text", ["", "<b>", "<e>", "<e>\n<b>", "<b><b><e>", "<b><e><e>", "<b><e><b><e>"])
def test_marks_are_there_once_and_in_order(text: str) -> None:
    """Anything else could lose what somebody wrote; the file is named."""
    with pytest.raises(
        ValueError, match=r"^README\.md must hold the lines '<b>' and '<e>', once each and in this order"
    ):
        replace_between(text, "<b>", "<e>", "new", "README.md")


# One writer


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
    process = started(workplace, "-c", HOLD, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_the_first_is(workplace: Path) -> None:
    """At once, with process, machine, time and command; another place is free."""
    first = holder(workplace)
    began = time.monotonic()

    said = rf"^run x is being written by process {first.pid} on {platform.node()} since .*-c"
    with pytest.raises(files.Held, match=said), files.only_writer("run", "run x"):
        pass
    assert time.monotonic() - began < 5
    with files.only_writer("other", "run y"):
        pass
    first.kill()
    first.communicate()


def test_a_killed_holder_lets_go(workplace: Path) -> None:
    """Nobody has to remove a lock by hand."""
    first = holder(workplace)
    first.kill()
    first.communicate()

    with files.only_writer("run", "run x"):
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
        with pytest.raises(files.Held), files.only_writer("run", "run x"):
            pass
        waited = time.monotonic() - began
        path.write_text(said.replace(str(first.pid), "4194305").replace(platform.node(), "elsewhere"))
        began = time.monotonic()
        with pytest.raises(files.Held, match="elsewhere"), files.only_writer("run", "run x"):
            pass
        assert time.monotonic() - began < 0.4 < waited
    finally:
        files._PATIENCE = patience
        first.kill()
        first.communicate()


def test_the_lock_is_free_after_an_error() -> None:
    """However the block ends."""
    with pytest.raises(ZeroDivisionError), files.only_writer("run", "run x"):
        raise ZeroDivisionError
    with files.only_writer("run", "run x"):
        pass

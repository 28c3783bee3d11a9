"""Downloads, from a web server on this machine: whole and right, or not there at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from repro.data.download import TRIES, fetch
from repro.data.part import Part

from repro.data import download
from tests.file_server import Served, serving

CONTENT = b"".join(hashlib.sha256(str(k).encode()).digest() for k in range(30_000))  # 960,000 bytes, no two parts alike
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that does all right, until a test changes it; no proxy, no waiting."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with serving(Served(CONTENT)) as here:
        yield here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file shall be."""
    return tmp_path / "data" / "file.bin"


def part_of(path: Path, content: bytes) -> Path:
    """A part that an earlier download left."""
    path.parent.mkdir()
    part = path.with_name("file.bin.part")
    part.write_bytes(content)
    return part


def only_the_file(path: Path) -> bool:
    """The file is whole, and nothing else lies beside it."""
    return path.read_bytes() == CONTENT and [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_file_comes_whole(served: Served, path: Path, size: int | None, lengths: bool) -> None:
    """One request, without a range; the length may be unknown; the file alone is left."""
    served.lengths = lengths

    fetch(served.url, path, MD5, size)

    assert only_the_file(path)
    assert [None] == served.asked


def test_a_part_is_completed(served: Served, path: Path) -> None:
    """What is there is not asked for again."""
    part_of(path, CONTENT[:500_000])

    fetch(served.url, path, MD5)

    assert only_the_file(path)
    assert ["bytes=500000-"] == served.asked


def test_a_whole_part_needs_no_network(path: Path) -> None:
    """An interruption between the last byte and the file's name costs nothing."""
    part_of(path, CONTENT)

    fetch("http://127.0.0.1:9/nobody", path, MD5)

    assert only_the_file(path)


def test_a_server_that_cannot_resume_sends_all(served: Served, path: Path) -> None:
    """An answer 200 to a request for a range replaces the part rather than following it."""
    served.ranges = False
    part_of(path, CONTENT[:500_000])

    fetch(served.url, path, MD5)

    assert only_the_file(path)
    assert ["bytes=500000-"] == served.asked


def test_another_range_than_asked_for_is_not_appended(served: Served, path: Path) -> None:
    """A part from another place than asked for is dropped, and all is asked for."""
    served.shift = 7
    part_of(path, CONTENT[:500_000])

    fetch(served.url, path, MD5)

    assert only_the_file(path)
    assert ["bytes=500000-", None] == served.asked


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_longer_than_the_file_is_dropped(served: Served, path: Path, size: int | None) -> None:
    """It is no part of the file: known by its size, else by the server's answer 416."""
    part_of(path, CONTENT + b"more")

    fetch(served.url, path, MD5, size)

    assert only_the_file(path)
    assert ([None] if size else [f"bytes={SIZE + 4}-", None]) == served.asked


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("lengths", [True, False])
def test_broken_connections_are_resumed(
    served: Served, path: Path, reset: bool, lengths: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven connections that break with a reset or quietly, more than may fail in a row, still bring the file."""
    served.cuts, served.reset, served.lengths = [100_000] * 7, reset, lengths

    fetch(served.url, path, MD5, SIZE)

    assert only_the_file(path)
    assert len(served.asked) >= 8
    assert None not in served.asked[1:]
    assert "file.bin: " in (out := capsys.readouterr().out)
    assert "MB; going on in" in out


def test_a_server_that_is_busy_for_now_is_asked_again(served: Served, path: Path) -> None:
    """Answers 503 and 429 are not the last word."""
    served.statuses = [503, 429]

    fetch(served.url, path, MD5)

    assert only_the_file(path)
    assert 3 == len(served.asked)


def test_connections_that_bring_nothing_end(served: Served, path: Path) -> None:
    """After five in a row the download is given up; what came is kept, and the next call goes on from there."""
    served.cuts = [300_000] + [0] * TRIES

    with pytest.raises(ValueError, match=r"could not be downloaded \(the connection broke; 5 tries .*300000 bytes are"):
        fetch(served.url, path, MD5)
    assert not path.exists()
    assert 1 + TRIES == len(served.asked)

    fetch(served.url, path, MD5)
    assert only_the_file(path)
    assert "bytes=300000-" == served.asked[-1]


def test_breaking_again_at_the_same_place_ends(served: Served, path: Path) -> None:
    """A server that cannot resume and always breaks at one place does not keep anyone for ever."""
    served.ranges, served.cuts = False, [300_000] * 50

    with pytest.raises(ValueError, match="could not be downloaded"):
        fetch(served.url, path, MD5)
    assert 1 + TRIES == len(served.asked)


def test_nobody_there_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address, the reason and the remedy."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with serving(Served(b"")) as gone:
        pass

    with pytest.raises(ValueError, match=r"http://127.*Connection refused.*run the same command again"):
        fetch(gone.url, path, MD5)
    assert not path.exists()


@pytest.mark.parametrize("size", [SIZE, None])
def test_wrong_bytes_never_get_the_name(served: Served, path: Path, size: int | None) -> None:
    """One flipped bit: deleted and said, with both MD5s; the next call begins anew."""
    served.content = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    found = hashlib.md5(served.content, usedforsecurity=False).hexdigest()

    with pytest.raises(ValueError, match=rf"MD5 {found}, the published one has {MD5}; it was deleted: run the same"):
        fetch(served.url, path, MD5, size)
    assert [] == list(path.parent.iterdir())

    served.content = CONTENT
    fetch(served.url, path, MD5, size)
    assert only_the_file(path)


def test_a_part_of_another_file_is_not_believed(served: Served, path: Path) -> None:
    """A damaged part, completed, is deleted, so that the same command mends it."""
    part_of(path, bytes(500_000))

    with pytest.raises(ValueError, match="it was deleted"):
        fetch(served.url, path, MD5)
    assert [] == list(path.parent.iterdir())

    fetch(served.url, path, MD5)
    assert only_the_file(path)


@pytest.mark.parametrize("lengths", [True, False])
def test_more_than_the_published_file_is_not_kept(served: Served, path: Path, lengths: bool) -> None:
    """A larger file is refused by its length, or cut off and deleted, so that it cannot fill the disk."""
    served.content, served.lengths = CONTENT * 20, lengths

    with pytest.raises(ValueError, match="offers 19200000 bytes" if lengths else "it was deleted") as error:
        fetch(served.url, path, MD5, SIZE)
    assert hashlib.md5(served.content, usedforsecurity=False).hexdigest() not in str(error.value)  # it did not all come
    assert not path.exists()
    assert [] == [there for there in path.parent.iterdir() if there.stat().st_size]


def test_a_page_in_place_of_the_file_is_refused(served: Served, path: Path) -> None:
    """What a hotel's network answers is shorter than the file and whole: said at once, not tried again."""
    served.content = b"<html>Please log in</html>"

    with pytest.raises(ValueError, match="it was deleted"):
        fetch(served.url, path, MD5, SIZE)
    assert [None] == served.asked


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there_is_said_at_once(served: Served, path: Path, status: int) -> None:
    """The address and the server's answer; no second try."""
    served.statuses = [status]

    with pytest.raises(ValueError, match=rf"file.bin could not be downloaded \(HTTP {status} "):
        fetch(served.url, path, MD5)
    assert not path.exists()
    assert [None] == served.asked


def test_a_file_that_is_there_is_checked(served: Served, path: Path) -> None:
    """The right one is used without a request; a wrong one is refused with the remedy, and stays."""
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    fetch(served.url, path, MD5)

    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=rf"file.bin has MD5 .*, the published file has {MD5}; delete it to download"):
        fetch(served.url, path, MD5)
    assert CONTENT[:-1] == path.read_bytes()
    assert [] == served.asked


def test_a_full_disk_is_named_and_not_tried_again(served: Served, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came stays; with room again, the next call goes on from it."""

    class FullDisk:
        """A file on a disk with room for 400,000 bytes."""

        def __init__(self, file: object) -> None:
            self.fileno, self.truncate = file.fileno, file.truncate  # type: ignore[attr-defined]
            self.room = 400_000

        def write(self, content: memoryview) -> int:
            """As much as there is room for."""
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count = os.write(self.fileno(), content[: self.room])
            self.room -= count
            return count

    with monkeypatch.context() as patch:
        init = Part.__init__
        patch.setattr(Part, "__init__", lambda self, where, file: init(self, where, FullDisk(file)))
        with pytest.raises(OSError, match="No space left") as error:
            fetch(served.url, path, MD5)
    assert str(path) + ".part" == error.value.filename
    assert [None] == served.asked
    assert not path.exists()

    fetch(served.url, path, MD5)
    assert only_the_file(path)
    assert "bytes=400000-" == served.asked[-1]


def test_two_processes_do_not_write_one_part(served: Served, path: Path) -> None:
    """The second one is told to wait, and the part stays as it is."""
    part = part_of(path, CONTENT[:500_000])
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"file.bin.part is being written by another process; wait"):
            fetch(served.url, path, MD5)

    assert CONTENT[:500_000] == part.read_bytes()
    assert [] == served.asked


def test_progress_is_told(served: Served, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines with how much of how much is here."""
    monkeypatch.setattr(download, "_REPORT_EVERY", 0.0)
    lines: list[str] = []
    monkeypatch.setattr("builtins.print", lambda line, **_: lines.append(line))

    fetch(served.url, path, MD5)

    assert lines[0].startswith("file.bin: 0.")
    assert lines[0].endswith(" of 1.0 MB")
    assert "file.bin: 1.0 MB are here" == lines[-1]


def test_the_file_is_on_the_disk_before_it_has_its_name(
    served: Served, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that cannot be made safe keeps its name."""

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)

    with pytest.raises(OSError, match="Input/output error") as error:
        fetch(served.url, path, MD5)
    assert str(path) + ".part" == error.value.filename
    assert not path.exists()

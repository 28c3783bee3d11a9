"""CIFAR-10's archive: downloaded or found, read, and its files there all together or not at all; on small stand-ins."""

from __future__ import annotations

import errno
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
from repro.data.part import md5_of, open_part
from repro.data.training import prepare

from repro.data import Cifar10Data, cifar10_files, download
from repro.files import write_whole
from tests.file_server import Served, serving

BATCHES, ARCHIVE, NAMES = cifar10_files.BATCHES, cifar10_files.ARCHIVE, list(cifar10_files.MD5)
FOLDER = Path("artifacts/data")


def published(name: str) -> bytes:
    """The content of a stand-in."""
    return name.encode() * 10_000


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An empty working directory, no network, and an archive of small files that stands in for the published one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in [*NAMES, "readme.html"]:
            info = tarfile.TarInfo(f"{BATCHES}/{name}")
            info.size = len(published(name))
            tar.addfile(info, io.BytesIO(published(name)))
    for name in NAMES:
        monkeypatch.setitem(cifar10_files.SIZE, name, len(published(name)))
        monkeypatch.setitem(cifar10_files.MD5, name, hashlib.md5(published(name), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(cifar10_files, "ARCHIVE_SIZE", len(buffer.getvalue()))
    monkeypatch.setattr(cifar10_files, "ARCHIVE_MD5", hashlib.md5(buffer.getvalue(), usedforsecurity=False).hexdigest())
    return buffer.getvalue()


@pytest.fixture
def found(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive lies in data.root, and there is no network."""

    def no_network(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(download, "urlopen", no_network)
    path = Path("fresh") / ARCHIVE
    path.parent.mkdir()
    path.write_bytes(archive)
    return path


def in_root() -> set[str]:
    """What lies in data.root, hidden and temporary files included."""
    return {path.name for path in Path("fresh").iterdir()}


def all_placed() -> bool:
    """All seven files are where training reads them, and in data.root, and nothing else is."""
    return all(
        {name: published(name) for name in NAMES} == {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (FOLDER / "cifar10" / BATCHES, Path("fresh") / BATCHES)
    )


def test_a_download_goes_to_the_root(
    archive: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a web server whose connection breaks: archive and files lie in the root, and are placed; it is said."""
    with serving(Served(archive, cuts=[200, 5])) as served:
        monkeypatch.setattr(cifar10_files, "URL", served.url)
        prepare(Cifar10Data(root="fresh"), FOLDER)

    assert [None, "bytes=200-", "bytes=205-"] == served.asked
    assert all_placed()
    assert {BATCHES, ARCHIVE} == in_root()
    assert (Path("fresh") / ARCHIVE).read_bytes() == archive
    assert "data.root = fresh has no folder cifar-10-batches-py; downloading CIFAR-10" in capsys.readouterr().out


def test_another_archive_is_not_read(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server gives in place of the published archive is deleted, and nothing of it is placed."""
    with serving(Served(archive[:-1] + b"x")) as served:
        monkeypatch.setattr(cifar10_files, "URL", served.url)
        with pytest.raises(ValueError, match=r"^data.root = fresh: .* MD5 .*; it was deleted: run the same command"):
            prepare(Cifar10Data(root="fresh"), FOLDER)

    assert set() == in_root()
    assert not FOLDER.exists()


def test_an_archive_that_is_there_is_used(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without network."""
    prepare(Cifar10Data(root="fresh"), FOLDER)

    assert all_placed()
    assert "downloading" not in capsys.readouterr().out


def test_a_wrong_archive_that_is_there_is_refused(found: Path) -> None:
    """By its MD5, before anything of it is read; it stays, and the remedy is named."""
    found.write_bytes(found.read_bytes()[:-1])

    with pytest.raises(ValueError, match=rf"fresh/{ARCHIVE} has MD5 {md5_of(found)}, the published .*; delete it to"):
        prepare(Cifar10Data(root="fresh"), FOLDER)

    assert {ARCHIVE} == in_root()
    assert not FOLDER.exists()


def disk_full_at(last: str) -> Callable[[Path, bytes], None]:
    """`write_whole` on a disk without room for one file."""

    def write(path: Path, content: bytes) -> None:
        if path.name == last:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_whole(path, content)

    return write


def test_a_full_disk_leaves_no_half_folder(found: Path) -> None:
    """The files appear together: when the last one finds no room, none is there, and the next call mends it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10_files, "write_whole", disk_full_at(NAMES[-1]))
        with pytest.raises(OSError, match="No space left"):
            prepare(Cifar10Data(root="fresh"), FOLDER)
    assert {ARCHIVE} == in_root()

    prepare(Cifar10Data(root="fresh"), FOLDER)
    assert all_placed()


def test_a_killed_unpacking_leaves_nothing_for_long(found: Path) -> None:
    """What it wrote lies under one name beside the place, and the next call removes it."""
    write_whole(Path("fresh") / f".partly-{BATCHES}" / "another", b"half")
    (Path("fresh") / f"{BATCHES}.part").touch()

    prepare(Cifar10Data(root="fresh"), FOLDER)

    assert all_placed()
    assert {ARCHIVE, BATCHES} == in_root()


def test_two_do_not_unpack_into_one_folder(found: Path) -> None:
    """The second is told to wait, and touches nothing of the first."""
    half = Path("fresh") / f".partly-{BATCHES}" / NAMES[0]
    with open_part(Path("fresh") / f"{BATCHES}.part"):
        write_whole(half, b"half")
        with pytest.raises(ValueError, match="is being written by another process; wait for it"):
            prepare(Cifar10Data(root="fresh"), FOLDER)

    assert b"half" == half.read_bytes()


def test_a_wrong_member_is_refused(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of an archive with the right MD5 every file is checked, and none is there if one is wrong."""
    monkeypatch.setitem(cifar10_files.MD5, NAMES[-1], "0" * 32)

    message = rf"{ARCHIVE}: {BATCHES}/{NAMES[-1]} has MD5 .*, the published file has 0+; delete fresh/{ARCHIVE} to"
    with pytest.raises(ValueError, match=message):
        prepare(Cifar10Data(root="fresh"), FOLDER)

    assert {ARCHIVE} == in_root()


def test_the_archive_is_the_one_that_torchvision_names() -> None:
    """Address and MD5 were typed in, and are torchvision's."""
    from torchvision.datasets import CIFAR10

    assert (CIFAR10.url, CIFAR10.tgz_md5) == (cifar10_files.URL, cifar10_files.ARCHIVE_MD5)
    assert CIFAR10.filename == cifar10_files.ARCHIVE

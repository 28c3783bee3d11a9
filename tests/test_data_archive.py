"""Archives, hostile and broken ones: only named plain files of the right size come out, and nothing is unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from repro.data.archive import read_members

from repro.data import archive as archives

WANTED = {"folder/one": 5, "folder/two": 6}
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, two levels deep, so that whatever is unpacked beside or above it is seen."""
    place = tmp_path / "above" / "here"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    return place


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


ONE, TWO = member("folder/one", b"first"), member("folder/two", b"second")


def tar_of(*members: Member) -> bytes:
    """An archive with these members, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(content: bytes) -> dict[str, bytes]:
    """What is read of the wanted members; nothing but the archive is there before and after, here and above."""
    path = Path("archive.tar.gz")
    path.write_bytes(content)
    try:
        return dict(read_members(path, WANTED))
    finally:
        found = {there.relative_to(Path.cwd().parents[1]).as_posix() for there in Path.cwd().parents[1].rglob("*")}
        assert {"above", "above/here", "above/here/archive.tar.gz"} == found


def test_wanted_members_are_read() -> None:
    """By their whole names, in any order, whatever lies between."""
    content = tar_of(
        member("folder", kind=tarfile.DIRTYPE), TWO, member("folder/readme", b"x"), member("one", b"9"), ONE
    )

    assert {"folder/one": b"first", "folder/two": b"second"} == read(gzip.compress(content))


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside", b"x"),
        member("folder/../../outside", b"x"),
        member("/tmp/repro-outside", b"x"),  # noqa: S108 - it must not appear
        member("folder/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("folder", kind=tarfile.SYMTYPE, link=".."),
        member("folder/hard", kind=tarfile.LNKTYPE, link="folder/one"),
        member("folder/device", kind=tarfile.CHRTYPE),
        member("folder/pipe", kind=tarfile.FIFOTYPE),
        member("./folder/one", b"other"),
        member("folder//one", b"other"),
    ],
    ids=lambda hostile: f"{hostile[0].name} {hostile[0].type.decode()}",
)
def test_other_members_have_no_effect(hostile: Member) -> None:
    """Paths that lead out, links, devices and names that only resemble a wanted one are passed over."""
    assert {"folder/one": b"first", "folder/two": b"second"} == read(gzip.compress(tar_of(hostile, ONE, TWO, hostile)))
    assert not Path("/tmp/repro-outside").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        (member("folder/one", kind=tarfile.SYMTYPE, link="/etc/passwd"), "folder/one is no plain file"),
        (member("folder/one", kind=tarfile.LNKTYPE, link="folder/two"), "folder/one is no plain file"),
        (member("folder/one", kind=tarfile.CHRTYPE), "folder/one is no plain file"),
        (member("folder/one", kind=tarfile.FIFOTYPE), "folder/one is no plain file"),
        (member("folder/one", kind=tarfile.DIRTYPE), "folder/one is no plain file"),
        (member("folder/one", kind=tarfile.CONTTYPE), "folder/one is no plain file"),
        (member("folder/one", b"four"), "folder/one has 4 bytes, the published file has 5"),
        (member("folder/one", b"sixsix"), "folder/one has 6 bytes, the published file has 5"),
        (member("folder/two", b"second"), "folder/two is there twice"),
    ],
)
def test_a_wanted_member_must_be_a_plain_file_of_its_size(hostile: Member, says: str) -> None:
    """A link, a device, another size or a second one of the name is refused by name, with the remedy."""
    with pytest.raises(ValueError, match=rf"archive.tar.gz: {says}; delete it to download the published one"):
        read(gzip.compress(tar_of(TWO, hostile, ONE)))


def test_a_missing_member_is_named() -> None:
    """What an archive lacks is said."""
    with pytest.raises(ValueError, match=r"archive.tar.gz lacks folder/one; delete it"):
        read(gzip.compress(tar_of(TWO)))


def sparse(name: str, size: int) -> bytes:
    """The header of an old GNU sparse file of one byte that unpacks to `size` zeros, and that byte."""
    header = bytearray(member(name, b"x", tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (size - 1, 1)
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x".ljust(512, b"\0")


@pytest.mark.parametrize("size", [5, 1 << 32])
def test_a_sparse_member_is_refused_unread(size: int) -> None:
    """Holes that unpack to gigabytes, and any sparse file at all, are no published file."""
    content = sparse("folder/one", size) + tar_of(TWO)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:  # the archive is what it says
        first = archive.getmembers()[0]
        assert (True, True, size) == (first.isreg(), first.issparse(), first.size)

    tracemalloc.start()
    with pytest.raises(ValueError, match="folder/one is no plain file"):
        read(gzip.compress(content))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_is_given_up(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than the wanted files, in an unwanted member or in a header that is read whole, ends the reading."""
    monkeypatch.setattr(archives, "_SLACK", 1_000_000)
    bomb = tar_of(member("folder/zeros", bytes(100_000_000), kind), ONE, TWO)
    compressed = gzip.compress(bomb, 1)
    del bomb

    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to far more than the published files"):
        read(compressed)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_damaged_archives_are_named() -> None:
    """Cut anywhere, or with a bit flipped, an archive gives the right bytes or is refused as a ValueError."""
    content = gzip.compress(tar_of(ONE, TWO))
    flipped = [content[:k] + bytes([content[k] ^ 4]) + content[k + 1 :] for k in range(len(content))]
    cut = [content[:k] for k in range(len(content))]
    said = []
    for damaged in cut + flipped:
        try:
            found = read(damaged)
            said.append("" if {name: len(found[name]) for name in WANTED} == WANTED else "wrong")
        except ValueError as error:
            said.append(str(error))

    refused = [message for message in said if message]
    assert len(refused) > 0.8 * len(said)  # names, times and padding may change without harm
    assert all("archive.tar.gz" in message and "delete it to download" in message for message in refused)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", gzip.compress(b"", mtime=0), gzip.compress(b"no tar" * 999, mtime=0), tar_of(ONE, TWO)],
    ids=["nothing", "page", "compressed nothing", "compressed text", "uncompressed"],  # the same in every process
)
def test_what_is_no_archive_is_named(content: bytes) -> None:
    """Nothing, a page, a compressed text and an uncompressed archive."""
    with pytest.raises(ValueError, match=r"archive.tar.gz (is damaged|lacks folder/one, folder/two).*; delete it"):
        read(content)

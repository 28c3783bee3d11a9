"""Reads named files out of a compressed archive; nothing is ever unpacked from one, whatever it holds."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

_SLACK = 10_000_000  # bytes beside the wanted files: headers, and small files that nobody reads


def read_members(archive: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted members of a .tar.gz, in the archive's order, one after the other.

    A member is known by its whole name and must be a plain file of exactly the size that `wanted` gives; this is seen
    before any of it is read. All other members are passed over: no path, link or device of an archive has an effect.

    Raises:
        ValueError: when a wanted member is missing, is there twice, is no plain file or has another size; when the
            archive is damaged, or holds more than the wanted files and a little.
    """
    missing = dict(wanted)
    try:
        with gzip.open(archive) as stream, _open(stream, sum(wanted.values()) + _SLACK) as members:
            for member in members:
                if member.name not in wanted:
                    continue
                _check(member, wanted[member.name], twice=missing.pop(member.name, None) is None)
                file = members.extractfile(member)
                yield member.name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{archive} is damaged ({error}); delete it to download it anew") from error
    except _RefusedError as error:
        raise ValueError(f"{archive}: {error}; delete it to download the published one") from error
    if missing:
        raise ValueError(f"{archive} lacks {', '.join(missing)}; delete it to download it anew")


def _open(stream: gzip.GzipFile, room: int) -> tarfile.TarFile:
    return tarfile.open(fileobj=_Bounded(stream, room), mode="r|")  # type: ignore[call-overload,no-any-return]


class _RefusedError(Exception):
    """What a published archive never has."""


def _check(member: tarfile.TarInfo, size: int, *, twice: bool) -> None:
    if twice:
        raise _RefusedError(f"{member.name} is there twice")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise _RefusedError(f"{member.name} is no plain file")
    if member.size != size:
        raise _RefusedError(f"{member.name} has {member.size} bytes, the published file has {size}")


class _Bounded:
    """Reads from a stream until more than `room` bytes have come: no archive, however small, fills the memory."""

    def __init__(self, stream: gzip.GzipFile, room: int) -> None:
        self._stream, self._room = stream, room

    def read(self, count: int) -> bytes:
        content = self._stream.read(count)
        self._room -= len(content)
        if self._room < 0:
            raise _RefusedError("it unpacks to far more than the published files")
        return content

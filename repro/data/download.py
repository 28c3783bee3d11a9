"""Files from the net: resumed where a connection broke, and under their own name only with the published MD5."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from repro.data.part import Part, md5_of, open_part

TRIES = 5
"""Connections in a row that may bring nothing new before a download is given up."""

_CHUNK = 1 << 18
_PAUSE = 0.5  # seconds before going on; twice as many for each try in a row that brought nothing
_REPORT_EVERY = 5.0  # seconds between two lines about progress
_SILENCE = 60.0  # seconds without a byte after which a connection is taken to be broken
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416
_FOR_NOW = (408, 425, 429, 500, 502, 503, 504)  # what a server may answer now and not in a minute


class _Broken(Exception):
    """A connection ended before the file did."""


@dataclass(frozen=True)
class _Download:
    url: str
    part: Part
    size: int | None  # of the published file

    def say(self, what: str) -> None:
        print(f"{self.part.path.stem}: {what}", flush=True)


def fetch(url: str, path: Path, md5: str, size: int | None = None) -> None:
    """Downloads `url` to `path`, unless it is there, by way of `<path>.part`, which an interrupted download leaves.

    Args:
        url: where the file is.
        path: where it shall be; nothing is ever there but a whole file.
        md5: of the published file.
        size: of the published file in bytes, if known: more than that is never kept.

    Raises:
        ValueError: when the file cannot be had, or what is there or came has another MD5 (what came is deleted).
        OSError: naming the part, when it cannot be written; what has come is kept, and the next call goes on from it.
    """
    if path.exists():
        if (found := md5_of(path)) != md5:
            raise ValueError(f"{path} has MD5 {found}, the published file has {md5}; delete it to download it anew")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_part(path.with_name(f"{path.name}.part")) as part:
        if not len(part) or md5_of(part.path) != md5:  # else an interruption came just before the last step
            _fill(_Download(url, part, size))
        if (found := md5_of(part.path)) != md5:
            part.discard()
            raise ValueError(
                f"{url} gave a file of MD5 {found}, the published one has {md5}; it was deleted: run the same command "
                f"again, or put the published {path.name} into {path.parent}"
            )
        part.become(path)


def _fill(download: _Download) -> None:
    """Completes the part over as many connections as it takes.

    Raises:
        ValueError: when the server refuses, or `TRIES` connections in a row brought nothing new.
    """
    part, farthest, vain = download.part, 0, 0
    while True:
        try:
            _receive(download)
        except _Broken as error:
            if len(part) == download.size:
                return
            vain = 0 if len(part) > farthest else vain + 1
            farthest = max(farthest, len(part))
            if vain == TRIES:
                raise ValueError(
                    f"{download.url} could not be downloaded ({error}; {TRIES} tries in a row brought nothing new); "
                    f"{len(part)} bytes are kept in {part.path}: run the same command again to go on from there"
                ) from error
            pause = _PAUSE * 2**vain
            download.say(f"{error} after {_megabytes(len(part))} MB; going on in {pause:g} s")
            time.sleep(pause)
        else:
            download.say(f"{_megabytes(len(part))} MB are here")
            return


def _receive(download: _Download) -> None:
    """One connection: appends to the part what it lacks, or all of it where the server cannot begin in the middle.

    Raises:
        _Broken: when the connection ended early.
        ValueError: when the server refuses, or offers more than the published file.
    """
    part, size = download.part, download.size
    if size is not None and len(part) > size:
        part.restart()  # it is no part of the published file
    with _open(download) as answer:
        partial = answer.status == _PARTIAL_CONTENT
        other = partial and _first_byte(answer) != len(part)
        if other or not partial:
            part.restart()
        if other:
            raise _Broken("the server sent another part than was asked for")
        length = answer.headers.get("Content-Length", "")
        end = len(part) + int(length) if length.isdecimal() else size
        if end is not None and size is not None and end > size:
            raise ValueError(f"{download.url} offers {end} bytes, the published file has {size}; it was not downloaded")
        _copy(answer, download, end)
    if end is not None and len(part) < end:  # the library takes the end of a connection for the end of the file
        raise _Broken("the connection broke")


def _copy(answer: HTTPResponse, download: _Download, end: int | None) -> None:
    """Appends what comes until the connection ends, or more than the published size is here."""
    part, told = download.part, time.monotonic()
    while chunk := _read(answer):
        part.append(chunk)
        if download.size is not None and len(part) > download.size:
            return
        if time.monotonic() - told >= _REPORT_EVERY:
            told = time.monotonic()
            of = f" of {_megabytes(end)}" if end is not None else ""
            download.say(f"{_megabytes(len(part))}{of} MB")


def _open(download: _Download) -> HTTPResponse:
    here = len(download.part)
    headers = {"Range": f"bytes={here}-"} if here else {}
    try:
        # the addresses are constants of this project
        answer: HTTPResponse = urlopen(Request(download.url, headers=headers), timeout=_SILENCE)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and here:
            download.part.restart()
            return _open(download)
        if error.code in _FOR_NOW:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        raise ValueError(f"{download.url} could not be downloaded (HTTP {error.code} {error.reason})") from error
    except (OSError, HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    return answer


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(_CHUNK)  # what is there, rather than waiting for more
    except (OSError, HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _first_byte(answer: HTTPResponse) -> int | None:
    """Where the part that a server sends begins; None where it does not say."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"

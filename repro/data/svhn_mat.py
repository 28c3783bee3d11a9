"""SVHN's MATLAB files (level 5), read a few thousand images at a time: the variables `X` and `y`, and no others."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

REMEDY = "this is not the published SVHN: delete it and prepare again: python -m repro.cli.prepare"

_IMAGE = (3, 32, 32)
_BYTES = 3 * 32 * 32
_IMAGES_A_PIECE = 1024
_HEADER = 128
_MATRIX, _COMPRESSED, _UINT8 = 14, 15, 2
_STORED_AS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
"""How numbers lie in an element, by its type; MATLAB stores a variable in the smallest type that holds its values."""
_CLASSES = range(6, 16)  # of variables: numbers, from double to uint64
_UINT8_CLASS = 9
_COMPLEX = 0x800
_LONGEST_PART = 256  # bytes of a variable's flags, dimensions or name
_PADDING = 8  # every part begins at a multiple of so many bytes

Take = Callable[[np.ndarray], object]
"""Called with some images, uint8 [n, 3, 32, 32], in the order of the file."""


class _OtherError(Exception):
    """What the published files never have."""


def read_mat(path: Path, count: int, take: Take) -> np.ndarray:
    """Hands the `count` images of a file to `take`, and gives their labels, int64 [count], 0 to 9.

    Beside what `take` keeps, some MB are in memory at any time, compressed file or not. MATLAB numbers by column first:
    the pixels of an image come by channel, then column, then row. The file has digit 0 as label 10.

    Raises:
        ValueError: when the file is damaged or ends early, or holds anything else than `X`, uint8 [32, 32, 3, count],
            and `y`, whole numbers from 1 to 10, [count, 1]; naming it, what is wrong and the remedy. By then `take` may
            have been given images.
    """
    try:
        with path.open("rb") as file:
            return _read(file, count, take)
    except _OtherError as error:
        raise ValueError(f"{path}: {error}; {REMEDY}") from error
    except (zlib.error, struct.error, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error}); {REMEDY}") from error


def _read(file: BinaryIO, count: int, take: Take) -> np.ndarray:
    header = file.read(_HEADER)
    if len(header) < _HEADER or header[124:] != b"\x00\x01IM":
        raise _OtherError("is no MATLAB file of level 5 in little-endian order")
    seen, labels = set(), np.empty(0)
    while tag := file.read(8):
        if len(tag) < 8:
            raise _OtherError("ends in the middle of a variable")
        kind, length = struct.unpack("<II", tag)
        if kind not in (_MATRIX, _COMPRESSED):
            raise _OtherError(f"holds an element of type {kind} where a variable should be")
        element = _Element(file, length, compressed=kind == _COMPRESSED)
        name, dimensions, class_ = _described(element, nested=kind == _COMPRESSED)
        if name not in {"X", "y"} or name in seen:
            raise _OtherError(f"holds a variable {name} {'twice' if name in seen else 'beside X and y'}")
        seen.add(name)
        if name == "X":
            _images(element, dimensions, class_, count, take)
        else:
            labels = _labels(element, dimensions, count)
        element.finish()
    if lacking := {"X", "y"} - seen:
        raise _OtherError(f"lacks the variable {' and '.join(sorted(lacking))}")
    return labels


class _Element:
    """The content of one variable, `length` bytes in the file, inflated where it is compressed; each byte once."""

    def __init__(self, file: BinaryIO, length: int, *, compressed: bool) -> None:
        self._file, self._left = file, length
        self._inflate = zlib.decompressobj() if compressed else None

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self._inflate is None:
            return self._stored(count)
        found = bytearray()
        while len(found) < count:
            data = self._inflate.unconsumed_tail or self._stored(min(1 << 18, self._left))
            piece = self._inflate.decompress(data, count - len(found))
            if not piece and not data:
                raise _OtherError("has a variable that ends early")
            found += piece
        return bytes(found)

    def finish(self) -> None:
        """Sees that nothing follows but padding, and that the checksum is right."""
        if self._inflate is None:
            rest = self._stored(self._left) if self._left < _PADDING else b"more"
        else:
            data, rest = self._inflate.unconsumed_tail, b""
            while (data or self._left) and len(rest) < _PADDING:
                rest += self._inflate.decompress(data or self._stored(min(1 << 18, self._left)), _PADDING - len(rest))
                data = self._inflate.unconsumed_tail
            if len(rest) < _PADDING and (not self._inflate.eof or self._inflate.unused_data):
                raise _OtherError("has a compressed variable without its end")
        if any(rest) or len(rest) >= _PADDING:
            raise _OtherError("has a variable with more in it than its dimensions say")

    def _stored(self, count: int) -> bytes:
        if count > self._left:
            raise _OtherError("has a variable that ends early")
        content = self._file.read(count)
        if len(content) < count:
            raise _OtherError(f"ends early, after {os.fstat(self._file.fileno()).st_size} bytes")
        self._left -= count
        return content


def _described(element: _Element, *, nested: bool) -> tuple[str, list[int], int]:
    """Name, dimensions and class of a variable of numbers; its values come next."""
    if nested and struct.unpack("<II", element.read(8))[0] != _MATRIX:
        raise _OtherError("holds something compressed that is no variable")
    flags, dimensions, name = (_part(element) for _ in range(3))
    class_, is_complex = flags[0], struct.unpack("<I", flags[:4])[0] & _COMPLEX
    text = name.decode("ascii", "replace")
    if is_complex or class_ not in _CLASSES:
        raise _OtherError(f"has a variable {text} that is no array of real numbers")
    return text, np.frombuffer(dimensions, "<i4").tolist(), class_


def _tag(element: _Element) -> tuple[int, int, bytes]:
    """Type and length of the next part, and its content where that is so short that it lies within the tag."""
    tag = element.read(8)
    kind, length = struct.unpack("<II", tag)
    if short := kind >> 16:
        if short > 4:
            raise _OtherError("has a variable with a part of impossible length")
        return kind & 0xFFFF, short, tag[4 : 4 + short]
    return kind, length, b""


def _part(element: _Element) -> bytes:
    """The content of the next part, one of those that come before the values."""
    _, length, within = _tag(element)
    if within:
        return within
    if length > _LONGEST_PART:
        raise _OtherError("has a variable with a part of impossible length")
    return element.read(length + -length % _PADDING)[:length]


def _images(element: _Element, dimensions: list[int], class_: int, count: int, take: Take) -> None:
    kind, length, _ = _tag(element)
    if dimensions != [32, 32, 3, count] or (kind, class_, length) != (_UINT8, _UINT8_CLASS, count * _BYTES):
        raise _OtherError(f"its X is {dimensions} in {length} bytes, not uint8 [32, 32, 3, {count}]")
    for first in range(0, count, _IMAGES_A_PIECE):
        some = min(_IMAGES_A_PIECE, count - first)
        by_column = np.frombuffer(element.read(some * _BYTES), np.uint8).reshape(some, *_IMAGE)
        take(np.ascontiguousarray(by_column.transpose(0, 1, 3, 2)))


def _labels(element: _Element, dimensions: list[int], count: int) -> np.ndarray:
    kind, length, within = _tag(element)
    stored = np.dtype(_STORED_AS.get(kind, "V1"))
    if dimensions != [count, 1] or stored.kind not in "iuf" or length != count * stored.itemsize:
        raise _OtherError(f"its y is {dimensions} in {length} bytes, not {count} whole numbers")
    values = np.frombuffer(within or element.read(length), stored)
    wrong = values[~np.isin(values, np.arange(1, 11))]
    if len(wrong):
        raise _OtherError(f"{len(wrong)} labels of its y are not among 1 to 10, such as {wrong[0]}")
    labels: np.ndarray = values.astype(np.int64) % 10
    return labels

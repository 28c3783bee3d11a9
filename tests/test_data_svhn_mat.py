"""The reader of SVHN's MATLAB files: as SciPy reads them, in little memory, and anything else refused by name."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from repro.data.svhn_mat import read_mat
from tests.svhn_sample import write_mat

from repro.data import svhn_mat

COUNT = 5
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
LABELS = np.array([0, 1, 9, 5, 0])
X, Y = IMAGES.transpose(1, 2, 3, 0), np.array([[10], [1], [9], [5], [10]], np.uint8)


def read(path: Path, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 3, 32, 32] and labels of a whole file."""
    pieces: list[np.ndarray] = []
    labels = read_mat(path, count, pieces.append)
    return np.concatenate(pieces), labels


def refused(path: Path, count: int = COUNT) -> str:
    """Why a file is refused; empty where it is read as it was meant."""
    try:
        images, labels = read(path, count)
    except ValueError as error:
        why = str(error)
        return why if why.startswith(f"{path}: ") and why.endswith(svhn_mat.REMEDY) else "badly said"
    assert np.array_equal(IMAGES.transpose(0, 3, 1, 2), images)
    assert np.array_equal(LABELS, labels)
    return ""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be written."""
    return tmp_path / "train_32x32.mat"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("piece", [1, 2, 1024])
def test_images_and_labels_are_those_that_were_written(
    compressed: bool, piece: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pixel at its channel, row and column, whatever the size of a piece; digit 0 is class 0."""
    monkeypatch.setattr(svhn_mat, "_IMAGES_A_PIECE", piece)
    write_mat(path, IMAGES, LABELS, do_compression=compressed)

    images, labels = read(path)

    assert np.array_equal(IMAGES.transpose(0, 3, 1, 2), images)
    assert (np.uint8, np.int64) == (images.dtype, labels.dtype)
    assert np.array_equal(LABELS, labels)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32,
                                  np.float64])  # fmt: skip
@pytest.mark.parametrize("names", [("X", "y"), ("y", "X")])
def test_labels_may_be_whole_numbers_of_any_type(kind: Any, names: tuple[str, str], path: Path) -> None:
    """And stand before the images."""
    values = {"X": X, "y": Y.astype(kind)}
    scipy.io.savemat(path, {name: values[name] for name in names}, do_compression=True)

    assert "" == refused(path)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"X": IMAGES}, "its X is [5, 32, 32, 3] in 15360 bytes, not uint8 [32, 32, 3, 5]"),
        ({"X": X[..., :4]}, "its X is [32, 32, 3, 4] in 12288 bytes, not uint8 [32, 32, 3, 5]"),
        ({"X": X[:, :31]}, "its X is [32, 31, 3, 5] in 14880 bytes, not"),
        ({"X": X.astype(np.int8)}, "its X is [32, 32, 3, 5] in 15360 bytes, not uint8"),
        ({"X": X.astype(float)}, "its X is [32, 32, 3, 5] in 122880 bytes, not uint8"),
        ({"X": None}, "lacks the variable X"),
        ({"y": None}, "lacks the variable y"),
        ({"X": None, "y": None}, "lacks the variable X and y"),
        ({"y": Y.T}, "its y is [1, 5] in 5 bytes, not 5 whole numbers"),
        ({"y": Y[:-1]}, "its y is [4, 1] in 4 bytes, not 5 whole numbers"),
        ({"y": np.where(Y == 9, 11, Y).astype(np.uint8)}, "1 labels of its y are not among 1 to 10, such as 11"),
        ({"y": Y % 10}, "2 labels of its y are not among 1 to 10, such as 0"),
        ({"y": Y - 0.5}, "5 labels of its y are not among 1 to 10, such as 9.5"),
        ({"y": np.where(Y == 9, np.nan, Y)}, "1 labels of its y are not among 1 to 10, such as nan"),
        ({"y": Y * 1j}, "has a variable y that is no array of real numbers"),
        ({"y": "12345"}, "has a variable y that is no array of real numbers"),
        ({"y": {"a": Y}}, "has a variable y that is no array of real numbers"),
        ({"y": np.array([Y, 1], object)}, "has a variable y that is no array of real numbers"),
        ({"z": Y}, "holds a variable z beside X and y"),
    ],
)
def test_another_content_is_refused_by_what_is_wrong(
    changes: dict[str, Any], says: str, compressed: bool, path: Path
) -> None:
    """File, variable, what it has, what it should have, and the remedy."""
    values = {name: value for name, value in ({"X": X, "y": Y} | changes).items() if value is not None}
    scipy.io.savemat(path, values, do_compression=compressed)

    assert says in refused(path)


def test_a_variable_that_is_there_twice_is_refused(path: Path) -> None:
    """Of two sets of labels none is taken."""
    write_mat(path, IMAGES, LABELS)
    content = path.read_bytes()
    (_, length) = struct.unpack("<II", content[128:136])
    path.write_bytes(content + content[136 + length :])

    assert "holds a variable y twice" in refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", b" " * 124 + b"\x01\x00MI"]
)
def test_other_files_are_refused(content: bytes, path: Path) -> None:
    """Empty ones, later levels, which are HDF5 inside, and another order of bytes."""
    path.write_bytes(content)

    assert "is no MATLAB file of level 5" in refused(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_anywhere_is_refused(compressed: bool, path: Path) -> None:
    """Wherever a file ends early, it is named and nothing but a ValueError comes."""
    write_mat(path, IMAGES, LABELS, do_compression=compressed)
    content = path.read_bytes()
    places = [*range(400), *range(400, len(content) - 200, 101), *range(len(content) - 200, len(content))]

    said = {}
    for end in places:
        path.write_bytes(content[:end])
        said[end] = refused(path)

    assert [] == [end for end, why in said.items() if not why or "badly said" in why]


def test_a_changed_byte_is_refused_or_means_nothing(path: Path) -> None:
    """The published files are compressed, so that pixels and labels have checksums beside the file's MD5."""
    write_mat(path, IMAGES, LABELS)
    content = path.read_bytes()

    for place in [*range(116, 400), *range(400, len(content) - 200, 53), *range(len(content) - 200, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert "badly said" not in refused(path)  # which compares what is read with what was written


def variable(name: bytes, content: bytes, dimensions: tuple[int, ...], declared: int) -> bytes:
    """A compressed uint8 variable that declares another number of bytes than it has."""
    sizes = struct.pack(f"<{len(dimensions)}i", *dimensions)
    parts = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<II", 5, len(sizes)) + sizes + b"\0" * (-len(sizes) % 8)
    parts += struct.pack("<HH", 1, len(name)) + name.ljust(4, b"\0") + struct.pack("<II", 2, declared) + content
    packed = zlib.compress(struct.pack("<II", 14, len(parts)) + parts)
    return struct.pack("<II", 15, len(packed)) + packed


HEADER = b" " * 124 + b"\x00\x01IM"


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (b"\0" * 3072 * COUNT + b"\0" * 3072, "more in it than its dimensions say"),
        (b"\0" * 3072 * COUNT + b"\1", "more in it than its dimensions say"),
        (b"\0" * 100_000_000, "more in it than its dimensions say"),
        (b"\0" * 3072 * (COUNT - 1), "ends early"),
    ],
    ids=["an image more", "a byte more", "100 MB more", "an image less"],
)
def test_a_variable_holds_what_its_dimensions_say(pixels: bytes, says: str, path: Path) -> None:
    """More is refused without being unpacked, less without waiting for it."""
    path.write_bytes(HEADER + variable(b"X", pixels, (32, 32, 3, COUNT), 3072 * COUNT))
    tracemalloc.start()

    assert says in refused(path)

    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_a_file_cannot_ask_for_memory(path: Path) -> None:
    """Dimensions and lengths are compared with the wanted ones before anything of that size is read."""
    path.write_bytes(HEADER + variable(b"X", b"\0" * 64, (32, 32, 3, 2**20), 3072 * 2**20))
    assert "its X is [32, 32, 3, 1048576]" in refused(path)
    path.write_bytes(HEADER + struct.pack("<II", 14, 2**31) + struct.pack("<IIII", 6, 2**31, 0, 0))
    assert "a part of impossible length" in refused(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_some_megabytes_are_in_memory_at_a_time(compressed: bool, path: Path) -> None:
    """Of 25 MB of images no more than a few pieces of 3 MB are held."""
    images = np.random.default_rng(1).integers(0, 256, (8192, 32, 32, 3), np.uint8)
    write_mat(path, images, np.arange(8192) % 10, do_compression=compressed)
    tracemalloc.start()

    read_mat(path, 8192, lambda _: None)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14_000_000  # a piece as read, as bytes, and as rows, beside the last one


def test_errors_have_one_line(path: Path) -> None:
    """So that an entry point can print them."""
    path.write_bytes(HEADER + struct.pack("<II", 15, 4) + b"nono")

    assert re.search("is damaged .Error -3.*incorrect header check", refused(path))
    assert "\n" not in refused(path)

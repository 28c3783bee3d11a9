"""What is read is looked at again after every hash: types, shapes, ranges and class counts, each named."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repro.data.cifar10_batch import parse_batch
from repro.data.content import check_class_counts, check_images, check_labels
from repro.data.held_out import held_out_set
from repro.data.part import md5_of
from repro.data.training import prepare, training_set

from repro.data import Cifar10Data, DigitsData, cifar10, cifar10_batch, cifar10_files, cifar10_held_out, digits
from repro.data.sets import fingerprint

IMAGES = np.zeros((10_000, 3072), np.uint8)
LABELS = [k % 10 for k in range(10_000)]
DELETE = "delete artifacts/data/cifar10 and prepare it again"


def parse(content: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What is made of a batch file that unpickles to `content`."""

    class Unpickled:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def load(self) -> Any:
            """The content."""
            return content

    monkeypatch.setattr(cifar10_batch, "_ArraysOnly", Unpickled)
    return parse_batch(b"", "some/data_batch_1")


def test_a_right_batch_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels in the order of the file, labels as numbers."""
    images = IMAGES.copy()
    images[7, 1024] = 9

    found, labels = parse({b"data": images, b"labels": LABELS, b"filenames": []}, monkeypatch)

    assert (torch.uint8, torch.int64) == (found.dtype, labels.dtype)
    assert [[7, 1, 0, 0]] == found.nonzero().tolist()
    assert labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({b"data": IMAGES[:-1]}, "its images are uint8 [9999, 3072], not uint8 [10000, 3072]"),
        ({b"data": IMAGES[:, :-1]}, "its images are uint8 [10000, 3071], not uint8 [10000, 3072]"),
        ({b"data": IMAGES.reshape(10_000, 3, 1024)}, "its images are uint8 [10000, 3, 1024], not"),
        ({b"data": IMAGES.astype(np.int8)}, "its images are int8 [10000, 3072], not uint8"),
        ({b"data": IMAGES.astype(np.float32)}, "its images are float32 [10000, 3072], not uint8"),
        ({b"data": np.array([None])}, "its images are a ndarray of object, not an array of numbers"),
        ({b"data": b"\0" * 30_720_000}, "its images are a bytes, not an array of numbers"),
        ({b"labels": LABELS[:-1]}, "its labels are int64 [9999], not 10000 whole numbers"),
        ({b"labels": [*LABELS[:-1], 10]}, "1 labels are outside 0 to 9, such as 10"),
        ({b"labels": [-1, -2, *LABELS[2:]]}, "2 labels are outside 0 to 9, such as -1"),
        ({b"labels": [*LABELS[:-1], 9.0]}, "its labels are a list of float, int, not a list of whole numbers"),
        ({b"labels": [*LABELS[:-1], True]}, "its labels are a list of bool, int, not a list of whole numbers"),
        ({b"labels": None}, "its labels are a NoneType, not a list of whole numbers"),
        ({b"labels": np.array(LABELS)}, "its labels are a ndarray of int64, not a list of whole numbers"),
    ],
)
def test_a_wrong_batch_is_refused_by_what_is_wrong(
    changes: dict[bytes, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, what it has, what it should have, and the remedy."""
    with pytest.raises(ValueError, match=rf"^some/data_batch_1: {re.escape(says)}.*; .*{DELETE}"):
        parse({b"data": IMAGES, b"labels": LABELS} | changes, monkeypatch)


@pytest.mark.parametrize("content", [{b"data": IMAGES}, {b"labels": LABELS}, [IMAGES, LABELS], 3])
def test_a_batch_without_its_entries_is_refused(content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than a KeyError."""
    with pytest.raises(ValueError, match=rf"some/data_batch_1: has no entries data and labels; .*{DELETE}"):
        parse(content, monkeypatch)


def test_class_counts_name_every_wrong_class() -> None:
    """How many there are and should be."""
    labels = torch.tensor([0, 0, 1, 2, 2])

    check_class_counts(labels, [2, 1, 2], "here", "mend it")
    with pytest.raises(ValueError, match="here: has 2 of class 0 instead of 1, 1 of class 1 instead of 2; mend it"):
        check_class_counts(labels, [1, 2, 2], "here", "mend it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_are_whole_numbers(dtype: torch.dtype) -> None:
    """Labels of a type that only looks like numbers are refused; any integers pass."""
    with pytest.raises(ValueError, match=r"here: its labels are .* \[2\], not 2 whole numbers; mend it"):
        check_labels(torch.tensor([0, 1]).to(dtype), 2, 10, "here", "mend it")
    check_labels(torch.tensor([0, 1], dtype=torch.uint8), 2, 10, "here", "mend it")
    check_images(torch.zeros(2, 3, dtype=torch.uint8), (2, 3), "here", "mend it")


@pytest.mark.parametrize("wrong", [0, 1])
def test_training_labels_are_counted_over_all_files(
    wrong: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single file may have any number of a class, as the published ones do; all five together may not."""
    labels = torch.arange(50_000) // 5000
    labels[:wrong] = 7
    files = iter(labels.split(10_000))
    monkeypatch.setattr(cifar10, "read_batch", lambda _: (torch.zeros(1, dtype=torch.uint8), next(files)))
    cifar10._load.cache_clear()

    if wrong:
        message = rf"training files of .* has 4999 of class 0 instead of 5000, 5001 of class 7 .*{DELETE}"
        with pytest.raises(ValueError, match=message):
            cifar10.load(tmp_path)
    else:
        assert torch.equal(labels, cifar10.load(tmp_path)[1])
    cifar10._load.cache_clear()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_one_changed_label_of_cifar10_is_seen_without_md5s(
    name: str, cifar10_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published file with one label changed, declared to be the published one, fails by its class counts."""
    folder = tmp_path / cifar10_files.FOLDER
    folder.mkdir(parents=True)
    for source in (cifar10_prepared / cifar10_files.FOLDER).iterdir():
        (folder / source.name).symlink_to(source)
    content = bytearray((folder / name).read_bytes())
    first = content.index(b"labels") + content[content.index(b"labels") :].index(b"K") + 1  # K: a number of one byte
    old, new = content[first], (content[first] + 1) % 10
    content[first] = new
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cifar10_files.MD5, name, md5_of(folder / name))
    each = 1000 if name == "test_batch" else 5000
    wrong = sorted([(old, each - 1), (new, each + 1)])

    says = ", ".join(f"{count} of class {k} instead of {each}" for k, count in wrong)
    with pytest.raises(ValueError, match=rf"has {says}; .*{DELETE}"):
        held_out_set(Cifar10Data(), 0) if name == "test_batch" else training_set(Cifar10Data(), 0)
    cifar10._load.cache_clear()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """The digits' file as `prepare` leaves it."""
    prepare(DigitsData(), tmp_path)
    return tmp_path / "digits.npz"


def refused(path: Path) -> str:
    """Why the file is refused; empty when it is read and right."""
    try:
        assert digits.SHA256 == fingerprint(*digits.load(path))
    except ValueError as error:
        return str(error)
    return ""


def test_a_damaged_digits_file_is_named(prepared: Path) -> None:
    """Cut anywhere, or with a byte changed anywhere: the right digits, or the path and the remedy, nothing else."""
    content = prepared.read_bytes()
    places = [*range(120), *range(120, len(content) - 300, 997), *range(len(content) - 300, len(content))]
    cut = [content[:k] for k in places]
    changed = [content[:k] + bytes([content[k] ^ 0xFF]) + content[k + 1 :] for k in places]
    said = []
    for damaged in cut + changed:
        prepared.write_bytes(damaged)
        said.append(refused(prepared))

    assert all(said[: len(cut)])
    assert all(str(prepared) in why and f"delete {prepared}" in why.replace("delete it", f"delete {prepared}")
               and "prepare again: dvc repro prepare" in why for why in said if why)  # fmt: skip


def saved(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A file of digits."""
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=labels)
    return buffer.getvalue()


RIGHT_IMAGES, RIGHT_LABELS = (tensor.numpy() for tensor in digits._from_scikit_learn())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (saved(RIGHT_IMAGES.astype(np.float32), RIGHT_LABELS), "its images are float32 [1797, 1, 8, 8], not uint8"),
        (saved(RIGHT_IMAGES[:, 0], RIGHT_LABELS), "its images are uint8 [1797, 8, 8], not uint8 [1797, 1, 8, 8]"),
        (saved(RIGHT_IMAGES[:-1], RIGHT_LABELS[:-1]), "its images are uint8 [1796, 1, 8, 8], not"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS[:-1]), "its labels are int64 [1796], not 1797 whole numbers"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS.astype(float)), "its labels are float64 [1797], not 1797 whole numbers"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS + 1), "labels are outside 0 to 9, such as 10"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS - 1), "labels are outside 0 to 9, such as -1"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS.astype(np.int32)), "are not the published ones (hash differs)"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS[::-1]), "are not the published ones (hash differs)"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS.astype(object)), "is damaged (Object arrays cannot be loaded"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS.astype(str)), "is damaged ("),
        (b"", "is damaged (No data left in file"),
        (saved(RIGHT_IMAGES, RIGHT_LABELS)[:-30_000], "is damaged ("),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_wrong_digits_are_refused_by_what_is_wrong(prepared: Path, content: bytes, says: str) -> None:
    """The path, what is wrong, and the remedy."""
    prepared.write_bytes(content)

    why = refused(prepared)

    assert str(prepared) in why
    assert says in why
    assert "prepare again: dvc repro prepare" in why


def test_digits_that_are_no_archive_of_arrays_are_refused(prepared: Path) -> None:
    """A single array, or arrays of other names, are no digits."""
    buffer = io.BytesIO()
    np.save(buffer, RIGHT_IMAGES)
    prepared.write_bytes(buffer.getvalue())
    assert "is damaged" in refused(prepared)

    np.savez(prepared, pictures=RIGHT_IMAGES, labels=RIGHT_LABELS)
    assert "is damaged" in refused(prepared)


def test_other_digits_of_scikit_learn_name_another_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a prepared file it is the installed package that is to be replaced."""
    images, labels = digits._from_scikit_learn()
    monkeypatch.setattr(digits, "_from_scikit_learn", lambda: (images, labels.roll(1)))

    with pytest.raises(ValueError, match=r"from scikit-learn are not .*; install the version of requirements.lock"):
        digits.load(tmp_path / "none.npz")


def test_digits_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prepare that is interrupted leaves no half file, which training would refuse."""

    def failing(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", failing)

    with pytest.raises(KeyboardInterrupt):
        prepare(DigitsData(), tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:-40], "is damaged .hash differs"),
        (lambda text: text[:0], "is damaged .holds other"),
        (lambda text: text[1:] + text[:1], "is damaged .hash differs"),
        (lambda text: b"x" + text, "is damaged .holds other characters than the digits 0 to 9"),
        (lambda text: b"\xff" + text[1:], "is damaged .holds other characters"),
        (lambda text: text + "٣".encode(), "is damaged .holds other characters"),
        (None, "is missing"),
    ],
)
def test_damaged_test_labels_are_refused(
    change: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut, empty, turned, with letters or bytes that are no text, or not there: the path, and how to restore it."""
    path, content = tmp_path / "labels.txt", cifar10_held_out.LABELS_FILE.read_bytes()
    if change:
        path.write_bytes(change(content))
    monkeypatch.setattr(cifar10_held_out, "LABELS_FILE", path)
    cifar10_held_out.shipped_labels.cache_clear()

    with pytest.raises(ValueError, match=rf"labels.txt {says}.*; restore it: git checkout -- .*labels.txt"):
        cifar10_held_out.shipped_labels()


def test_line_breaks_of_the_test_labels_mean_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do a system's own ones."""
    path = tmp_path / "labels.txt"
    path.write_bytes(cifar10_held_out.LABELS_FILE.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(cifar10_held_out, "LABELS_FILE", path)
    cifar10_held_out.shipped_labels.cache_clear()

    assert cifar10_held_out.LABELS_SHA256 == fingerprint(cifar10_held_out.shipped_labels())

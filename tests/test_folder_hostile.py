"""Strangers' inputs, kind by kind: what is taken as meant, and what is refused in one sentence. Nothing is trained."""

from __future__ import annotations

import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repro.__main__ import parsers
from repro.data import FolderData, source_of
from repro.data.layout import role
from repro.fit.command import _data, _options
from repro.fit.saved import _names, read_file
from tests.folders import files_of, listed, picture, pictures

pytestmark = pytest.mark.usefixtures("workplace")


def fitted(*words: str) -> FolderData:
    """The data of `repro fit <words>`, prepared."""
    given = parsers()[1]["fit"].parse_intermixed_args(list(words))
    _options(given)
    data = _data(given, FolderData(image_size=8), {})
    source_of(data).prepare()
    return source_of(data).settled()


def outcome(*words: str) -> str:
    """Classes, training images, labels and test images that fit would take; or its one sentence of an error."""
    try:
        data = fitted(*words)
    except (ValueError, OSError) as error:
        return f"error: {error}"
    tests = len(listed(data, "test").paths) if data.test else 0
    return f"{' '.join(source_of(data).class_names())}: {len(listed(data).paths)}, {data.labels}, {tests}"


# Parts of a data set


TRAIN = ["train", "Training", "TRAIN", "trainset", "01_train", "train2017", "TrainData", "my+train", "seg_train"]
TEST = ["held+out", "Testing", "testset", "02-test", "val", "Validation", "dev", "test_images", "seg_test"]


@pytest.mark.parametrize(("train", "test"), list(zip(TRAIN, TEST, strict=True)))
def test_parts_are_taken_whatever_they_are_called(train: str, test: str, tmp_path: Path) -> None:
    """A folder of training images and one of test images, each with the folders of the classes, and one beside them."""
    images = pictures(tmp_path / "images", f"{train}/a {train}/b {test}/a {test}/b masks")

    assert outcome(str(images)) == "a b: 4, 4, 4"


@pytest.mark.parametrize(("places", "expected"), [
    ("a b test/a test/b", "a b: 4, 4, 4"),
    ("a b val/a val/b", "a b: 4, 4, 4"),
    ("a b Test/A Test/b", "error: data.test = Test: 2 of 4 images lie in no folder"),
    ("a b val/a test/a test/b", "a b: 4, 4, 4"),
    ("train/a train/b val/a test/a test/b", "a b: 4, 4, 4"),
    ("train/a train/b test", "a b: 4, 4, 0"),
    ("train/a train/b extra/a extra/b", "a b: 4, 4, 0"),
    ("train/a train/b unlabeled", "a b: 6, 4, 0"),
    ("train/a train/b train/unlabelled", "a b: 6, 4, 0"),
    ("a b un-labelled", "a b: 6, 4, 0"),
    ("bus car train", "bus car train: 6, 6, 0"),
    ("valid invalid", "invalid valid: 4, 4, 0"),
    ("contest attest", "attest contest: 4, 4, 0"),
    ("cat/2019 cat/2020 dog/2019 dog/2020", "cat dog: 8, 8, 0"),
    ("train/cats/test dog", "error: .* only the class cats"),
    ("a b test", "error: .* holds the folders test, which look like parts"),
    ("a b train test", "error: .* holds the folders test, train, which"),
    ("trainA trainB testA testB", "error: .* which look like parts"),
    ("cats_train cats_test dogs_train dogs_test", "error: .* which look like parts"),
    ("a b extra/a extra/b", "error: .* holds the folders extra, which look like parts"),
    ("cat/dog dog", "cat dog: 4, 4, 0"),
    ("fold1/a fold1/b fold2/a fold2/b", "error: .* which look like parts"),
    ("a/train a/test b/train b/test", "error: .*a holds test, train, parts of a data set; put the classes into"),
    ("a b train/a train/b", "error: .* holds train, a, b, all of which may be meant as training images"),
    ("train/a train/b training/a training/b", "error: .* holds train, training, all of which"),
    ("train/a train/b test1/a test2/a", "error: .* holds test1, test2, all of which .*--test"),
    ("all/train/a all/test/a", "error: .* only the class all"),
    ("", "error: .* there is no image below"),
])  # fmt: skip
def test_a_layout_is_taken_as_meant_or_refused(places: str, expected: str, tmp_path: Path) -> None:
    """Classes beside test images, outside the parts or in folds; parts without classes; what only looks like parts."""
    (tmp_path / "images").mkdir()

    assert re.match(expected, outcome(str(pictures(tmp_path / "images", places))))


def test_folders_that_are_all_alike_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Domains that hold the same classes, each called as nobody knows: said, since they may be classes too."""
    outcome(str(pictures(tmp_path / "images", "amazon/a amazon/b webcam/a webcam/b")))

    assert "NOTE: amazon, webcam are taken for the classes, though all hold folders of the same names: a, b" in (
        capsys.readouterr().out
    )


def test_test_images_that_are_named_settle_the_question(tmp_path: Path) -> None:
    """Where the layout could be meant in several ways, `--test` and `data.train` say which."""
    images = pictures(tmp_path / "images", "train/a train/b test1/a test2/a test2/b")

    assert outcome(str(images), "--test", f"{images}/test2") == "a b: 4, 4, 4"
    given = parsers()[1]["fit"].parse_args([str(images)])
    assert _data(given, FolderData(train="test2"), {"data.train": "test2"}).train == "test2"


@pytest.mark.parametrize("name", ["@eaDir", "#snapshot", "$RECYCLE.BIN", "__MACOSX", "found.000", ".ipynb_checkpoints"])
def test_folders_of_a_system_are_no_classes(name: str, tmp_path: Path) -> None:
    """Neither beside the classes nor in one, nor for predict."""
    images = pictures(tmp_path / "images", "a b")
    pictures(images / name, "x")
    pictures(images / "a" / name, "x")

    assert outcome(str(images)) == "a b: 4, 4, 0"
    assert len(_names([str(images)])) == 4


# Files


def made(path: Path, how: str, **more: Any) -> None:
    """A small picture in some format, whatever its name."""
    picture(12, 10, 7).save(path, how, **more)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_header(path: Path) -> None:
    """A PNG that says it has 50,000 x 50,000 pixels, in a hundred bytes."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def cut(path: Path, how: str) -> None:
    """An image without its last bytes."""
    picture(60, 60, 7).save(path, how)
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    """A PNG with one bit turned."""
    picture(60, 60, 7).save(path)
    bits = bytearray(path.read_bytes())
    bits[len(bits) // 2] ^= 1
    path.write_bytes(bits)


def damaged_exif(path: Path) -> None:
    """A whole image, of whose EXIF nothing can be read."""
    made(path, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nothing that could be read")


def listening(path: Path) -> None:
    """A socket."""
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


def frames(path: Path, how: str) -> None:
    """Three pictures in one file."""
    picture(12, 10, 7).save(path, how, save_all=True, append_images=[picture(12, 10, seed) for seed in (8, 9)])


READ: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(["x.jfif", "x.jpe", "x.JPG", "x", "x.jpg_large", "suffix.png", "x.1"], lambda p: made(p, "JPEG")),
    **dict.fromkeys(["new\nline.png", os.fsdecode(b"caf\xe9.png"), "\x1b[31mred.png", "ünï 名.png", "-rf.png",
                     "%s{0}.png", "a,b;c.png", "x.png.bak", "x.dat"], lambda p: made(p, "PNG")),
    "x.avif": lambda p: made(p, "AVIF"), "x.jp2": lambda p: made(p, "JPEG2000"), "x.ppm": lambda p: made(p, "PPM"),
    "noname.": lambda p: made(p, "WEBP"), "exif.jpg": damaged_exif, "pages.tif": lambda p: frames(p, "TIFF"),
    "animated.gif": lambda p: frames(p, "GIF"),
    "cmyk.jpg": lambda p: picture(12, 10).convert("CMYK").save(p),
    "bits.png": lambda p: picture(12, 10).convert("1").save(p),
    "grey and alpha.png": lambda p: picture(12, 10).convert("LA").save(p),
    "wide.png": lambda p: picture(20_000, 8).save(p),
    "link.png": lambda p: p.symlink_to(p.parent / "0.png"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", READ)
def test_an_unusual_image_is_one(name: str, tmp_path: Path) -> None:
    """By content where the name says nothing; its name may be any; and predict reads what fit read."""
    images = pictures(tmp_path / "images", "a b")
    READ[name](images / "a" / name)
    config = fitted(str(images))
    at = listed(config).paths.tolist().index(os.fsencode(f"a/{name}"))

    assert len(listed(config).paths) == 5
    assert str(images / "a" / name) in _names([str(images)])
    pixels = read_file(images / "a" / name, config, files_of(config).levels)
    assert np.array_equal(files_of(config)[at : at + 1].centre()[0].numpy(), pixels.numpy())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.png": (lambda p: p.touch(), "empty file"),
    "text.jpg": (lambda p: p.write_text("<html>"), "no image of a format"),
    "postscript.png": (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"), "no image"),
    "magic alone.jpg": (lambda p: p.write_bytes(b"\xff\xd8\xff"), ""),
    "magic alone.webp": (lambda p: p.write_bytes(b"RIFF\x10\0\0\0WEBPVP8 "), ""),
    "cut.jpg": (lambda p: cut(p, "JPEG"), "truncated"),
    "cut.png": (lambda p: cut(p, "PNG"), ""),
    "bomb.png": (huge_header, "exceeds limit"),
    "large.png": (lambda p: Image.new("1", (14_000, 14_000)).save(p), "exceeds limit"),
    "flipped.png": (flipped, ""),
    "narrow.png": (lambda p: picture(7, 50).save(p), "7 x 50 pixels, fewer than 8"),
    "nan.tif": (lambda p: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(p), "no finite numbers"),
    "nowhere.png": (lambda p: p.symlink_to("/nowhere/x.png"), "No such file"),
    "itself.png": (lambda p: p.symlink_to(p), "symbolic links"),
    "giant.png": (lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_RDWR), 2**33), "Is larger than 2,147"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_named_with_its_reason(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is left out where few are broken, else an error; never a traceback or a wait."""
    make, reason = BROKEN[name]
    images = pictures(tmp_path / "images", "a b")
    make(images / "a" / name)
    source_of(FolderData(root=str(images), damaged=0.5)).prepare()
    said = capsys.readouterr().out

    assert re.search(rf"damaged: .*/{re.escape(name)}: .*{reason}", said)
    assert "4 images; 4 of them with a label; 1 damaged ones left out" in said
    assert outcome(str(images)).startswith("error: data.damaged = 0.01: 1 of 5 images")
    with pytest.raises(ValueError, match=reason or "."):
        read_file(images / "a" / name, FolderData(), (0.0, 1.0))


PASSED: dict[str, Callable[[Path], object]] = {
    "Thumbs.db": lambda p: p.write_bytes(b"\xd0\xcf\x11\xe0" + bytes(99)), "notes.txt": lambda p: p.write_text("BM"),
    "photo.heic": lambda p: p.write_bytes(b"\0\0\0 ftypheic" + bytes(99)),
    "pipe.png": os.mkfifo, "socket.png": listening, "device.png": lambda p: p.symlink_to("/dev/zero"),
    "linked pipe.jpg": lambda p: (os.mkfifo(p.with_name("pipe")), p.symlink_to(p.with_name("pipe"))),
    "Python.py": lambda p: p.write_text("P6 is a format"),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
def test_what_is_no_image_is_counted(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Documents, films, pipes, sockets and devices are passed over, by fit and by predict, which say so."""
    images = pictures(tmp_path / "images", "a b")
    PASSED[name](images / "a" / name)

    assert outcome(str(images)) == "a b: 4, 4, 0"
    assert re.search(r"passed over: [12] files that are no images", capsys.readouterr().out)
    assert len(_names([str(images)])) == 4
    assert re.search(r"passed over: [12] files that are no images", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["pipe.png", "socket.png", "device.png", "linked pipe.jpg"])
def test_predict_waits_for_no_pipe(name: str, tmp_path: Path) -> None:
    """Named as an image: one sentence, and where it comes as one all the same, its reason."""
    PASSED[name](tmp_path / name)

    with pytest.raises(ValueError, match="is neither a folder nor a file; name the images"):
        _names([str(tmp_path / name)])
    with pytest.raises(ValueError, match="Is a pipe or a device, not a file"):
        read_file(tmp_path / name, FolderData(), None)


@pytest.mark.parametrize(("links", "expected"), [
    ({"a/b": "../b", "b/a": "../a"}, "a b: 4, 4, 0"),
    ({"a/root": "/", "b/home": "../../.."}, "a b: 4, 4, 0"),
    ({f"{one}/{number}": f"../{other}" for one, other in ("ab", "ba") for number in range(40)}, "a b: 4, 4, 0"),
    ({"a/x": "y", "a/y": "x"}, "a b: 4, 4, 0"),
    ({"c": "a"}, "error: .* no image lies in c, .*linked to counts once"),
    ({"c": "../store/c"}, "a b c: 6, 6, 0"),
    ({"c": "/nowhere"}, "a b: 4, 4, 0"),
])  # fmt: skip
def test_a_folder_counts_once_however_it_is_linked(links: dict[str, str], expected: str, tmp_path: Path) -> None:
    """Under its own name where it lies below; no circle is gone round, and nothing above is looked at."""
    pictures(tmp_path / "store", "c")
    images = pictures(tmp_path / "images", "a b")
    for name, target in links.items():
        (images / name).symlink_to(target)

    assert re.match(expected, outcome(str(images)))


@pytest.mark.parametrize("name", ["empty", "nested/deep", "texts", "hidden"])
def test_a_class_without_an_image_is_an_error(name: str, tmp_path: Path) -> None:
    """An empty folder, or one with other files alone, is named: a class would vanish."""
    images = pictures(tmp_path / "images", "a b")
    (images / name).mkdir(parents=True)
    files = {"texts": "x.txt", "hidden": ".x.png"}
    (images / name / files[name]).write_text("x") if name in files else None

    assert re.match(rf"error: .* no image lies in {name.partition('/')[0]}, below", outcome(str(images)))


def test_the_same_bytes_in_two_classes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the one is a link; the same bytes twice in one class, or without a class, are no contradiction."""
    images = pictures(tmp_path / "images", "a b unlabelled")
    content = (images / "a/0.png").read_bytes()
    for name in ("a/again.png", "unlabelled/again.png", "b/same.png"):
        (images / name).write_bytes(content)
    (images / "b/link.png").symlink_to(images / "a/1.png")
    assert outcome(str(images)) == "a b: 10, 7, 0"

    assert "NOTE: 2 images are in two classes, byte for byte: a/1.png and b/link.png, a/0.png and b/same.png" in (
        capsys.readouterr().out
    )


# Tables of labels


MARKS = ["-1", "-1.0", "NaN", "n.a.", "<NA>", "#N/A", "null", "nil", "?", "", "-", "Unlabeled", "no label"]


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_for_no_label_is_none(mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said with its count, and its images are unlabelled ones."""
    images = pictures(tmp_path / "images", ".", 6)
    Path("l.csv").write_text(f"path,label\n0.png,cat\n1.png,dog\n2.png,{mark}\n3.png,{mark}\n")

    assert outcome(str(images), "--labelled", "l.csv") == "cat dog: 6, 2, 0"
    assert f"labels are taken for none, by lines: {mark!r} 2; call a class otherwise" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "message"), [
    ("0.png,none\n1.png,mild\n2.png,severe", "1 lines have the label 'none'; is it a class"),
    ("0.png,-1\n1.png,1\n2.png,-1", "2 lines have the label '-1'; is it a class"),
    ("0.png\n1.png,b", r"line 1 is '0\.png'; must be a path and a label"),
    (",a\n1.png,b", "line 1 is"),
    ("0.png,a\n0.png,b", "names the image of line 1"),
    ("x.png,a\n1.png,b", "names none"),
    (f"0.png,{'a' * 200_000}\n1.png,b", "line 1 is no line of a CSV .*field larger"),
    (f"{'a' * 100_000}\n1.png,b", "line 1 is 'aaa.*…; must be"),
    ('"0.png,a\n1.png,b', r"line 2 is .*; must be"),
    ("0.png,a\n1.png,b\n2.png,\x00", ""),
    ("path,label", "names no image"),
    ("0.png,a\n1.png,a", "only the class a"),
])  # fmt: skip
def test_a_doubtful_table_is_one_sentence(rows: str, message: str, tmp_path: Path) -> None:
    """What may be a class is asked about; lines that are none are quoted, not all of a long one."""
    images = pictures(tmp_path / "images", ".", 6)
    Path("l.csv").write_text(rows)
    found = outcome(str(images), "--labelled", "l.csv")

    assert re.match(rf"error: .*({message})", found) or (not message and ": 6, " in found)
    assert len(found) < 1000


def test_a_class_that_a_folder_is_called_is_asked_about(tmp_path: Path) -> None:
    """Images in the folder `null` that the table calls null."""
    images = pictures(tmp_path / "images", "null a b")
    Path("l.csv").write_text("null/0.png,null\na/0.png,a\nb/0.png,b\n")

    assert "1 lines have the label 'null'; is it a class? Then" in outcome(str(images), "--labelled", "l.csv")


def test_a_table_may_name_files_with_line_breaks(tmp_path: Path) -> None:
    """Quoted, as a CSV has them."""
    images = pictures(tmp_path / "images", ".", 2)
    (images / "0.png").rename(images / "new\nline.png")
    Path("l.csv").write_text('path,label\n"new\nline.png",a\n1.png,b\n')

    assert outcome(str(images), "--labelled", "l.csv") == "a b: 2, 2, 0"


@pytest.mark.parametrize("labelled", ["/nowhere.csv", "pipe.csv", "folder.csv", "bytes.csv"])
def test_a_table_that_cannot_be_read_is_one_sentence(labelled: str, tmp_path: Path) -> None:
    """Missing, a pipe, a folder, or no text."""
    os.mkfifo("pipe.csv")
    Path("folder.csv").mkdir()
    Path("bytes.csv").write_bytes(b"\xff\xfe0\0")

    assert outcome(str(pictures(tmp_path / "images", "a b")), "--labelled", labelled).startswith("error: data.labelled")


# Names


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """Settings are kept as text; names of images and classes below it may be what they like."""
    assert "its name is no text in UTF-8" in outcome(os.fsdecode(b"caf\xe9"))
    images = pictures(tmp_path / "new\nline", "b|c")
    pictures(images, os.fsdecode(b"cl\xe9"))
    assert outcome(str(images)).endswith(": 4, 4, 0")


ROLES = {"Train": "training", "test_2": "test", "VAL": "validation", "Unlabeled": "unlabelled", "x_train": "training",
         "testicle": "", "trainer": "", "crash test": "", "valley": "", "training shoes": "", "2": ""}  # fmt: skip


@pytest.mark.parametrize("name", ROLES)
def test_roles_of_names(name: str) -> None:
    """What is a part of a data set by its name, and what only contains such a word."""
    assert role(name) == ROLES[name]

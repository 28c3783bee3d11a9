"""Folders of images are looked through once: what is listed, what is refused, and how it is said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from repro.data import FolderData, images, source_of
from repro.data.folder import listing_path
from repro.data.images import UNKNOWN, Listing
from repro.data.layout import IMAGENET_10PERCENT, shipped_list
from repro.data.sets import PLACE
from tests.entry_points import started
from tests.folders import listed, prepared, write_folder, write_image

pytestmark = pytest.mark.usefixtures("workplace")


def names(listing: Listing) -> list[str]:
    """As texts."""
    return [os.fsdecode(path) for path in listing.paths.tolist()]


def test_a_folder_is_listed_by_path_with_classes_in_alphabetical_order(tmp_path: Path) -> None:
    """Classes are first folders, whatever lies deeper; unlabelled folders and loose images have none."""
    root = write_folder(tmp_path / "images", {"dog": 2, "cat": 3, "unlabelled": 2, "Unlabeled": 1})
    write_image(root / "cat/2019/old day/näme 1.PNG")
    write_image(root / "loose.webp")
    write_image(root / ".hidden.png")
    write_image(root / ".trash/dog.png")
    (root / "notes.txt").write_text("no image")
    config = prepared(root)
    listing = listed(config)

    assert sorted(names(listing)) == names(listing)
    assert {"cat/2019/old day/näme 1.PNG", "loose.webp"} < set(names(listing))
    assert 10 == len(listing.paths)
    assert ["cat", "dog"] == listing.class_names.tolist()
    by_name = dict(zip(names(listing), listing.labels.tolist(), strict=True))
    assert 0 == by_name["cat/2019/old day/näme 1.PNG"]
    assert {UNKNOWN} == {by_name[n] for n in by_name if n.lower().startswith("unlab")} | {by_name["loose.webp"]}
    assert listing.named.tolist() == [label != UNKNOWN for label in listing.labels.tolist()]
    assert (2, 6) == (config.classes, config.labels)


def test_only_ten_damaged_images_are_named_on_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand lines would hide everything else; the file has them all."""
    root = write_folder(tmp_path / "images", {"cat": 6, "dog": 6})
    for number in range(15):
        (root / f"cat/x{number}.jpg").touch()
    config = FolderData(root=str(root))

    with pytest.raises(ValueError, match=r"data\.damaged = 0\.01: 15 of 27 images .* are damaged, listed in .*raise"):
        source_of(config).prepare()
    said = capsys.readouterr().out
    assert 11 == said.count("damaged: ")
    assert "5 more, all listed in" in said
    assert 15 == len(listing_path(config, "train").with_suffix(".damaged.txt").read_text().splitlines())
    assert not listing_path(config, "train").exists()


def test_the_share_of_damaged_images_is_of_all(tmp_path: Path) -> None:
    """One of ten is a tenth, though four alone have a label."""
    root = write_folder(tmp_path / "images", {"cat": 2, "dog": 2, "unlabelled": 6})
    (root / "unlabelled/u0.jpg").write_bytes(b"nothing")

    assert 9 == len(listed(prepared(root, damaged=0.1)).paths)
    with pytest.raises(ValueError, match=r"data\.damaged = 0\.09: 1 of 10 images"):
        prepared(root, damaged=0.09)


def test_a_damaged_test_image_is_refused_however_many_may_be(tmp_path: Path) -> None:
    """An accuracy on the test images that happen to be readable is none."""
    root = write_folder(tmp_path / "images", {"cat": 3, "dog": 3})
    write_folder(root / "test", {"cat": 2, "dog": 1})
    (root / "test/dog/d0.jpg").write_bytes(b"nothing")

    with pytest.raises(ValueError, match=r"1 of 3 test images are damaged: dog/d0\.jpg \(no image"):
        prepared(root, test="test", damaged=1.0)
    assert not list((PLACE / "folder").glob("*-t*.npz"))


def test_what_was_seen_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second prepare opens only files that are new or changed, and gives the same listing."""
    root = write_folder(tmp_path / "images", {"cat": 4, "dog": 4})
    write_image(root / "dog/d0.bmp", seed=1)
    config = prepared(root)
    before = listing_path(config, "train").read_bytes()
    opened: list[str] = []
    look = images.look
    monkeypatch.setattr(images, "look", lambda path: opened.append(path.name) or look(path))
    prepared(root)
    assert [] == opened
    assert before == listing_path(config, "train").read_bytes()
    write_image(root / "dog/d0.bmp", seed=76)  # of the same size
    write_image(root / "dog/d1.jpg", seed=77)
    write_image(root / "cat/new.jpg", seed=78)
    (root / "cat/c0.jpg").unlink()
    prepared(root)
    assert ["d0.bmp", "d1.jpg", "new.jpg"] == sorted(opened)
    assert 9 == len(listed(config).paths)
    next((PLACE / "folder/seen").iterdir()).write_bytes(b"damaged")
    prepared(root)
    assert 12 == len(opened)


def test_a_kill_in_the_middle_leaves_nothing_half_written(tmp_path: Path) -> None:
    """What was looked at so far is kept or not; the same command then makes the same listing."""
    root = write_folder(tmp_path / "images", {"cat": 30, "dog": 30}, "png")
    code = (
        "import sys, time; from pathlib import Path; from repro.data import images, source_of\n"
        "from repro.data import FolderData\n"
        "look = images.look; images._AT_ONCE, images._WRITE_EVERY, images._SAY_EVERY = 2, 0, 0\n"
        "images.look = lambda path: (time.sleep(0.02), look(path))[1]\n"
        "source_of(FolderData(root=sys.argv[1])).prepare()\n"
    )
    for lines in (1, 4):
        with started(tmp_path, "-c", code, str(root), stdout=subprocess.PIPE) as process:
            for _ in range(lines):
                assert "looked at" in process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert not list((PLACE / "folder").glob("*-train.npz"))
    begun = time.monotonic()
    config = prepared(root)

    assert 60 == len(listed(config).paths)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(("lines", "labelled"), [
    (["cat/c1.jpg", "dog/d0.jpg"], ["cat/c1.jpg", "dog/d0.jpg"]),
    (["c1.jpg", "", "d2.jpg", "  d0.jpg "], ["cat/c1.jpg", "dog/d0.jpg", "dog/d2.jpg"]),
    (["./cat/c2.jpg", "dog\\d1.jpg"], ["cat/c2.jpg", "dog/d1.jpg"]),
    (["c0", "d0"], ["cat/c0.jpg", "dog/d0.jpg"]),
    (["train/cat/c0.jpg", "d0.jpg"], ["cat/c0.jpg", "dog/d0.jpg"]),
])  # fmt: skip
def test_a_list_names_the_labelled_images(lines: list[str], labelled: list[str], tmp_path: Path) -> None:
    """By path or by file name, with or without suffix; all others are unlabelled, their classes only recorded."""
    root = write_folder(tmp_path / "images/train", {"cat": 4, "dog": 4}).parent
    (root / "some.txt").write_text("\n".join(lines))
    config = prepared(root, train="train", labelled="some.txt")
    listing = listed(config)

    assert labelled == [name for name, named in zip(names(listing), listing.named, strict=True) if named]
    assert len(labelled) == config.labels
    data = source_of(config).training_set(0)
    assert len(labelled) == len(data.labels)
    assert 8 - len(labelled) == len(data.unlabelled)
    assert {0, 1} == set(data.hidden_labels.tolist())


@pytest.mark.parametrize(("content", "message"), [
    ("", "names no image; write a path in each line"),
    ("cat/c0.jpg\nno.jpg\nd0.jpg\n", r"1 of its 3 lines do not name exactly one image .*line 2, 'no\.jpg', names none"),
    ("same.jpg\nd0.jpg", r"line 1, 'same\.jpg', names 2 images"),
    ("c0.jpg\nd0.jpg\ncat/c0.jpg", r"line 3, 'cat/c0\.jpg', names the image of line 1"),
    ("a\nb\nc\nd\ne", r"5 of its 5 lines .*; and 2 more"),
    ("c0.jpg\nc1.jpg", "names no image of dog; add some, or move these folders to unlabelled"),
    ("c0.jpg\nd0.jpg\nloose.jpg", r"names 1 images that lie in no class folder, such as loose\.jpg"),
    (b"\xff\xfe", "is not a text in UTF-8"),
])  # fmt: skip
def test_a_wrong_list_is_refused(content: str | bytes, message: str, tmp_path: Path) -> None:
    """Every line must name exactly one image: counted, and the first ones quoted."""
    root = write_folder(tmp_path / "images", {"cat": 2, "dog": 2})
    write_image(root / "loose.jpg")
    write_image(root / "cat/same.jpg")
    write_image(root / "dog/same.jpg")
    (root / "some.txt").write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ValueError, match=rf"data\.labelled = some\.txt: .*{message}") as caught:
        prepared(root, labelled="some.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [
    "path,label\ncat/c0.jpg,feline\nd0.jpg,canine\ncat/c1.jpg,canine\n",
    "\ufeffcat/c0.jpg,feline\r\nd0,canine\r\n\r\ncat/c1.jpg,canine",
    *(f"{head}\tlabel\ncat/c0.jpg\tfeline\ndog/d0.jpg\tcanine\nc1.jpg\tcanine" for head in ("Image", "name", "id")),
    'File;Class\n"cat/c0.jpg";feline\ndog/d0.jpg;canine\nc1.jpg; canine',
])  # fmt: skip
def test_a_csv_gives_classes_whatever_the_folders_say(text: str, tmp_path: Path) -> None:
    """Classes are those of the CSV; an image that it does not name has none."""
    root = write_folder(tmp_path / "images", {"cat": 3, "dog": 3})
    (root / "labels.csv").write_text(text, encoding="utf-8")
    config = prepared(root, labelled="labels.csv")
    listing = listed(config)

    assert ["canine", "feline"] == listing.class_names.tolist()
    known = {n: k for n, k in zip(names(listing), listing.labels.tolist(), strict=True) if k != UNKNOWN}
    assert {"cat/c0.jpg": 1, "cat/c1.jpg": 0, "dog/d0.jpg": 0} == known
    assert (2, 3) == (config.classes, config.labels)


def test_with_a_csv_test_folders_are_called_as_its_classes(tmp_path: Path) -> None:
    """A test folder of another name is refused; training folders may be called as they like."""
    root = write_folder(tmp_path / "images", {"a": 2, "b": 2})
    (root / "labels.csv").write_text("a0.jpg,cat\nb0.jpg,dog\n")
    write_folder(root / "test", {"cat": 1, "kangaroo": 2})

    with pytest.raises(ValueError, match=r"2 of 3 images lie in no folder .*kangaroo/k0\.jpg; training has cat, dog"):
        prepared(root, test="test", labelled="labels.csv")


def test_names_of_the_shipped_list_are_matched_by_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ImageNet's own layout, train/<wnid>/<name>; here with two names of two classes."""
    some = [shipped_list()[0], shipped_list()[-1]]
    monkeypatch.setattr("repro.data.layout.shipped_list", lambda: some)
    root = tmp_path / "imagenet"
    for number, name in enumerate([*some, "n01440764_1.JPEG", "n15075141_1.JPEG"]):
        write_image(root / "train" / name.partition("_")[0] / name, seed=number)
    config = prepared(root, train="train", labelled=IMAGENET_10PERCENT, labelled_in_unlabelled=True)

    assert 2 == config.labels
    assert 4 == len(source_of(config).training_set(0).unlabelled)


@pytest.mark.parametrize(("counts", "settings", "message"), [
    ({}, {}, r"data\.root = .*there is no image below"),
    ({"unlabelled": 3}, {}, "no class is found"),
    ({"cat": 2, "dog": 2}, {"train": "nowhere"}, r"data\.train = nowhere: .* is no folder"),
    ({"cat": 2, "dog": 2}, {"test": "nowhere"}, r"data\.test = nowhere: .* is no folder"),
    ({"cat": 2, "dog": 2}, {"test": "."}, "holds the training images too"),
    ({"cat": 2, "dog": 2}, {"labelled": "none.txt"}, r"data\.labelled = none\.txt: .* is no file"),
    ({"cat": 2, "dog": 2}, {"labels": 5}, r"data\.labels = 5: there are only 4 labelled images"),
    ({"cat": 2, "dog": 2}, {"classes": 3}, r"data\.classes = 3: .* has 2"),
])  # fmt: skip
def test_what_no_classifier_can_be_trained_on_is_refused(
    counts: dict[str, int], settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    """One sentence with key, value and remedy."""
    root = write_folder(tmp_path / "images", counts)
    root.mkdir(exist_ok=True)

    with pytest.raises(ValueError, match=message) as caught:
        prepared(root, **settings)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The first mistake that anyone makes."""
    with pytest.raises(ValueError, match=r"data\.root = .*nowhere is no folder; set it"):
        prepared(tmp_path / "nowhere")


def test_a_class_whose_labelled_images_are_all_damaged_is_refused(tmp_path: Path) -> None:
    """No network learns a class that it never sees."""
    root = write_folder(tmp_path / "images", {"cat": 4, "dog": 1})
    (root / "dog/d0.jpg").write_bytes(b"")

    with pytest.raises(ValueError, match="all labelled images of dog are damaged"):
        prepared(root, damaged=0.5)


def test_test_images_that_are_trained_on_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte the same file in both folders is said."""
    root = write_folder(tmp_path / "images", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "images/test", {"cat": 1, "dog": 3})
    prepared(root, test="test")

    assert "NOTE: 3 test images are training images too" in capsys.readouterr().out

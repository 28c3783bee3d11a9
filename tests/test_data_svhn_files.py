"""SVHN's files: where they come from, that only published ones are unpacked, and that the arrays are there whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from repro.data.part import Part, md5_of, open_part
from repro.data.svhn_files import EXTRA, TEST, TRAIN
from repro.data.training import prepare, source, training_set
from tests.svhn_sample import Sample, write_mat

from repro.data import SvhnData, download, svhn_arrays, svhn_files
from tests.file_server import Served, serving

FOLDER = Path("artifacts/data")
PLACED = FOLDER / "svhn"
ARRAYS = PLACED / "training"
SMALL = SvhnData(root="mine", labels=10, train_images=60)
LARGE = SvhnData(root="mine", labels=10, train_images=150)


@pytest.fixture(autouse=True)
def root(svhn_noise: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with stand-ins for the published files in the folder `mine`, and without network."""

    def no_network(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "urlopen", no_network)
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    svhn_noise.stand_in(monkeypatch)
    shutil.copytree(svhn_noise.root, "mine")
    return Path("mine")


def all_names(folder: Path) -> set[str]:
    """What lies in a folder and below, hidden and temporary files included."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


WHOLE = {TEST, "training", "training/images.npy", "training/labels.npy", "training/contents.json"}


def state() -> dict[str, tuple[int, int]]:
    """Which files are there, and when they were written."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in PLACED.rglob("*.*")}


def test_prepare_unpacks_train_and_extra_one_after_the_other(svhn_noise: Sample) -> None:
    """Into one array of images and one of labels, which numpy can read; the test file is linked as it is."""
    prepare(LARGE, FOLDER)

    images, labels = (np.load(ARRAYS / f"{name}.npy") for name in ("images", "labels"))
    assert WHOLE == all_names(PLACED)
    together = np.concatenate([svhn_noise.images[TRAIN], svhn_noise.images[EXTRA]])
    assert np.array_equal(together.transpose(0, 3, 1, 2), images)
    assert labels.tolist() == [*(k % 10 for k in range(60)), *(k % 10 for k in range(90))]
    assert (PLACED / TEST).samefile(Path("mine") / TEST)


def test_extra_is_needed_only_by_who_wants_it(root: Path) -> None:
    """Where `train` is enough, `extra` is neither read nor downloaded; who asks for more then is told what to do."""
    (root / EXTRA).unlink()

    prepare(SMALL, FOLDER)

    assert 60 == len(training_set(SMALL, 0).unlabelled) + 10
    with pytest.raises(ValueError, match=r"training does not hold the published train.* and extra.*; prepare it again"):
        training_set(LARGE, 0)
    with pytest.raises(ValueError, match=r"data.root = mine: SVHN's extra_32x32.mat is not to be had"):
        prepare(LARGE, FOLDER)
    assert source(SMALL) != source(LARGE)


def test_prepare_does_nothing_the_second_time() -> None:
    """What is there stays untouched, also for who wants less of it, and the published files are not needed any more."""
    prepare(LARGE, FOLDER)
    before = state()

    for config in (LARGE, SMALL):
        prepare(config, FOLDER)
    shutil.rmtree("mine")
    prepare(LARGE, FOLDER)

    assert before == state()


def test_more_is_unpacked_when_more_is_wanted() -> None:
    """The arrays of `train` alone are replaced by those of both files."""
    prepare(SMALL, FOLDER)
    prepare(LARGE, FOLDER)

    assert 140 == len(training_set(LARGE, 0).unlabelled)
    assert 50 == len(training_set(SMALL, 0).unlabelled)
    assert WHOLE == all_names(PLACED)


@pytest.mark.parametrize("name", ["training/images.npy", "training/labels.npy", "training/contents.json", TEST])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_prepare_mends_what_was_damaged(name: str, harm: str) -> None:
    """One bit, an early end, or no file at all: the next prepare makes it as it was."""
    prepare(LARGE, FOLDER)
    path, before = PLACED / name, (PLACED / name).read_bytes()
    damaged = {"flipped": before[:-40] + bytes([before[-40] ^ 1]) + before[-39:], "cut": before[:-1]}
    path.unlink()
    if harm in damaged:
        path.write_bytes(damaged[harm])

    prepare(LARGE, FOLDER)

    assert before == path.read_bytes()
    assert WHOLE == all_names(PLACED)


@pytest.mark.parametrize(
    ("name", "harm"),
    [("images.npy", "cut"), ("images.npy", "gone"), ("labels.npy", "flipped"), ("labels.npy", "cut"),
     ("labels.npy", "gone"), ("contents.json", "cut"), ("contents.json", "gone")],
)  # fmt: skip
def test_training_refuses_what_was_damaged(name: str, harm: str) -> None:
    """The folder and the remedy are named; only a changed pixel is left to prepare, which reads all of it."""
    prepare(LARGE, FOLDER)
    content = (ARRAYS / name).read_bytes()
    (ARRAYS / name).unlink()
    if harm != "gone":
        (ARRAYS / name).write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if harm == "flipped" else b""))

    with pytest.raises(ValueError, match=rf"^{ARRAYS} .*; prepare it again: python -m repro.cli.prepare$"):
        training_set(LARGE, 0)


def test_arrays_of_other_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked from files that are not the published ones any more, they are not trained on, and unpacked anew."""
    prepare(LARGE, FOLDER)
    contents = json.loads((ARRAYS / "contents.json").read_text())
    contents["files"][EXTRA] = "0" * 32
    (ARRAYS / "contents.json").write_text(json.dumps(contents))

    with pytest.raises(ValueError, match="does not hold the published"):
        training_set(LARGE, 0)
    assert 50 == len(training_set(SMALL, 0).unlabelled)
    prepare(LARGE, FOLDER)
    assert 140 == len(training_set(LARGE, 0).unlabelled)


@pytest.mark.parametrize("name", [TRAIN, EXTRA, TEST])
def test_a_file_that_is_not_the_published_one_is_refused(name: str, root: Path) -> None:
    """By its MD5, before anything of it is unpacked; it stays, and the remedy is named."""
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    message = rf"data.root = mine: .*mine/{name} has MD5 .*, the published file has {svhn_files.MD5[name]}; delete it"
    with pytest.raises(ValueError, match=message):
        prepare(LARGE, FOLDER)
    assert not ARRAYS.exists()
    assert {TRAIN, EXTRA, TEST} == all_names(root)


def test_a_file_of_the_right_md5_with_another_content_leaves_nothing(
    root: Path, svhn_noise: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look fails at the second file, when the first is unpacked: neither is there then."""
    write_mat(root / EXTRA, svhn_noise.images[EXTRA][:-1], svhn_noise.labels[EXTRA][:-1])
    monkeypatch.setitem(svhn_files.MD5, EXTRA, md5_of(root / EXTRA))
    monkeypatch.setitem(svhn_files.SIZE, EXTRA, (root / EXTRA).stat().st_size)

    with pytest.raises(ValueError, match=r"mine/extra_32x32.mat: its X is .*; this is not the published SVHN"):
        prepare(LARGE, FOLDER)
    assert {TEST} == all_names(PLACED)


def test_a_full_disk_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that do not fit are named; the arrays of before are whole, and the next prepare goes through."""
    prepare(SMALL, FOLDER)
    before, append = state(), Part.append

    def full(part: Part, content: bytes) -> None:
        if len(part) > 3072 * 60:
            raise OSError(errno.ENOSPC, "No space left on device", str(part.path))
        append(part, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "append", full)
        with pytest.raises(OSError, match="No space left") as caught:
            prepare(LARGE, FOLDER)

    assert "images.npy" in str(caught.value.filename)
    assert before == state()
    prepare(LARGE, FOLDER)
    assert WHOLE == all_names(PLACED)


def test_what_a_kill_leaves_is_removed() -> None:
    """Half-written arrays lie under a name of their own, which the next prepare clears up."""
    half = PLACED / ".partly-training/images.npy.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    (PLACED / "training.part").touch()

    prepare(LARGE, FOLDER)

    assert WHOLE == all_names(PLACED)


def test_two_do_not_unpack_into_one_folder() -> None:
    """The second is told to wait, and touches nothing of the first."""
    half = PLACED / ".partly-training/images.npy.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    with (
        open_part(PLACED / "training.part"),
        pytest.raises(ValueError, match="is being written by another process; wait for it"),
    ):
        prepare(LARGE, FOLDER)

    assert b"half" == half.read_bytes()


def test_the_test_file_is_copied_where_it_cannot_be_linked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across disks."""

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)

    prepare(SMALL, FOLDER)

    assert (root / TEST).read_bytes() == (PLACED / TEST).read_bytes()
    assert not (root / TEST).samefile(PLACED / TEST)


def test_preparing_and_training_never_look_into_the_test_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To them it is bytes with an MD5."""
    (root / TEST).write_bytes(b"no MATLAB file")
    monkeypatch.setitem(svhn_files.MD5, TEST, hashlib.md5(b"no MATLAB file", usedforsecurity=False).hexdigest())

    prepare(LARGE, FOLDER)

    assert 140 == len(training_set(LARGE, 0).unlabelled)


def test_files_are_downloaded_to_the_root(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a connection that breaks: the file lies in the root, is unpacked, and what happens is said."""
    content = (root / EXTRA).read_bytes()
    (root / EXTRA).unlink()
    monkeypatch.setattr(download, "urlopen", urlopen)
    monkeypatch.setenv("no_proxy", "*")
    with serving(Served(content, cuts=[200, 5])) as served:
        monkeypatch.setattr(svhn_files, "URL", served.url.rsplit("/", 1)[0])
        prepare(LARGE, FOLDER)

    assert [None, "bytes=200-", "bytes=205-"] == served.asked
    assert content == (root / EXTRA).read_bytes()
    assert WHOLE == all_names(PLACED)
    said = capsys.readouterr().out
    assert "data.root = mine has no extra_32x32.mat; downloading it there" in said
    assert "svhn: unpacking train_32x32.mat and extra_32x32.mat into artifacts/data/svhn/training" in said


def test_without_files_or_network_the_user_is_told_what_to_put_where() -> None:
    """One sentence: which file goes where, or which setting to change."""
    with pytest.raises(ValueError, match=r"could not be downloaded .*Name or service not known") as error:
        prepare(SvhnData(), FOLDER)

    message = str(error.value)
    assert message.startswith(f"data.root = datasets: SVHN's {TEST} is not to be had")
    assert f"put it there, or set data.root to the folder that holds {TRAIN}, {EXTRA}, {TEST}" in message
    assert "\n" not in message


def test_training_without_prepared_files_names_the_remedy() -> None:
    """Training reads artifacts/data only, not data.root."""
    with pytest.raises(ValueError, match=rf"^{ARRAYS} does not hold .*; prepare it again: python -m"):
        training_set(LARGE, 0)


def test_a_home_folder_is_understood(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data.root=~/mine` is a folder in the user's home."""
    monkeypatch.setenv("HOME", str(root.resolve().parent))

    prepare(SvhnData(root="~/mine", train_images=60), FOLDER)

    assert WHOLE == all_names(PLACED)


def test_addresses_and_md5s_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were typed in."""
    from torchvision.datasets import SVHN

    monkeypatch.undo()

    found = [[f"{svhn_files.URL}/{name}", name, svhn_files.MD5[name]] for name in (TRAIN, TEST, EXTRA)]
    assert list(SVHN.split_list.values()) == found


def test_an_image_is_3072_bytes_and_all_of_them_are_known() -> None:
    """The array of `train` and `extra` has 604,388 images."""
    sizes = {TRAIN: 73_257, EXTRA: 531_131}
    with pytest.MonkeyPatch.context() as patch:
        for name, count in sizes.items():
            patch.setitem(svhn_files.IMAGES, name, count)

        assert (604_388, 3, 32, 32) == svhn_arrays._shape(sizes)
    assert SvhnData().train_images == sum(sizes.values())

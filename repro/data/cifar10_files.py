"""CIFAR-10 as published: seven files of known MD5, and how they come here."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from torch import Tensor

from repro.data.archive import read_members
from repro.data.cifar10_batch import parse_batch
from repro.data.download import fetch
from repro.data.part import open_part
from repro.files import link_or_copy, partly, write_whole

BATCHES = "cifar-10-batches-py"
"""The folder that the published archive holds."""

ARCHIVE = "cifar-10-python.tar.gz"

FOLDER = Path("artifacts/data/cifar10") / BATCHES
"""The only place that training and evaluation read from; `prepare` fills it."""

TRAINING = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST = "test_batch"

URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_SIZE = 170_498_071

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""Of every published file, as in torchvision; `URL` and `ARCHIVE_MD5` too, which a test compares."""

SIZE = {
    "data_batch_1": 31_035_704,
    "data_batch_2": 31_035_320,
    "data_batch_3": 31_035_999,
    "data_batch_4": 31_035_696,
    "data_batch_5": 31_035_623,
    "test_batch": 31_035_526,
    "batches.meta": 158,
}
"""Bytes of every published file."""


def place(root: Path, folder: Path) -> None:
    """Puts the published files into `folder`/cifar-10-batches-py, from `root` or, where `root` has none, downloaded.

    Every file is checked before the first is placed. A file is linked where the file system can, else copied, and is
    there whole or not at all; nothing is done for files that are there already.

    Raises:
        ValueError: when files are missing, are not the published ones, or cannot be downloaded.
        OSError: when `folder` cannot be written.
    """
    target, source = folder / BATCHES, root / BATCHES
    wanted = [name for name in MD5 if not _is_published(target / name)]
    if not wanted:
        return
    if not source.is_dir():
        _download(root)
    remedy = f"or delete {source} to download CIFAR-10 anew"
    missing = [name for name in wanted if not (source / name).is_file()]
    if missing:
        raise ValueError(f"data.root = {root}: {source} lacks {', '.join(missing)}; put them there, {remedy}")
    for name in wanted:
        verified(source / name, f"replace it, {remedy}")
    target.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        link_or_copy(source / name, target / name, _verified_again)


def read_batch(path: Path) -> tuple[Tensor, Tensor]:
    """The images of a published file, uint8 [10000, 3, 32, 32], and their labels, int64 [10000].

    Raises:
        ValueError: when the file is missing or not the published one; nothing of it is unpickled then. When it does
            not hold 10,000 images and labels.
    """
    return parse_batch(verified(path, "prepare it again: python -m repro.cli.prepare"), str(path))


def verified(path: Path, remedy: str) -> bytes:
    """The content of a published file.

    Raises:
        ValueError: when it is missing or its MD5 is not the published one.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    content = path.read_bytes()
    _check_md5(content, path.name, str(path), remedy)
    return content


def _verified_again(path: Path) -> bytes:
    return verified(path, "it changed while it was copied; prepare again")


def _is_published(path: Path) -> bool:
    return path.is_file() and _md5(path.read_bytes()) == MD5[path.name]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(root: Path) -> None:
    """Downloads the published archive into `root`, unless it lies there, and writes the seven files beside it.

    The folder appears with all of them or not at all; what a kill leaves of it is removed by the next call.
    """
    if root.name == BATCHES:
        raise ValueError(f"data.root = {root}: wants the folder that holds {BATCHES}; set it to {root.parent}")
    archive = root / ARCHIVE
    if not archive.exists():
        print(f"data.root = {root} has no folder {BATCHES}; downloading CIFAR-10 there (170 MB)", flush=True)
    try:
        fetch(URL, archive, ARCHIVE_MD5, ARCHIVE_SIZE)
    except ValueError as error:
        raise ValueError(
            f"data.root = {root}: has no folder {BATCHES}, and CIFAR-10 is not to be had ({error}); put "
            f"{ARCHIVE} or the folder {BATCHES} with {', '.join(MD5)} there, "
            f"or set data.root to the folder that holds {BATCHES}"
        ) from error
    with open_part(root / f"{BATCHES}.part") as mine:  # two at once would write into one folder
        fresh = partly(root / BATCHES)
        try:
            for member, content in read_members(archive, {f"{BATCHES}/{name}": size for name, size in SIZE.items()}):
                path = fresh / member.removeprefix(f"{BATCHES}/")
                _check_md5(content, path.name, f"{archive}: {member}", f"delete {archive} to download it anew")
                write_whole(path, content)
            fresh.rename(root / BATCHES)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            mine.discard()


def _check_md5(content: bytes, name: str, where: str, remedy: str) -> None:
    found = _md5(content)
    if found != MD5[name]:
        raise ValueError(f"{where} has MD5 {found}, the published file has {MD5[name]}; {remedy}")

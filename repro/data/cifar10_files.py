"""CIFAR-10 as published: seven files of known MD5, how they come here, and how a batch is read from one of them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle  # only what has the published MD5 is unpickled, and only arrays can come out
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.files import write_whole

BATCHES = "cifar-10-batches-py"
"""The folder that the published archive holds."""

FOLDER = Path("artifacts/data/cifar10") / BATCHES
"""The only place that training and evaluation read from; `prepare` fills it."""

TRAINING = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST = "test_batch"

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""Of every published file, as in torchvision."""


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
        _link_or_copy(source / name, target / name)


def read_batch(path: Path) -> tuple[Tensor, Tensor]:
    """The images of a published file, uint8 [10000, 3, 32, 32], and their labels, int64 [10000].

    Raises:
        ValueError: when the file is missing or not the published one; nothing of it is unpickled then.
    """
    content = verified(path, "prepare it again: python -m repro.cli.prepare")
    batch: dict[bytes, Any] = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    return torch.tensor(batch[b"data"]).reshape(-1, 3, 32, 32), torch.tensor(batch[b"labels"])


def verified(path: Path, remedy: str) -> bytes:
    """The content of a published file.

    Raises:
        ValueError: when it is missing or its MD5 is not the published one.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    content = path.read_bytes()
    found = _md5(content)
    if found != MD5[path.name]:
        raise ValueError(f"{path} has MD5 {found}, the published file has {MD5[path.name]}; {remedy}")
    return content


def _is_published(path: Path) -> bool:
    return path.is_file() and _md5(path.read_bytes()) == MD5[path.name]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link, which takes no room; a copy where there can be none, such as on another disk."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # resolved, since a link to a symbolic link is one itself
    except OSError:
        write_whole(target, verified(source, "it changed while it was copied; prepare again"))


def _download(root: Path) -> None:
    """Downloads and unpacks the published archive into `root`; one that lies there already is used."""
    if root.name == BATCHES:
        raise ValueError(f"data.root = {root}: wants the folder that holds {BATCHES}; set it to {root.parent}")
    from torchvision import datasets  # type: ignore[import-untyped]

    archive = datasets.CIFAR10.filename
    print(f"data.root = {root} has no folder {BATCHES}; downloading CIFAR-10 there (170 MB)")
    try:
        datasets.utils.download_and_extract_archive(
            datasets.CIFAR10.url, str(root), filename=archive, md5=datasets.CIFAR10.tgz_md5
        )
    except (OSError, RuntimeError, HTTPException) as error:
        raise ValueError(
            f"data.root = {root}: has no folder {BATCHES}, and CIFAR-10 could not be downloaded ({error}); put "
            f"{archive} or the folder {BATCHES} with {', '.join(MD5)} there, "
            f"or set data.root to the folder that holds {BATCHES}"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    """Builds plain values and numpy arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """One of the three names that the published files ask for."""
        known = {
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": _dtype,
        }
        name = f"{module_name}.{global_name}"
        if name not in known:
            raise pickle.UnpicklingError(f"asks for {name}, which no published file of CIFAR-10 does")
        return known[name]


def _dtype(code: bytes, align: int, copy: int) -> np.dtype[Any]:
    """`numpy.dtype`, which now wants booleans where the files give numbers."""
    return np.dtype(code.decode(), align=bool(align), copy=bool(copy))

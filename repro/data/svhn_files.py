"""SVHN's cropped digits as published: three files of known MD5, and how they come here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from repro.data.download import fetch
from repro.data.part import md5_of
from repro.files import link_or_copy

FOLDER = Path("artifacts/data/svhn")
"""The only place that training and evaluation read from; `prepare` fills it."""

TRAIN, EXTRA, TEST = "train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"

URL = "http://ufldl.stanford.edu/housenumbers"
"""The folder of all three; they are used only with their published MD5, which torchvision has too: a test compares."""

MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    EXTRA: "a93ce644f1a588dc4d68dda5feec44a7",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
}
SIZE = {TRAIN: 182_040_794, EXTRA: 1_329_278_602, TEST: 64_275_384}
"""Bytes."""
IMAGES = {TRAIN: 73_257, EXTRA: 531_131, TEST: 26_032}


def obtain(root: Path, names: Iterable[str]) -> None:
    """Sees that published files lie in `root`, downloading those that are not there.

    Raises:
        ValueError: when one is there and not the published one, or cannot be downloaded.
        OSError: when `root` cannot be written.
    """
    for name in names:
        if not (root / name).exists():
            print(f"data.root = {root} has no {name}; downloading it there ({SIZE[name] / 1e6:.0f} MB)", flush=True)
        try:
            fetch(f"{URL}/{name}", root / name, MD5[name], SIZE[name])
        except ValueError as error:
            raise ValueError(
                f"data.root = {root}: SVHN's {name} is not to be had ({error}); put it there, or set data.root to the "
                f"folder that holds {', '.join(MD5)}"
            ) from error


def place_test(root: Path, folder: Path) -> None:
    """Puts the published test file into `folder` as it is: nothing looks into it before evaluation does.

    A hard link where the file system can, else a copy, there whole or not at all; nothing where it is there already.

    Raises:
        ValueError, OSError: see `obtain`.
    """
    if (folder / TEST).is_file() and md5_of(folder / TEST) == MD5[TEST]:
        return
    obtain(root, [TEST])
    folder.mkdir(parents=True, exist_ok=True)
    link_or_copy(root / TEST, folder / TEST)


def verified(path: Path) -> Path:
    """The same path.

    Raises:
        ValueError: when the file is missing or its MD5 is not the published one.
    """
    remedy = "prepare it again: python -m repro.cli.prepare"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    if (found := md5_of(path)) != MD5[path.name]:
        raise ValueError(f"{path} has MD5 {found}, the published file has {MD5[path.name]}; {remedy}")
    return path

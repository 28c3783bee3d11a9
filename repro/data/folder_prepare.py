"""Looks through a folder of images once, and lists what training and evaluation may read of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from repro.config.data import FolderData
from repro.data.folder_labels import Labelling, labelling
from repro.data.folder_scan import PARTS, SUFFIXES, class_of, image_names
from repro.data.image_check import Seen, look_at_all
from repro.data.listing import PLACE, UNKNOWN, Listing, folder_of, listing_path, write_listing
from repro.files import write_whole

_SHOWN = 10  # damaged images that are named on the screen


def prepare(config: FolderData, _place: Path) -> None:
    """Lists the images of `data.root`: their classes, sides and hashes; damaged ones are named and left out.

    Raises:
        ValueError: when folders or labels are not such that a classifier could be trained, or too much is damaged.
    """
    train, test = _folders(config)
    names = image_names(train, test)
    if not names:
        raise ValueError(f"data.root = {config.root}: there is no image below {train} ({', '.join(sorted(SUFFIXES))}); "
                         "set data.root to the folder with your images")  # fmt: skip
    known = labelling(config, names)
    _refuse_classes(config, known)
    seen = look_at_all(train, names, _kept(train))
    damaged = [name for name in names if seen[name].damage]
    _say_damaged(config, train, damaged, seen)
    if len(damaged) > config.damaged * len(names):
        raise ValueError(
            f"data.damaged = {config.damaged}: {len(damaged)} of {len(names)} images below {train} are damaged, listed "
            f"in {_damaged_list(config)}; mend or remove them, or raise data.damaged to leave them out"
        )
    whole = [number for number, name in enumerate(names) if not seen[name].damage]
    labels = _numbers([known.classes[number] for number in whole], known.names)
    listing = _listing([names[n] for n in whole], seen, labels, [known.named[n] for n in whole], known.names)
    _refuse_too_few(config, listing)
    tested = _test_listing(config, test, known) if test else None
    write_listing(config, "train", listing)
    if tested:
        write_listing(config, "test", tested)
    _say(config, listing, tested, len(damaged))


def _folders(config: FolderData) -> tuple[Path, Path | None]:
    """Of the training and of the test images."""
    root, train = Path(config.root).expanduser(), folder_of(config, "train")
    if not root.is_dir():
        raise ValueError(f"data.root = {config.root}: is no folder; set it to the folder with your images")
    if not train.is_dir():
        raise ValueError(f"data.train = {config.train}: {train} is no folder; set it to that of the training images, "
                         "or to . for all below data.root")  # fmt: skip
    if not config.test:
        return train, None
    test = folder_of(config, "test")
    if not test.is_dir():
        raise ValueError(f"data.test = {config.test}: {test} is no folder; set it to that of the test images, "
                         "or to nothing where there are none")  # fmt: skip
    if test.resolve() == train.resolve() or test.resolve() in train.resolve().parents:
        raise ValueError(f"data.test = {config.test}: {test} holds the training images too; set data.train to another "
                         "folder, beside or around it")  # fmt: skip
    return train, test


def _refuse_classes(config: FolderData, known: Labelling) -> None:
    """Classes that are no classes, or too few."""
    train = folder_of(config, "train")
    if known.names and {name.lower() for name in known.names} <= PARTS and not config.labelled:
        raise ValueError(f"data.train = {config.train}: {train} holds the folders {' and '.join(known.names)}, which "
                         "look like parts of a data set, not like classes; set data.train (and data.test) to them"
                         )  # fmt: skip
    if len(known.names) < 2:
        found = f"only the class {known.names[0]}" if known.names else "no class"
        raise ValueError(f"data.root = {config.root}: {found} is found below {train}; put the images of each of two "
                         "classes or more into a folder of its own, or name a CSV with path,label in data.labelled"
                         )  # fmt: skip
    missing = sorted(set(known.names) - {c for c, n in zip(known.classes, known.named, strict=True) if n})
    if missing:
        raise ValueError(f"data.labelled = {config.labelled}: names no image of {_listed(missing)}; add some, or move "
                         "these folders to unlabelled")  # fmt: skip


def _refuse_too_few(config: FolderData, listing: Listing) -> None:
    if len(listing.paths) < 2:
        raise ValueError(f"data.root = {config.root}: only {len(listing.paths)} whole image is there; add some")
    there = set(listing.labels[listing.named].tolist())
    gone = [str(name) for number, name in enumerate(listing.class_names) if number not in there]
    if gone:
        raise ValueError(f"data.root = {config.root}: all labelled images of {_listed(gone)} are damaged, listed in "
                         f"{_damaged_list(config)}; put whole ones there")  # fmt: skip


def _test_listing(config: FolderData, test: Path, known: Labelling) -> Listing:
    """Of the test images, each of which must be whole and of a class that training has."""
    names, where = image_names(test), f"data.test = {config.test}"
    if not names:
        raise ValueError(f"{where}: there is no image below {test}; set it to nothing where there are no test images")
    classes = set(known.names)
    strange = [name for name in names if class_of(name) not in classes]
    if strange:
        raise ValueError(f"{where}: {len(strange)} of {len(names)} images lie in no folder that is called as a class "
                         f"of training, such as {strange[0]}; training has {_listed(known.names)}; move them"
                         )  # fmt: skip
    seen = look_at_all(test, names, _kept(test))
    damaged = [name for name in names if seen[name].damage]
    if damaged:
        named = "; ".join(f"{name} ({seen[name].damage})" for name in damaged[:_SHOWN])
        raise ValueError(f"{where}: {len(damaged)} of {len(names)} test images are damaged: {named}; mend or remove "
                         "them, since an accuracy speaks of all of them")  # fmt: skip
    labels = _numbers([class_of(name) for name in names], known.names)
    return _listing(names, seen, labels, [True] * len(names), known.names)


def _numbers(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    number = {name: k for k, name in enumerate(names)} | {"": UNKNOWN}
    return [number[name] for name in classes]


def _listing(
    names: Sequence[str], seen: Mapping[str, Seen], labels: Sequence[int], named: Sequence[bool], classes: Sequence[str]
) -> Listing:
    return Listing(
        paths=np.array([os.fsencode(name) for name in names], dtype=np.bytes_),
        sides=np.array([seen[name].sides for name in names], dtype=np.int32).reshape(-1, 2),
        digests=np.frombuffer(b"".join(seen[name].digest for name in names), dtype=np.uint8).reshape(-1, 16),
        labels=np.array(labels, dtype=np.int64),
        named=np.array(named, dtype=np.bool_),
        class_names=np.array(classes, dtype=np.str_),
    )


def _say_damaged(config: FolderData, train: Path, damaged: Sequence[str], seen: Mapping[str, Seen]) -> None:
    """Names damaged images on the screen, and all of them in a file beside the listing."""
    path = _damaged_list(config)
    if not damaged:
        path.unlink(missing_ok=True)
        return
    lines = [f"{name}\t{seen[name].damage}\n" for name in damaged]
    write_whole(path, "".join(lines).encode(errors="surrogateescape"))
    for name in damaged[:_SHOWN]:
        print(f"damaged: {_printable(str(train / name))}: {seen[name].damage}", flush=True)
    if len(damaged) > _SHOWN:
        print(f"damaged: {len(damaged) - _SHOWN} more, all listed in {path}", flush=True)


def _say(config: FolderData, listing: Listing, tested: Listing | None, damaged: int) -> None:
    could = int((listing.named & (listing.labels != UNKNOWN)).sum())
    classes = listing.class_names.tolist()
    parts = [f"{len(listing.paths):,} images", f"{could:,} of them with a label",
             f"{len(classes)} classes: {_listed(classes)}"]  # fmt: skip
    parts += [f"{damaged} damaged ones left out"] if damaged else []
    parts += [f"{len(tested.paths):,} test images"] if tested else []
    print(f"{config.root}: {'; '.join(parts)}", flush=True)
    same = sum(map(set(_contents(listing)).__contains__, _contents(tested))) if tested else 0
    if same:
        print(f"NOTE: {same} test images are training images too, byte for byte: accuracy is flattered", flush=True)


def _contents(listing: Listing) -> list[bytes]:
    """The hash of each image's file."""
    return [digest.tobytes() for digest in listing.digests]


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return _printable(", ".join(map(str, names[:most])) + more)


def _printable(text: str) -> str:
    """A name that is no text in UTF-8 can be printed too."""
    return os.fsencode(text).decode(errors="replace")


def _damaged_list(config: FolderData) -> Path:
    return listing_path(config, "train").with_suffix(".damaged.txt")


def _kept(folder: Path) -> Path:
    """Where what was seen of a folder's files is kept."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return PLACE / "seen" / f"{folder.resolve().name}-{key}.npz"

"""Images in files, such as your own, or ImageNet's: what lies in a folder, which are labelled, and their views.

`prepare` looks through the folder once and keeps a listing of each part; training and evaluation read that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.augment import randaugment, views
from repro.augment.views import Part
from repro.data import FolderData, images
from repro.data.images import FLAT, UNKNOWN, ImageFiles, Levels, Listing, Seen, read_listing, write_listing
from repro.data.layout import (
    Labelling,
    beside,
    by_folders,
    class_of,
    folder_of,
    folders,
    labelling,
    listed,
    look_through,
    printable,
    refuse_parts,
    role,
    text_of,
)
from repro.data.sets import PLACE, HeldOutSet, Seeds, Source, TrainingSet
from repro.files import unique_name, write_whole
from repro.seeding import Streams

_SHOWN = 10  # images that are named on the screen


class Folder(Source[FolderData]):
    """Images of any size, in folders that are called as their classes."""

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet (released code)
    shipped = ships_labels = False

    @property
    def classes(self) -> int:
        """As `prepare` counted them."""
        return self.config.classes

    @property
    def key(self) -> tuple[str, ...]:
        """Another folder, part or list of labels is prepared by itself."""
        config = self.config
        return (config.name, config.root, config.train, config.test, config.labelled)

    def prepare(self) -> None:
        """Lists the images of `data.root`: their classes, sides and hashes; damaged ones are named and left out."""
        _prepare(self.config)

    def settled(self) -> FolderData:
        """The settings with the number of classes and of labels that the folder has; others are refused."""
        config, listing = self.config, self._listing()
        classes, labels = len(listing.class_names), int(listing.named.sum())
        if config.classes not in (0, classes):
            raise ValueError(f"data.classes = {config.classes}: {config.root} has {classes}, from "
                             f"{listing.class_names[0]} to {listing.class_names[-1]}; set it to 0 to take what is "
                             "there, or data.root to another folder")  # fmt: skip
        if config.labels > labels:
            raise ValueError(f"data.labels = {config.labels}: there are only {labels} labelled images; lower it, or "
                             "set it to 0 to take all")  # fmt: skip
        return replace(config, classes=classes, labels=config.labels or labels)

    def training_set(self, seeds: int) -> TrainingSet:
        """Labelled and unlabelled images; a subset of `data.labels` depends on the seed."""
        listing = self._listing()
        files, labels = self._files(listing, "train"), torch.from_numpy(listing.labels)
        labelled, rest = self._split(listing, seeds)
        return TrainingSet(files[labelled], labels[labelled], files[rest], labels[rest], labelled, rest)

    def evidence(self, seed: int) -> Sequence[Tensor]:
        """The contents' hashes, the classes, and which images are labelled and unlabelled."""
        listing = self._listing()
        return torch.from_numpy(listing.digests), torch.from_numpy(listing.labels), *self._split(listing, seed)

    def _split(self, listing: Listing, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of labelled and of unlabelled images, int64 [B] and [U], in the order of the listing."""
        chosen, aside = self._chosen(listing, seed)
        everything = torch.from_numpy(np.setdiff1d(np.arange(len(listing.paths)), aside))
        labelled = torch.from_numpy(chosen)
        unlabelled = everything if self.config.labelled_in_unlabelled else everything[~torch.isin(everything, labelled)]
        if not len(unlabelled):  # with nothing else to learn from, the labelled images serve as unlabelled ones too
            unlabelled = everything
        return labelled, unlabelled

    def _chosen(self, listing: Listing, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the labelled images and of those that are set aside, int64, both ascending."""
        chosen, classes = np.flatnonzero(listing.named), len(listing.class_names)
        if 0 < self.config.labels < len(chosen):
            chosen = chosen[drawn_evenly(listing.labels[chosen], classes, self.config.labels, seed)]
        aside = drawn_by_class(listing.labels[chosen], classes, self.config.set_aside, seed)
        return np.delete(chosen, aside), chosen[aside]

    def set_aside_set(self, seed: int) -> HeldOutSet:
        """The labelled images that `data.set_aside` keeps from training, and their labels."""
        listing = self._listing()
        aside = torch.from_numpy(self._chosen(listing, seed)[1])
        return HeldOutSet(self._files(listing, "train")[aside], torch.from_numpy(listing.labels)[aside])

    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """All test images and their labels; none where `data.test` is empty."""
        listing = self._tested()
        return HeldOutSet(self._files(listing, "test"), torch.from_numpy(listing.labels))

    def held_out_evidence(self, seed: int) -> Sequence[Tensor]:
        """The hashes of the files' contents, and the labels."""
        listing = self._tested()
        return torch.from_numpy(listing.digests), torch.from_numpy(listing.labels)

    def class_names(self) -> list[str]:
        """The folders, or the labels of a CSV."""
        return [str(name) for name in self._listing().class_names]

    def _files(self, listing: Listing, part: str) -> ImageFiles:
        return listing.files(folder_of(self.config, part), self.config.image_size, self.config.views)

    def _listing(self, part: str = "train") -> Listing:
        path = listing_path(self.config, part)
        return _read_once(self.config.root, path, path.stat().st_mtime_ns if path.is_file() else 0)

    def _tested(self) -> Listing:
        return self._listing("test") if self.config.test else self._listing().without_images()

    def to_input(self, examples: Tensor) -> Tensor:
        """Normalised by channel."""
        return views.normalise(examples, self.mean, self.deviation)

    def weak(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """Images come cropped; they are flipped."""
        flips = views.draw_flips(part.streams, name, part.step, part.count(examples), self.config.views)
        return torch.where(part.shard.rows(flips)[:, None, None, None], examples.flip(-1), examples)

    def strong(self, examples: Tensor, weak: Tensor, part: Part, name: str) -> Tensor:
        """Starts from the weak view's crop and flips by itself, as in the released code for ImageNet."""
        settings, side, flipped = self.config.views, self.config.image_size, self.weak(examples, part, name)
        layers = views.draw_layers(part.streams, part.step, part.count(examples), settings, name)
        args = randaugment.arguments(settings, settings.cutout_share * side, settings.translate_share * side)
        rows = [layer.rows(part.shard) for layer in layers]
        return views.apply_layers(flipped, rows, args, views.partners(flipped, settings, part))


def drawn_evenly(labels: np.ndarray, classes: int, count: int, seed: int) -> np.ndarray:
    """Positions, in ascending order, of `count` of the labels [N]: as many of each class as can be.

    A class that runs out gives all it has; what is then missing comes from the others.
    """
    order = Streams(seed).permutation("split", 0, len(labels)).numpy()
    taken = np.empty(len(labels), dtype=np.int64)  # of its class, how many come before it
    for label in range(classes):
        mine = np.flatnonzero(labels[order] == label)
        taken[mine] = np.arange(len(mine))
    first = np.lexsort((np.arange(len(order)), taken))[:count]
    return np.sort(order[first])


def drawn_by_class(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Positions, in ascending order, of a share of the labels [N] of each class, rounded; one of each class stays."""
    order = Streams(seed).permutation("set aside", 0, len(labels)).numpy()
    drawn = [mine[: max(0, min(round(share * len(mine)), len(mine) - 1))]
             for mine in (order[labels[order] == label] for label in range(classes))]  # fmt: skip
    return np.sort(np.concatenate(drawn)) if share else order[:0]


def listing_path(config: FolderData, part: str) -> Path:
    """The listing of one part of a folder, "train" or "test"; two roots, or two lists of labels, have two."""
    root = Path(config.root).expanduser().resolve()
    settings = (str(root), config.train, config.test, config.labelled)
    return PLACE / f"folder/{root.name}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:12]}-{part}.npz"


@lru_cache(maxsize=2)
def _read_once(root: str, path: Path, _changed: int) -> Listing:
    """Read once in a process, and again when it has changed: a million names take seconds."""
    return read_listing(root, path)


# Preparing


def _prepare(config: FolderData) -> None:
    train, test = _folders(config)
    table = "" if by_folders(config) else text_of(config, f"data.labelled = {config.labelled}")
    without = [train / name for name in beside(train, by_folders(config)) if f"{name}/" not in table]
    without += [test] if test else []
    names, passed = look_through(train, without)
    loose = _without_class(config, train)
    for place in loose:
        names += [f"{place}/{name}" for name in look_through(train / place)[0] if place.startswith("../")]
    names.sort()
    if loose:
        print(f"{printable(config.root)}: images without a class in {listed(loose)}", flush=True)
    passed += [f"{path.name}, part of a data set" for path in without if not test or not path.samefile(test)]
    if passed:
        print(f"{printable(config.root)}: passed over: {'; '.join(passed)}", flush=True)
    if not names:
        raise ValueError(f"data.root = {config.root}: there is no image below {train}; set data.root to the folder "
                         "with your images")  # fmt: skip
    known = labelling(config, names)
    if by_folders(config):
        _refuse_folders(config, train, names, without)
    _refuse_classes(config, known)
    seen = images.look_at_all(train, names, _kept(train))
    whole, damaged = ([name for name in names if bool(seen[name].damage) is bad] for bad in (False, True))
    path = listing_path(config, "train").with_suffix(".damaged.txt")
    _say_damaged(path, train, damaged, seen)
    if len(damaged) > config.damaged * len(names):
        raise ValueError(
            f"data.damaged = {config.damaged}: {len(damaged)} of {len(names)} images below {train} are damaged, listed "
            f"in {path}; mend or remove them, or raise data.damaged to leave them out"
        )
    if len(whole) < 2:
        raise ValueError(f"data.root = {config.root}: only {len(whole)} whole image is there; add some")
    gone = sorted(set(known.classes) - {known.class_of[name] for name in whole if name in known.named})
    if gone:
        raise ValueError(f"data.root = {config.root}: all labelled images of {listed(gone)} are damaged, listed in "
                         f"{path}; put whole ones there")  # fmt: skip
    levels = images.common_levels([seen[name] for name in whole])
    listing = _listing(whole, seen, known, known.classes, levels)
    tested = _test_listing(config, test, known.classes, levels) if test else None
    write_listing(listing_path(config, "train"), listing)
    if tested:
        write_listing(listing_path(config, "test"), tested)
    _say(config, listing, tested, len(damaged))
    _say_seen([seen[name] for name in whole], levels)


def _without_class(config: FolderData, train: Path) -> list[str]:
    """Folders of images without a class, among the training images, and beside them below the root."""
    within = Path(config.root).expanduser().resolve() in train.resolve().parents and not train.is_symlink()
    places = folders(train) + [f"../{name}" for name in folders(train.parent) if within]
    return [place for place in places if role(place) == "unlabelled"]


def _folders(config: FolderData) -> tuple[Path, Path | None]:
    """Of the training and of the test images."""
    root, train, test = Path(config.root).expanduser(), folder_of(config, "train"), folder_of(config, "test")
    for key, folder, what in (("root", root, ""), ("train", train, "training "), ("test", test, "test ")):
        if not folder.is_dir():
            raise ValueError(
                f"data.{key} = {getattr(config, key)}: {folder} is no folder; set it to that of the {what}images"
            )
    if not config.test:
        return train, None
    if test.resolve() == train.resolve() or test.resolve() in train.resolve().parents:
        raise ValueError(f"data.test = {config.test}: {test} holds the training images too; set data.train to another "
                         "folder, beside or around it")  # fmt: skip
    return train, test


def _refuse_folders(config: FolderData, train: Path, names: Sequence[str], without: Sequence[Path]) -> None:
    """Folders that are no classes, or have no image."""
    refuse_parts(names, f"data.train = {config.train}: {printable(str(train))}")
    there = {name.partition("/")[0] for name in names}
    there |= {name for name in folders(train) for other in without if other.is_relative_to(train / name)}
    empty = [name for name in folders(train) if name not in there and role(name) != "unlabelled"]
    if empty:
        raise ValueError(f"data.root = {config.root}: no image lies in {listed(empty)}, below {train}; put some "
                         "there, or remove such folders; a folder that is linked to counts once")  # fmt: skip


def _refuse_classes(config: FolderData, known: Labelling) -> None:
    """Too few classes, or such as have no label."""
    train, names = folder_of(config, "train"), known.classes
    if len(names) < 2:
        what = f"only the class {printable(names[0])}" if names else "no class"
        raise ValueError(f"data.root = {config.root}: {what} is found below {train}; put the images of each of two "
                         "classes or more into a folder of its own, or name a CSV with path,label in data.labelled"
                         )  # fmt: skip
    missing = sorted(set(names) - {known.class_of[name] for name in known.named})
    if missing:
        raise ValueError(f"data.labelled = {config.labelled}: names no image of {listed(missing)}; add some, or move "
                         "these folders to unlabelled")  # fmt: skip


def _test_listing(config: FolderData, test: Path, classes: Sequence[str], levels: Levels | None) -> Listing:
    """Of the test images, each of which must be whole and of a class that training has."""
    names, where = look_through(test)[0], f"data.test = {config.test}"
    if not names:
        raise ValueError(f"{where}: there is no image below {test}; set it to nothing where there are no test images")
    known, trained = Labelling({name: class_of(name) for name in names}, set(names)), set(classes)
    strange = [name for name in names if known.class_of[name] not in trained]
    if strange:
        raise ValueError(f"{where}: {len(strange)} of {len(names)} images lie in no folder that is called as a class "
                         f"of training, such as {printable(strange[0])}; training has {listed(classes)}; move them"
                         )  # fmt: skip
    seen = images.look_at_all(test, names, _kept(test))
    damaged = [name for name in names if seen[name].damage]
    if damaged:
        named = "; ".join(f"{printable(name)} ({seen[name].damage})" for name in damaged[:_SHOWN])
        raise ValueError(f"{where}: {len(damaged)} of {len(names)} test images are damaged: {named}; mend or remove "
                         "them, since an accuracy speaks of all of them")  # fmt: skip
    if levels is None and any(seen[name].deep for name in names):
        raise ValueError(f"{where}: test images have more than 8 bits, training images have not; convert them alike")
    absent = sorted(trained - set(known.classes))
    if absent:
        print(f"NOTE: there is no test image of {listed(absent)}", flush=True)
    return _listing(names, seen, known, classes, levels)


def _listing(
    names: Sequence[str], seen: Mapping[str, Seen], known: Labelling, classes: Sequence[str], levels: Levels | None
) -> Listing:
    """Of some whole images."""
    number = {label: k for k, label in enumerate(classes)}
    return Listing(
        paths=np.array([os.fsencode(name) for name in names], dtype=np.bytes_),
        sides=np.array([seen[name].sides for name in names], dtype=np.int32).reshape(-1, 2),
        digests=np.frombuffer(bytes.fromhex("".join(seen[name].digest for name in names)), np.uint8).reshape(-1, 16),
        labels=np.array([number.get(known.class_of.get(name, ""), UNKNOWN) for name in names], dtype=np.int64),
        named=np.array([name in known.named for name in names], dtype=np.bool_),
        class_names=np.array(classes, dtype=np.str_),
        levels=np.array(levels or (), dtype=np.float64),
    )


def _say_damaged(path: Path, train: Path, damaged: Sequence[str], seen: Mapping[str, Seen]) -> None:
    """Names damaged images on the screen, and all of them in a file beside the listing."""
    if not damaged:
        path.unlink(missing_ok=True)
        return
    lines = [f"{name}\t{seen[name].damage}\n" for name in damaged]
    write_whole(path, "".join(lines).encode(errors="surrogateescape"))
    for name in damaged[:_SHOWN]:
        print(f"damaged: {printable(str(train / name))}: {seen[name].damage}", flush=True)
    if len(damaged) > _SHOWN:
        print(f"damaged: {len(damaged) - _SHOWN} more, all listed in {path}", flush=True)


def _say(config: FolderData, listing: Listing, tested: Listing | None, damaged: int) -> None:
    could = int(listing.named.sum())
    classes = listing.class_names.tolist()
    parts = [f"{len(listing.paths):,} images", f"{could:,} of them with a label"]
    parts += [f"{damaged} damaged ones left out"] if damaged else []
    parts += [f"{len(tested.paths):,} test images"] if tested else []
    print(f"{printable(config.root)}: {'; '.join(parts)}; {len(classes)} classes: {listed(classes)}", flush=True)
    first: dict[bytes, int] = {}
    twice = []
    for number in np.flatnonzero(listing.named).tolist():
        other = first.setdefault(listing.digests[number].tobytes(), number)
        if listing.labels[other] != listing.labels[number]:
            twice.append(" and ".join(os.fsdecode(listing.paths[n]) for n in (other, number)))
    if twice:
        print(f"NOTE: {len(twice)} images are in two classes, byte for byte: {listed(twice)}", flush=True)
    trained_on = {digest.tobytes() for digest in listing.digests}
    same = sum(digest.tobytes() in trained_on for digest in tested.digests) if tested else 0
    if same:
        print(f"NOTE: {same} test images are training images too, byte for byte: accuracy is flattered", flush=True)


def _say_seen(seen: Sequence[Seen], levels: Levels | None) -> None:
    """What became of transparency and of more than 8 bits, and whether it leaves little."""
    clear, deep = sum(one.clear for one in seen), sum(one.deep for one in seen)
    if clear:
        print(f"{clear:,} images are partly transparent: laid over white, or over black where white would swallow all")
    low, high = levels or (0.0, 255.0)
    if deep:
        print(f"{deep:,} images have more than 8 bits: their levels {low:g} to {high:g} become 0 to 255, in all alike")
    scales = [(one.levels[1] - one.levels[0]) / (high - low or 1 if one.deep else 255) for one in seen]
    flat = sum(256 * share < FLAT for share in scales)
    if flat > len(seen) / 10:
        print(f"NOTE: {flat:,} of {len(seen):,} images are nearly of one colour: fewer than {FLAT} of 256 levels; "
              "where a few bright pixels set the scale, cut them off in the files", flush=True)  # fmt: skip


def _kept(folder: Path) -> Path:
    """Where what was seen of a folder's files is kept."""
    return PLACE / f"folder/seen/{unique_name(folder)}.seen"

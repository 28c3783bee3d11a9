"""Images in files, such as your own, or ImageNet's: what lies in a folder, which are labelled, and their views.

`prepare` looks through the folder once and keeps a listing of each part; training and evaluation read that.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from repro.augment import randaugment, views
from repro.augment.views import Part
from repro.data import FolderData, images
from repro.data.images import SUFFIXES, UNKNOWN, ImageFiles, Listing, Seen, image_names, read_listing, write_listing
from repro.data.sets import PLACE, HeldOutSet, Seeds, Source, TrainingSet
from repro.files import write_whole
from repro.seeding import Streams
from repro.settings import View

WITHOUT_CLASS = frozenset({"unlabelled", "unlabeled"})
"""Folders whose images have no class."""

PARTS = frozenset({"train", "test", "val", "valid", "validation"})
"""Folders that part a data set, and are hardly anybody's classes."""

IMAGENET_10PERCENT = "imagenet_10percent"
LIST = Path(__file__).with_name("imagenet_10percent.txt.xz")
"""The customary 10 % of ImageNet's training images: SimCLR's list (imagenet_subsets/10percent.txt), sorted.

The paper took the first 102 of 1,024 shards of its own copy instead; such a list can be given as a file.
"""
LIST_SHA256 = "8f94aea2e4af6162332c94dc83072908d22d489e35595b3af48c36dfe52e8b8c"

_HEADERS = frozenset({"path", "file", "filename", "file_name", "image", "name", "id"})
_NAMED = 3  # wrong lines that an error quotes
_SHOWN = 10  # damaged images and classes that are named on the screen


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
        """Lists the images of `data.root`: their classes, sides and hashes; damaged ones are named and left out.

        Raises:
            ValueError: when folders or labels are not such that a classifier could be trained, or too much is damaged.
        """
        _prepare(self.config)

    def settled(self) -> FolderData:
        """The settings with the number of classes and of labels that the folder has.

        Raises:
            ValueError: when `data.classes` is another number, or there are fewer labelled images than `data.labels`.
        """
        config, listing = self.config, self._listing()
        classes, labels = len(listing.class_names), int((listing.named & (listing.labels != UNKNOWN)).sum())
        if config.classes not in (0, classes):
            raise ValueError(
                f"data.classes = {config.classes}: {config.root} has {classes}, from {listing.class_names[0]} to "
                f"{listing.class_names[-1]}; set it to 0 to take what is there, or data.root to another folder"
            )
        if config.labels > labels:
            raise ValueError(f"data.labels = {config.labels}: there are only {labels} labelled images; lower it, or "
                             "set it to 0 to take all")  # fmt: skip
        return replace(config, classes=classes, labels=config.labels or labels)

    def _training_set(self, seeds: int) -> TrainingSet:
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
        chosen = np.flatnonzero(listing.named & (listing.labels != UNKNOWN))
        if 0 < self.config.labels < len(chosen):
            classes = len(listing.class_names)
            chosen = chosen[drawn_evenly(listing.labels[chosen], classes, self.config.labels, seed)]
        labelled, everything = torch.from_numpy(chosen), torch.arange(len(listing.paths))
        unlabelled = everything if self.config.labelled_in_unlabelled else everything[~torch.isin(everything, labelled)]
        if not len(unlabelled):  # with nothing else to learn from, the labelled images serve as unlabelled ones too
            unlabelled = everything
        return labelled, unlabelled

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

    def _listing(self) -> Listing:
        path = listing_path(self.config, "train")
        return _read_once(self.config.root, path, path.stat().st_mtime_ns if path.is_file() else 0)

    def _tested(self) -> Listing:
        if self.config.test:
            return read_listing(self.config.root, listing_path(self.config, "test"))
        listing = self._listing()
        nothing = {name: getattr(listing, name)[:0] for name in ("paths", "sides", "digests", "labels", "named")}
        return Listing(**nothing, class_names=listing.class_names)

    def to_input(self, examples: Tensor) -> Tensor:
        """Normalised by channel."""
        return views.normalise(examples, self.mean, self.deviation)

    def read_file(self, path: Path) -> Tensor:
        """The centre square of any image, of unknown sides."""
        config = self.config
        pixels = images.read_image(path, config.image_size, config.views.evaluated_share)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def labelled_view(self, examples: Tensor, part: Part) -> Tensor:
        """Images come cropped; they are flipped."""
        return self.to_input(self._flipped(examples, part, "labelled view"))

    def strong_labelled_view(self, examples: Tensor, part: Part) -> Tensor:
        """Starts from the crop of `labelled_view` alone."""
        return self.to_input(self._distorted(examples, part, "strong labelled view"))

    def unlabelled_views(self, examples: Tensor, wanted: AbstractSet[View], part: Part) -> tuple[Tensor, Tensor]:
        """Both views start from one crop and flip independently, as in the released code for ImageNet."""
        if not wanted:
            return examples, examples
        weak = strong = self._flipped(examples, part, "weak view")
        if View.strong in wanted:
            strong = self._distorted(examples, part, "strong view")
        return self.to_input(weak), self.to_input(strong)

    def _flipped(self, examples: Tensor, part: Part, name: str) -> Tensor:
        flips = views.draw_flips(part.streams, name, part.step, part.count(examples), self.config.views)
        return views.apply_flips(examples, part.shard.rows(flips))

    def _distorted(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """Cropped images, flipped, then RandAugmented."""
        settings, side = self.config.views, self.config.image_size
        flipped = self._flipped(examples, part, name)
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


def folder_of(config: FolderData, part: str) -> Path:
    """The folder of the training images, "train", or of the test images, "test"."""
    return Path(config.root).expanduser() / (config.train if part == "train" else config.test)


def listing_path(config: FolderData, part: str) -> Path:
    """The listing of one part of a folder, "train" or "test"; two roots, or two lists of labels, have two."""
    root = Path(config.root).expanduser().resolve()
    settings = (str(root), config.train, config.test, config.labelled)
    return PLACE / f"folder/{root.name}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:12]}-{part}.npz"


@lru_cache(maxsize=2)
def _read_once(root: str, path: Path, _changed: int) -> Listing:
    """Read once in a process, and again when it has changed: a million names take seconds."""
    return read_listing(root, path)


def class_of(name: str) -> str:
    """The class that an image's folder gives it: the first part of its name; empty where it has none."""
    first, within, _ = name.partition("/")
    return first if within and first.lower() not in WITHOUT_CLASS else ""


# Which images are labelled, and as what


@dataclass(frozen=True)
class Labelling:
    """What is known of N images, in their order."""

    classes: list[str]  # of each image, empty where it is not known
    named: list[bool]  # whether it may be trained on as a labelled one

    @cached_property
    def names(self) -> list[str]:
        """Of all classes, in alphabetical order."""
        return sorted(set(self.classes) - {""})


def labelling(config: FolderData, names: Sequence[str]) -> Labelling:
    """The classes of images, and which are labelled, as `data.labelled` says: by folders, a list of names, or a CSV.

    Args:
        config: the settings.
        names: of the training images, relative to their folder.

    Raises:
        ValueError: when the list is missing or empty, or lines name no image, several, or one twice.
    """
    by_folder = [class_of(name) for name in names]
    if not config.labelled:
        return Labelling(by_folder, [bool(label) for label in by_folder])
    where = f"data.labelled = {config.labelled}"
    if config.labelled.lower().endswith(".csv"):
        return _by_csv(_text(config, where), config, names, where)
    lines = shipped_list() if config.labelled == IMAGENET_10PERCENT else _text(config, where).splitlines()
    listed = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    found = _images(listed, config, names, where)
    unknown = [names[image] for image in found.values() if not by_folder[image]]
    if unknown:
        raise ValueError(f"{where}: names {len(unknown)} images that lie in no class folder, such as {unknown[0]}; "
                         "move them into one, or give a CSV with path,label")  # fmt: skip
    named = set(found.values())
    return Labelling(by_folder, [image in named for image in range(len(names))])


def _by_csv(text: str, config: FolderData, names: Sequence[str], where: str) -> Labelling:
    first = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    rows = {number: row for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), 1) if row}
    if rows and next(iter(rows.values()))[0].strip().lower() in _HEADERS:
        del rows[next(iter(rows))]
    for number, row in rows.items():
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            raise ValueError(f"{where}: line {number} is {delimiter.join(row)!r}; must be a path and a label, with a "
                             "comma between them; mend it")  # fmt: skip
    found = _images({number: row[0].strip() for number, row in rows.items()}, config, names, where)
    label_of = {image: rows[number][1].strip() for number, image in found.items()}
    classes = [label_of.get(image, "") for image in range(len(names))]
    return Labelling(classes, [bool(label) for label in classes])


def _images(listed: Mapping[int, str], config: FolderData, names: Sequence[str], where: str) -> dict[int, int]:
    """For each line, by number, the one image that it names: by path, by its file's name, or by that without suffix."""
    if not listed:
        raise ValueError(f"{where}: names no image; write a path in each line, or set it to nothing to take all")
    by_path = {name: [number] for number, name in enumerate(names)}
    by_file = _grouped(PurePosixPath(name).name for name in names)
    by_stem = _grouped(PurePosixPath(name).stem for name in names)
    prefix = f"{PurePosixPath(config.train)}/"
    found: dict[int, int] = {}
    taken: dict[int, int] = {}
    wrong: list[str] = []
    for number, line in listed.items():
        name = line.replace("\\", "/").removeprefix("./")
        bare = "/" not in name
        fitting = (
            by_path.get(name)
            or by_path.get(name.removeprefix(prefix))
            or (bare and (by_file.get(name) or by_stem.get(name)))
            or []
        )
        if len(fitting) != 1:
            wrong.append(f"line {number}, {line!r}, names {f'{len(fitting)} images' if fitting else 'none'}")
        elif fitting[0] in taken:
            wrong.append(f"line {number}, {line!r}, names the image of line {taken[fitting[0]]}")
        else:
            found[number], taken[fitting[0]] = fitting[0], number
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ValueError(f"{where}: {len(wrong)} of its {len(listed)} lines do not name exactly one image below "
                         f"{folder_of(config, 'train')}: {'; '.join(wrong[:_NAMED])}{more}; mend these lines"
                         )  # fmt: skip
    return found


def _grouped(keys: Iterable[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return groups


def _text(config: FolderData, where: str) -> str:
    path = Path(config.root).expanduser() / config.labelled
    if not path.is_file():
        raise ValueError(f"{where}: {path} is no file; write the labelled images into it, or set it to nothing to take "
                         "the folders as classes")  # fmt: skip
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: {path} is not a text in UTF-8 (byte {error.start}); save it as one") from None


def shipped_list() -> list[str]:
    """The names of the customary 10 % of ImageNet."""
    remedy = f"restore it: git checkout -- {LIST}"
    if not LIST.is_file():
        raise ValueError(f"{LIST} is missing; {remedy}")
    content = LIST.read_bytes()
    if hashlib.sha256(content).hexdigest() != LIST_SHA256:
        raise ValueError(f"{LIST} is damaged (hash differs); {remedy}")
    return lzma.decompress(content).decode().splitlines()


# Preparing


def _prepare(config: FolderData) -> None:
    train, test = _folders(config)
    names = image_names(train, test)
    if not names:
        raise ValueError(f"data.root = {config.root}: there is no image below {train} ({', '.join(sorted(SUFFIXES))}); "
                         "set data.root to the folder with your images")  # fmt: skip
    known = labelling(config, names)
    _refuse_classes(config, known)
    seen = images.look_at_all(train, names, _kept(train))
    damaged = [name for name in names if seen[name].damage]
    listed = listing_path(config, "train").with_suffix(".damaged.txt")
    _say_damaged(listed, train, damaged, seen)
    if len(damaged) > config.damaged * len(names):
        raise ValueError(
            f"data.damaged = {config.damaged}: {len(damaged)} of {len(names)} images below {train} are damaged, listed "
            f"in {listed}; mend or remove them, or raise data.damaged to leave them out"
        )
    whole = [number for number, name in enumerate(names) if not seen[name].damage]
    listing = _listing([names[n] for n in whole], seen, [known.classes[n] for n in whole],
                       [known.named[n] for n in whole], known.names)  # fmt: skip
    if len(whole) < 2:
        raise ValueError(f"data.root = {config.root}: only {len(whole)} whole image is there; add some")
    there = set(listing.labels[listing.named].tolist())
    gone = [name for number, name in enumerate(known.names) if number not in there]
    if gone:
        raise ValueError(f"data.root = {config.root}: all labelled images of {_listed(gone)} are damaged, listed in "
                         f"{listed}; put whole ones there")  # fmt: skip
    tested = _test_listing(config, test, known.names) if test else None
    write_listing(listing_path(config, "train"), listing)
    if tested:
        write_listing(listing_path(config, "test"), tested)
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
    train, names = folder_of(config, "train"), known.names
    if names and {name.lower() for name in names} <= PARTS and not config.labelled:
        raise ValueError(f"data.train = {config.train}: {train} holds the folders {' and '.join(names)}, which "
                         "look like parts of a data set, not like classes; set data.train (and data.test) to them"
                         )  # fmt: skip
    if len(names) < 2:
        found = f"only the class {names[0]}" if names else "no class"
        raise ValueError(f"data.root = {config.root}: {found} is found below {train}; put the images of each of two "
                         "classes or more into a folder of its own, or name a CSV with path,label in data.labelled"
                         )  # fmt: skip
    missing = sorted(set(names) - {c for c, n in zip(known.classes, known.named, strict=True) if n})
    if missing:
        raise ValueError(f"data.labelled = {config.labelled}: names no image of {_listed(missing)}; add some, or move "
                         "these folders to unlabelled")  # fmt: skip


def _test_listing(config: FolderData, test: Path, classes: Sequence[str]) -> Listing:
    """Of the test images, each of which must be whole and of a class that training has."""
    names, where = image_names(test), f"data.test = {config.test}"
    if not names:
        raise ValueError(f"{where}: there is no image below {test}; set it to nothing where there are no test images")
    known = set(classes)
    strange = [name for name in names if class_of(name) not in known]
    if strange:
        raise ValueError(f"{where}: {len(strange)} of {len(names)} images lie in no folder that is called as a class "
                         f"of training, such as {strange[0]}; training has {_listed(classes)}; move them"
                         )  # fmt: skip
    seen = images.look_at_all(test, names, _kept(test))
    damaged = [name for name in names if seen[name].damage]
    if damaged:
        named = "; ".join(f"{name} ({seen[name].damage})" for name in damaged[:_SHOWN])
        raise ValueError(f"{where}: {len(damaged)} of {len(names)} test images are damaged: {named}; mend or remove "
                         "them, since an accuracy speaks of all of them")  # fmt: skip
    return _listing(names, seen, [class_of(name) for name in names], [True] * len(names), classes)


def _listing(
    names: Sequence[str], seen: Mapping[str, Seen], own: Sequence[str], named: Sequence[bool], classes: Sequence[str]
) -> Listing:
    """Of some images with their own classes, empty where they have none."""
    number = {name: k for k, name in enumerate(classes)} | {"": UNKNOWN}
    return Listing(
        paths=np.array([os.fsencode(name) for name in names], dtype=np.bytes_),
        sides=np.array([seen[name].sides for name in names], dtype=np.int32).reshape(-1, 2),
        digests=np.frombuffer(b"".join(seen[name].digest for name in names), dtype=np.uint8).reshape(-1, 16),
        labels=np.array([number[name] for name in own], dtype=np.int64),
        named=np.array(named, dtype=np.bool_),
        class_names=np.array(classes, dtype=np.str_),
    )


def _say_damaged(path: Path, train: Path, damaged: Sequence[str], seen: Mapping[str, Seen]) -> None:
    """Names damaged images on the screen, and all of them in a file beside the listing."""
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
    trained_on = {digest.tobytes() for digest in listing.digests}
    same = sum(digest.tobytes() in trained_on for digest in tested.digests) if tested else 0
    if same:
        print(f"NOTE: {same} test images are training images too, byte for byte: accuracy is flattered", flush=True)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return _printable(", ".join(map(str, names[:_SHOWN])) + more)


def _printable(text: str) -> str:
    """A name that is no text in UTF-8 can be printed too."""
    return os.fsencode(text).decode(errors="replace")


def _kept(folder: Path) -> Path:
    """Where what was seen of a folder's files is kept."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return PLACE / f"folder/seen/{folder.resolve().name}-{key}.npz"

"""Which images of a folder are labelled, and as what: by their folders, by a list of names, or by a CSV."""

from __future__ import annotations

import csv
import hashlib
import lzma
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from repro.config.data import FolderData
from repro.data.folder_scan import class_of

IMAGENET_10PERCENT = "imagenet_10percent"
LIST = Path(__file__).with_name("imagenet_10percent.txt.xz")
"""The customary 10 % of ImageNet's training images: SimCLR's list (imagenet_subsets/10percent.txt), sorted.

The paper took the first 102 of 1,024 shards of its own copy instead; such a list can be given as a file.
"""
LIST_SHA256 = "8f94aea2e4af6162332c94dc83072908d22d489e35595b3af48c36dfe52e8b8c"

_HEADERS = frozenset({"path", "file", "filename", "file_name", "image", "name", "id"})
_NAMED = 3  # wrong lines that an error quotes


@dataclass(frozen=True)
class Labelling:
    """What is known of N images, in their order."""

    classes: list[str]  # of each image, empty where it is not known
    named: list[bool]  # whether it may be trained on as a labelled one
    names: list[str]  # of all classes, in alphabetical order


def labelling(config: FolderData, names: Sequence[str]) -> Labelling:
    """The classes of images, and which are labelled, as `data.labelled` says.

    Args:
        config: the settings.
        names: of the training images, relative to their folder.

    Raises:
        ValueError: when the list is missing or empty, or lines name no image, several, or one twice.
    """
    by_folder = [class_of(name) for name in names]
    if not config.labelled:
        return Labelling(by_folder, [bool(label) for label in by_folder], _sorted(by_folder))
    where = f"data.labelled = {config.labelled}"
    if config.labelled.lower().endswith(".csv"):
        return _by_csv(_text(config, where), config, names, where)
    lines = _shipped() if config.labelled == IMAGENET_10PERCENT else _text(config, where).splitlines()
    listed = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    found = _images(listed, config, names, where)
    unknown = [names[image] for image in found.values() if not by_folder[image]]
    if unknown:
        raise ValueError(f"{where}: names {len(unknown)} images that lie in no class folder, such as {unknown[0]}; "
                         "move them into one, or give a CSV with path,label")  # fmt: skip
    named = set(found.values())
    return Labelling(by_folder, [image in named for image in range(len(names))], _sorted(by_folder))


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
    return Labelling(classes, [bool(label) for label in classes], _sorted(classes))


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
        images = (
            by_path.get(name)
            or by_path.get(name.removeprefix(prefix))
            or (bare and (by_file.get(name) or by_stem.get(name)))
            or []
        )
        if len(images) != 1:
            wrong.append(f"line {number}, {line!r}, names {f'{len(images)} images' if images else 'none'}")
        elif images[0] in taken:
            wrong.append(f"line {number}, {line!r}, names the image of line {taken[images[0]]}")
        else:
            found[number], taken[images[0]] = images[0], number
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        folder = Path(config.root) / config.train
        raise ValueError(f"{where}: {len(wrong)} of its {len(listed)} lines do not name exactly one image below "
                         f"{folder}: {'; '.join(wrong[:_NAMED])}{more}; mend these lines")  # fmt: skip
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


def _shipped() -> list[str]:
    remedy = f"restore it: git checkout -- {LIST}"
    if not LIST.is_file():
        raise ValueError(f"{LIST} is missing; {remedy}")
    content = LIST.read_bytes()
    if hashlib.sha256(content).hexdigest() != LIST_SHA256:
        raise ValueError(f"{LIST} is damaged (hash differs); {remedy}")
    return lzma.decompress(content).decode().splitlines()


def _sorted(classes: Iterable[str]) -> list[str]:
    return sorted(set(classes) - {""})

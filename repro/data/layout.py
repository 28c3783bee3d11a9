"""What lies in a folder and what it means: images, classes, parts of a data set, a list of labels."""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from repro.data import FolderData
from repro.data.images import is_image
from repro.settings import short

IMAGENET_10PERCENT = "imagenet_10percent"
LIST = Path(__file__).with_name("imagenet_10percent.txt.xz")
"""The customary 10 % of ImageNet's training images: SimCLR's list (imagenet_subsets/10percent.txt), sorted.

The paper took the first 102 of 1,024 shards of its own copy instead; such a list can be given as a file.
"""
LIST_SHA256 = "8f94aea2e4af6162332c94dc83072908d22d489e35595b3af48c36dfe52e8b8c"

_SYSTEM = re.compile(r"@(eadir|tmp|recycle|recently-snapshot|sharebin|__thumb)|#(recycle|snapshot)|~snapshot|"
                     r"\$recycle\.bin|__macosx|__pycache__|lost\+found|found\.\d{3}|system volume information|"
                     r"network trash folder|temporary items|msocache", re.IGNORECASE)  # fmt: skip
"""Folders that systems and stores leave among those of people; hidden ones begin with a dot."""

_ROLES = {
    "training": "train|training|trained|trn|trainval",
    "test": "tests?|testing|tst|holdout|heldout",
    "validation": "vals?|valid|validate|validation|dev|devel|development|eval|evaluate|evaluation",
    "unlabelled": "unlabell?ed|unlabel|unannotated|unsup|unsupervised|nolabels?",
}
"""What a folder holds, and how people call it."""
_FILLER = ("the|my|new|old|all|full|final|mini|sub|sets?|data|datasets?|images?|imgs?|pictures?|pics?|photos?|samples?|"
           "examples?|files?|folder|dir|split|part|subset|public|private|stage|fold|phase")  # fmt: skip
_NAMES = "|".join(f"(?P<{role}>{words})" for role, words in _ROLES.items())
_ROLE = re.compile(f"(?:{_FILLER})*(?:{_NAMES})(?:{_FILLER})*")
_FOLD = re.compile(r"(?:fold|split|part|subset|set|batch|cv|shard|group)[\W_]*\d+")

_HEADERS = frozenset({"path", "file", "filename", "file_name", "image", "name", "id"})
_NO_LABEL = re.compile(r"|-1(\.0+)?|<?nan?>?|#?n[./]a\.?|null|nil|\?+|-+", re.IGNORECASE)
"""What tables have in the place of a label that nobody knows."""
_ASKED = frozenset({"none", "unknown", "undefined"})
"""The same, or a class."""
_NAMED = 3  # wrong lines that an error quotes
_SHOWN = 10  # classes and files that are named on the screen


# Folders and files


def look_through(folder: Path, without: Sequence[Path] = ()) -> tuple[list[str], list[str]]:
    """Names of all images below `folder`, relative to it, with / between folders, sorted; and what is passed over.

    Hidden files and folders, those of a system, and `without` are passed over. Links are followed, but each folder
    counts once: under its own path where it has one below `folder`.
    """
    names, others, said, waiting, links = list[str](), Counter[str](), list[str](), [""], list[str]()
    seen = {_identity(path) for path in [*without, *folder.resolve().parents]}
    while waiting or links:
        prefix = waiting.pop() if waiting else links.pop(0)
        here = _identity(folder / prefix)
        if here in seen:
            continue
        seen.add(here)
        with os.scandir(folder / prefix) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                name, path, plain = f"{prefix}{entry.name}", Path(entry), entry.is_file(follow_symlinks=False)
                if not plain and path.is_dir():
                    if _SYSTEM.fullmatch(entry.name):
                        said.append(f"a system's folder {printable(name)}")
                    else:
                        (links if entry.is_symlink() else waiting).append(f"{name}/")
                elif (plain or path.is_file() or (entry.is_symlink() and not path.exists())) and is_image(path):
                    names.append(name)
                else:
                    others[path.suffix.lower()[:12] or "without suffix"] += 1
    if others:
        few = ", ".join(f"{printable(suffix)} {count:,}" for suffix, count in others.most_common(5))
        said.insert(0, f"{others.total():,} files that are no images ({few})")
    return sorted(names), said


def _identity(folder: Path) -> tuple[int, int]:
    return (status := folder.stat()).st_dev, status.st_ino


def folders(place: Path) -> list[str]:
    """Folders in a folder, but for hidden ones and those of a system, in alphabetical order."""
    return sorted(
        path.name for path in place.iterdir()
        if path.name[0] != "." and not _SYSTEM.fullmatch(path.name) and path.is_dir()
    )  # fmt: skip


def printable(text: object) -> str:
    """On one line, and without what is no text."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def listed(names: Sequence[str]) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more


# Parts of a data set


@lru_cache(maxsize=4096)
def role(name: str) -> str:
    """What a folder's name says that it holds: training, test, validation or unlabelled images; empty for a class."""
    match = _ROLE.fullmatch("".join(_words(name)))
    return (match.lastgroup or "") if match else ""


def _words(name: str) -> list[str]:
    words = re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [word for word in words if len(word) > 1]  # without the letter of trainA


def roles(names: Iterable[str]) -> dict[str, str]:
    """The same of folders side by side, where one word tells train from test too, as in seg_train and seg_test."""
    found = {name: role(name) for name in names}
    loose = {name: part or next(filter(None, map(role, _words(name))), "") for name, part in found.items()}
    both = "training" in loose.values() and {"test", "validation"} & set(loose.values())
    return loose if both else found


def class_of(name: str) -> str:
    """The class that an image's folder gives it: the first part of its name; empty where it has none."""
    first, within, _ = name.partition("/")
    return first if within and first != ".." and role(first) != "unlabelled" else ""


def beside(train: Path, by_folder: bool) -> list[str]:
    """Test and validation images among the training images: in folders called as the classes beside them.

    Where a table gives the classes, by their names alone.
    """
    inside = roles(folders(train))
    classes = {name.lower() for name, part in inside.items() if not part}
    tests = [name for name, part in inside.items() if part in {"test", "validation"}]
    return [n for n in tests if not by_folder or classes & {inner.lower() for inner in folders(train / n)}]


def parts_of(root: Path, by_folder: bool, tested: bool) -> tuple[str, str, list[str]]:
    """The folders of training and of test images in a folder of images, and those beside them that are not looked at.

    `root` holds parts of a data set, classes, or classes and test images; what can be meant in several ways is refused.
    `by_folder`: folders are the classes, else a table gives them. `tested`: the test images are named otherwise.
    """
    inside = roles(folders(root))
    holds = {name: {inner.lower() for inner in folders(root / name)} for name in inside if inside[name]}
    trains = [name for name, part in inside.items() if part == "training" and (holds[name] or not by_folder)]
    tests = [name for name in (holds if trains else beside(root, by_folder)) if holds[name]]
    tests = [n for n in tests if inside[n] == "test"] or [n for n in tests if inside[n] == "validation"]
    twice = [name for name in inside if trains and not inside[name] and name.lower() in holds[trains[0]]]
    for what, found, remedy in (("training", trains + twice, "data.train=<folder>; move the others elsewhere"),
                                ("test", [] if tested else tests, "--test <folder>")):  # fmt: skip
        if len(found) > 1:
            raise ValueError(f"{root} holds {listed(found)}, all of which may be meant as {what} images; name those "
                             f"that are: {remedy}")  # fmt: skip
    train, test = trains[0] if trains else ".", tests[0] if tests and not tested else ""
    passed = [name for name, part in inside.items() if name not in {train, test} and part != "unlabelled"]
    return train, test, passed if trains else []


def refuse_parts(names: Sequence[str], where: str) -> None:
    """Refuses parts of a data set among the classes that folders give to images."""
    inner: dict[str, set[str]] = {}
    for name in filter(class_of, names):
        first, *rest = name.split("/")
        inner.setdefault(first, set()).update(rest[:-1][:1])
    found = roles(inner)
    alike = len(inner) > 1 and all(deeper == set.union(*inner.values()) != set() for deeper in inner.values())
    parts = [name for name, deeper in inner.items() if found[name] or len(deeper & (inner.keys() - {name})) > 1
             or (alike and _FOLD.fullmatch(name.lower()))]  # fmt: skip
    vehicle = len(inner) > 1 and [name.lower() for name in parts if not inner[name]] == ["train"] and len(parts) == 1
    if vehicle or {name.lower() for name in inner} == {"valid", "invalid"}:
        print(f"NOTE: {listed(parts)} is taken for a class", flush=True)
    elif parts:
        raise ValueError(f"{where} holds the folders {listed(parts)}, which look like parts of a data set, not like "
                         "classes; set data.train (and data.test) to them, or move them elsewhere; call a class of "
                         "that name otherwise")  # fmt: skip
    elif alike and len(inner[next(iter(inner))]) > 1:
        print(f"NOTE: {listed(sorted(inner))} are taken for the classes, though all hold folders of the same names: "
              f"{listed(sorted(inner[next(iter(inner))]))}", flush=True)  # fmt: skip
    for name, deeper in inner.items():
        split = {part: folder for folder, part in roles(deeper).items()}
        if len(inner) > 1 and "training" in split and {"test", "validation"} & split.keys():
            raise ValueError(f"{where}: {printable(name)} holds {listed(sorted(split.values()))}, parts of a data set; "
                             f"put the classes into them: {split['training']}/{printable(name)}")  # fmt: skip


# Which images are labelled, and as what


@dataclass(frozen=True)
class Labelling:
    """What is known of images, by their names."""

    class_of: dict[str, str]  # those of known class
    named: Collection[str]  # those that may be trained on as labelled ones

    @cached_property
    def classes(self) -> list[str]:
        """All of them, in alphabetical order."""
        return sorted(set(self.class_of.values()))


def by_folders(config: FolderData) -> bool:
    """Whether folders are the classes; else a CSV gives them."""
    return not config.labelled.lower().endswith(".csv")


def folder_of(config: FolderData, part: str) -> Path:
    """The folder of the training images, "train", or of the test images, "test"."""
    return Path(config.root).expanduser() / (config.train if part == "train" else config.test)


def labelling(config: FolderData, names: Sequence[str]) -> Labelling:
    """The classes of training images, and which are labelled: by folders, a list, or a CSV (`data.labelled`)."""
    by_folder = {name: label for name in names if (label := class_of(name))}
    if not config.labelled:
        return Labelling(by_folder, by_folder)
    where = f"data.labelled = {config.labelled}"
    if not by_folders(config):
        by_table = _by_csv(text_of(config, where), config, names, where)
        return Labelling(by_table, by_table)
    lines = shipped_list() if config.labelled == IMAGENET_10PERCENT else text_of(config, where).splitlines()
    listed = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    found = _images(listed, config, names, where)
    unknown = [name for name in found.values() if name not in by_folder]
    if unknown:
        raise ValueError(f"{where}: names {len(unknown)} images that lie in no class folder, such as {unknown[0]}; "
                         "move them into one, or give a CSV with path,label")  # fmt: skip
    return Labelling(by_folder, set(found.values()))


def _by_csv(text: str, config: FolderData, names: Sequence[str], where: str) -> dict[str, str]:
    """The class of each image that a table gives one."""
    first = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = dict((lines.line_num, cells) for row in lines if any(cells := [cell.strip() for cell in row]))  # noqa: C402
    except csv.Error as error:
        raise ValueError(f"{where}: line {lines.line_num} is no line of a CSV ({error}); mend it") from None
    if rows and next(iter(rows.values()))[0].lower() in _HEADERS:
        del rows[next(iter(rows))]
    for number, row in rows.items():
        if len(row) != 2 or not row[0]:
            raise ValueError(f"{where}: line {number} is {short(delimiter.join(row))}; must be a path and a label, "
                             "with a comma between them; mend it")  # fmt: skip
    found = _images({number: row[0] for number, row in rows.items()}, config, names, where)
    marks = _marks(Counter(label for _, label in rows.values()), set(map(class_of, names)), where)
    return {name: rows[number][1] for number, name in found.items() if rows[number][1] not in marks}


def _marks(labels: Mapping[str, int], folders: Collection[str], where: str) -> set[str]:
    """Which of these labels, each with its count, mean that there is none; one that can well be a class is refused."""
    marks = {label for label in labels
             if _NO_LABEL.fullmatch(label) or label.lower() in _ASKED or role(label) == "unlabelled"}  # fmt: skip
    for label in sorted(marks):
        if label and (label.lower() in _ASKED or label in folders or len(labels) - len(marks) < 2):
            raise ValueError(f"{where}: {labels[label]} lines have the label {label!r}; is it a class? Then call it "
                             "otherwise. If it means that there is no label, write unlabelled, or leave out these lines"
                             )  # fmt: skip
    if marks:
        said = ", ".join(f"{label!r} {labels[label]:,}" for label in sorted(marks))
        print(f"NOTE: {where}: these labels are taken for none, by lines: {said}; call a class otherwise", flush=True)
    return marks


def _images(listed: Mapping[int, str], config: FolderData, names: Sequence[str], where: str) -> dict[int, str]:
    """For each line, by number, the one image that it names: by path, by its file's name, or by that without suffix."""
    if not listed:
        raise ValueError(f"{where}: names no image; write a path in each line, or set it to nothing to take all")
    known, by_file, by_stem = set(names), defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name in names:
        by_file[PurePosixPath(name).name].append(name)
        by_stem[PurePosixPath(name).stem].append(name)
    prefix = f"{PurePosixPath(config.train)}/"
    found: dict[int, str] = {}
    taken: dict[str, int] = {}
    wrong: list[str] = []
    for number, line in listed.items():
        path = line.replace("\\", "/").removeprefix("./")
        fitting = [name for name in (path, path.removeprefix(prefix)) if name in known][:1]
        if not fitting and "/" not in path:
            fitting = by_file.get(path) or by_stem.get(path) or []
        if len(fitting) != 1:
            wrong.append(f"line {number}, {short(line)}, names {f'{len(fitting)} images' if fitting else 'none'}")
        elif fitting[0] in taken:
            wrong.append(f"line {number}, {short(line)}, names the image of line {taken[fitting[0]]}")
        else:
            found[number], taken[fitting[0]] = fitting[0], number
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ValueError(f"{where}: {len(wrong)} of its {len(listed)} lines do not name exactly one image below "
                         f"{folder_of(config, 'train')}: {'; '.join(wrong[:_NAMED])}{more}; mend these lines"
                         )  # fmt: skip
    return found


def text_of(config: FolderData, where: str) -> str:
    """What the file with the labelled images holds; refused when it is missing or no text."""
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

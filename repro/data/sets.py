"""What a data set is: a `Source` describes one, once; training and test data are two types that cannot be mixed up."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from repro.augment import views
from repro.augment.views import Part
from repro.data import Cifar10Data, DataSettings, SvhnData
from repro.data.images import ImageFiles
from repro.seeding import Streams
from repro.settings import View

Seeds = int | Sequence[int]

Examples = Tensor | ImageFiles
"""Examples in memory, or images that are read from their files when they are needed."""

PLACE = Path("artifacts/data")
"""What `prepare` leaves for training and evaluation."""

PREPARE = "prepare it again: repro prepare"


@dataclass(frozen=True)
class TrainingSet:
    """Training data of one seed (lead = ()) or of R stacked seeds (lead = (R,)).

    B labelled and U unlabelled examples of shape E: images C x H x W uint8, or points of 2 float32.
    """

    labelled: Examples  # [*lead, B, *E]
    labels: Tensor  # int64 [*lead, B]
    unlabelled: Examples  # [*lead, U, *E]
    hidden_labels: Tensor  # int64 [*lead, U], -1 where not known; recorded against pseudo labels, never trained on
    labelled_indices: Tensor  # int64 [*lead, B], positions in the source
    unlabelled_indices: Tensor  # int64 [*lead, U]

    def to(self, device: torch.device | str) -> TrainingSet:
        """The same set on `device`."""
        return TrainingSet(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class HeldOutSet:
    """Test data: N examples for each seed."""

    examples: Examples  # [*lead, N, *E]
    labels: Tensor  # int64 [*lead, N]


def _by_seed(stacked: TrainingSet | HeldOutSet) -> list[Sequence[Tensor]]:
    """The tensors of each seed; the seeds are made at once, which is much faster."""
    return list(zip(*vars(stacked).values(), strict=True))


D = TypeVar("D", bound=DataSettings)


class Source(ABC, Generic[D]):
    """A data set under the settings `config`.

    Nothing else in the package asks which data set it has. What begins with `held_out` opens test data: only
    `repro.evaluate` may use it, and a test holds that.
    """

    shipped: ClassVar[bool] = True
    """Whether its examples are had wherever the project is; those of others are where somebody put the files."""
    ships_labels: ClassVar[bool] = True
    """Whether its test labels are."""
    told_by_seeds: ClassVar[bool] = True
    """Whether the hash of its training data tells which seeds they were made for."""
    stacks: ClassVar[bool] = False
    """Whether the data of several seeds can be stacked."""

    def __init__(self, config: D) -> None:
        self.config = config

    @property
    @abstractmethod
    def classes(self) -> int:
        """K."""

    # Before training

    @property
    def key(self) -> tuple[str, ...]:
        """What `prepare` prepares: settings with the same key need it once."""
        return (self.config.name,)

    def prepare(self) -> None:
        """Puts what training needs into `PLACE`, once, or refuses it; data that are made or shipped need nothing."""

    def settled(self) -> D:
        """The settings, with what only prepared data can tell; a ValueError where they ask for what is not there."""
        return self.config

    def recorded(self) -> D:
        """The settings that a run depends on: the data themselves, not where this machine had their files."""
        return self.config

    # Training data

    @abstractmethod
    def training_set(self, seeds: Any) -> TrainingSet:
        """The training data of one seed; where they `stacks`, of several seeds stacked too."""

    def training_hash(self, seeds: Sequence[int]) -> str:
        """SHA-256 over the training data and split of every seed, in order; views and `data.root` do not enter."""
        return fingerprint(*itertools.chain(*self.evidence_of(seeds)))

    def evidence_of(self, seeds: Sequence[int]) -> list[Sequence[Tensor]]:
        """`evidence` of every seed, in order."""
        return _by_seed(self.training_set(list(seeds))) if self.stacks else [self.evidence(seed) for seed in seeds]

    def evidence(self, seed: int) -> Sequence[Tensor]:
        """What pins the training set of a seed; of large data sets not all images, which are then hashed once."""
        return list(vars(self.training_set(seed)).values())

    def split_settings(self) -> dict[str, Any]:
        """The settings that decide data and split: all but how images are viewed and where their files came from."""
        return {key: value for key, value in vars(self.config).items() if key not in {"views", "root"}}

    # Test data

    @abstractmethod
    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """Test data of one seed, or of several stacked; only two moons have others for each seed."""

    def held_out_labels(self, seeds: Sequence[int]) -> Tensor:
        """Labels of the test examples of every seed, int64 [R, N]."""
        if self.stacks:
            return self.held_out_set(list(seeds)).labels
        return torch.stack([self.held_out_set(seed).labels for seed in seeds])

    def held_out_evidence(self, seed: int) -> Sequence[Tensor]:
        """What pins the test set, of large data sets without their images."""
        return list(vars(self.held_out_set(seed)).values())

    def held_out_hash(self, seeds: Sequence[int]) -> str:
        """SHA-256 over the test examples and labels of every seed, in order.

        Where the labels are not shipped, it is `bound_hash`, whatever the seeds.
        """
        if not self.ships_labels:
            return bound_hash(self.held_out_examples_hash(), self.held_out_labels([0])[0])
        if self.stacks:
            return fingerprint(*itertools.chain(*_by_seed(self.held_out_set(list(seeds)))))
        return fingerprint(*itertools.chain(*map(self.held_out_evidence, seeds)))

    def held_out_examples_hash(self) -> str:
        """SHA-256 over what pins the test set of a data set that is the same for all seeds."""
        return fingerprint(*self.held_out_evidence(0))

    def class_names(self) -> list[str]:
        """What the classes are called; empty where they are numbers."""
        return []

    # What networks see

    @abstractmethod
    def to_input(self, examples: Tensor) -> Tensor:
        """What a network takes, float32: points as they are, grey levels as 0 to 1, colours normalised."""

    def as_evaluated(self, examples: Examples, readers: int = 1) -> Tensor:
        """What a network takes when it is evaluated: all of an example; of an image in a file, its centre square."""
        return self.to_input(examples.centre(readers) if isinstance(examples, ImageFiles) else examples)

    @abstractmethod
    def weak(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """Examples as they are seen weakly, before `to_input`, by the draws of `name`."""

    @abstractmethod
    def strong(self, examples: Tensor, weak: Tensor, part: Part, name: str) -> Tensor:
        """Examples as they are seen strongly, before `to_input`, by the draws of `name`; some start from `weak`."""

    def labelled_view(self, examples: Tensor, part: Part) -> Tensor:
        """The labelled batch as trained on."""
        return self.to_input(self.weak(examples, part, "labelled view"))

    def strong_labelled_view(self, examples: Tensor, part: Part) -> Tensor:
        """The labelled batch as unlabelled ones are seen strongly, drawn apart from those."""
        weak = self.weak(examples, part, "labelled view")
        return self.to_input(self.strong(examples, weak, part, "strong labelled view"))

    def unlabelled_views(self, examples: Tensor, wanted: AbstractSet[View], part: Part) -> tuple[Tensor, Tensor]:
        """Weak and strong view of the unlabelled batch [*lead, U, *E], each of its shape, float32.

        In the place of a strong view that is not `wanted` stands the weak one; of both, the examples themselves.
        """
        if not wanted:
            return examples, examples
        weak = strong = self.weak(examples, part, "weak view")
        if View.strong in wanted:
            strong = self.strong(examples, weak, part, "strong view")
        return self.to_input(weak), self.to_input(strong)


P = TypeVar("P", Cifar10Data, SvhnData)


class SmallImages(Source[P]):
    """Images in colour of 32x32 pixels in ten classes, published in files that torchvision reads and checks."""

    mean: ClassVar[tuple[float, ...]]
    deviation: ClassVar[tuple[float, ...]]
    """Of the training images' channels, on a scale of 0 to 1."""

    shipped = told_by_seeds = False
    classes = 10

    @property
    def root(self) -> Path:
        """Where the published files are, or shall be downloaded to."""
        return Path(self.config.root).expanduser()

    def recorded(self) -> P:
        """Without the place of the files."""
        return replace(self.config, root=type(self.config).root)

    @property
    @abstractmethod
    def pins(self) -> tuple[str, ...]:
        """Hashes of the published training images, in hexadecimal digits."""

    @abstractmethod
    def read(self, part: str) -> tuple[Tensor, Tensor]:
        """All images of "train" or "test", uint8 [N, 3, 32, 32], and labels, int64 [N]; once in a process."""

    @abstractmethod
    def split(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of labelled and of unlabelled images, int64 [B] and [U]; `labels` decide a balanced split alone."""

    def training_set(self, seeds: int) -> TrainingSet:
        """The labelled and unlabelled images; only a balanced split depends on the seed."""
        images, labels = self.read("train")
        labelled, rest = self.split(labels, seeds)
        return TrainingSet(images[labelled], labels[labelled], images[rest], labels[rest], labelled, rest)

    def evidence(self, seed: int) -> Sequence[Tensor]:
        """The published files' hashes, and which images are labelled and unlabelled; few splits need the files."""
        labels: Tensor = self.read("train")[1] if self.config.balanced else torch.empty(0)
        return as_bytes(*self.pins), *self.split(labels, seed)

    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """The first `test_images` test images and their labels."""
        return HeldOutSet(*(part[: self.config.test_images].clone() for part in self.read("test")))

    def to_input(self, examples: Tensor) -> Tensor:
        """Normalised by channel."""
        return views.normalise(examples, self.mean, self.deviation)

    def weak(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """Flipped and cropped."""
        return views.cropped(examples, self.config.views, part, name)

    def strong(self, examples: Tensor, weak: Tensor, part: Part, name: str) -> Tensor:
        """Starts from the weak view, as in the released code."""
        return views.distorted(weak, self.config.views, part, name)


def download(url: str, path: Path, md5: str, remedy: str) -> None:
    """Downloads a published file, unless it lies there; a ValueError says what failed, and the remedy."""
    from torchvision.datasets.utils import download_url

    if not path.exists():
        print(f"data.root = {path.parent} has no {path.name}; it is downloaded there", flush=True)
    try:
        download_url(url, str(path.parent), path.name, md5)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"data.root = {path.parent}: {path.name} is neither there nor to be had ({url}: {error}); "
                         f"{remedy}") from error  # fmt: skip


def require_published(path: Path, md5: str, remedy: str) -> None:
    """Refuses a file that is missing or not the published one, with both MD5s and the remedy."""
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    if (found := calculate_md5(path)) != md5:
        raise ValueError(f"{path} has MD5 {found}, the published file has {md5}; {remedy}")


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 over shapes, types and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def bound_hash(examples: str, labels: Tensor) -> str:
    """SHA-256 of test examples by their own hash, and of their labels int64 [N]: who has both can tell what is true."""
    return fingerprint(as_bytes(examples), labels)


def as_bytes(*hexadecimal: str) -> Tensor:
    """Hashes in hexadecimal digits, one after another, as uint8."""
    return torch.tensor(list(bytes.fromhex("".join(hexadecimal))), dtype=torch.uint8)


def balanced(labels: Tensor, count: int, classes: int, seed: int) -> Tensor:
    """Indices, int64 [count], of `count / classes` images of each class of `labels`, int64 [N]; fewer are refused."""
    shuffled = Streams(seed).permutation("split", 0, len(labels))
    each = count // classes
    chosen = [shuffled[labels[shuffled] == k][:each] for k in range(classes)]
    fewest = min(len(indices) for indices in chosen)
    if fewest < each:
        raise ValueError(f"data.labels = {count}: wants {each} images of each class, but one class has only {fewest} "
                         f"among the {len(labels)} images to draw from; lower it, or take more training images"
                         )  # fmt: skip
    return torch.cat(chosen)


class Order:
    """Batches of indices that pass over range(n) in a fresh permutation each epoch; a batch may span two epochs.

    The permutations come from the stream `name`, such as "labelled order". A batch of n is all of them in order, since
    the order within a batch means nothing.
    """

    def __init__(self, streams: Streams, name: str, n: int, batch: int) -> None:
        self._streams, self._name, self._n, self._batch = streams, name, n, batch
        self._epochs: dict[int, Tensor] = {}

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = self._streams.permutation(self._name, epoch, self._n)
        return self._epochs[epoch]

    def at(self, step: int) -> Tensor:
        """Indices of the batch of `step`, int64 [*lead, batch]."""
        if self._batch == self._n:
            everything = torch.arange(self._n, device=self._streams.device)
            return everything.expand(*self._streams.lead, self._n)
        position, parts, missing = step * self._batch, [], self._batch
        while missing:
            epoch, offset = divmod(position, self._n)
            part = self._epoch(epoch)[..., offset : offset + missing]
            parts.append(part)
            missing -= part.shape[-1]
            position += part.shape[-1]
        return torch.cat(parts, dim=-1)

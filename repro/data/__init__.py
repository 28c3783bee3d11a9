"""Data sets: their settings, and by its name the `Source` of each. This file needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from repro.augment import CropViews, ImageViews, Operations
from repro.settings import Range, Share, ShareBelowOne, Switch, Text, settings

if TYPE_CHECKING:
    from repro.data.sets import Source


class DataSettings:
    """What the settings of every data set have beside their values."""

    name: str
    labels: int
    source: ClassVar[str]
    """The module below `repro.data`, and the class of the `Source`."""
    in_files: ClassVar[bool] = False
    """Whether a step reads its images from files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example as a network takes it: C x H x W, or 2 for a point."""
        raise NotImplementedError

    def problems(self) -> Iterator[str]:
        """What its values are not possible together, as sentences naming key, value and remedy."""
        return iter(())


class Placement(StrEnum):
    """Where the labelled points of the two moons lie."""

    random = "random"  # drawn from the cluster, as a reader of the paper would assume
    spread = "spread"  # at equal steps along the arc, so that they show the shape of the cluster


@settings
class TwoMoonsData(DataSettings):
    """Two interleaving half circles (paper, section 3.1); one fresh data set for each seed."""

    source: ClassVar[str] = "toys:TwoMoons"
    shape: ClassVar[tuple[int, ...]] = (2,)
    name: Literal["two_moons"] = "two_moons"
    points: Annotated[int, Range(4, 1_000_000)] = 2000  # training points, half in each cluster (paper)
    labels: Annotated[int, Range(2, 1_000_000)] = 6  # labelled points, half in each cluster (paper)
    test_points: Annotated[int, Range(1, 1_000_000)] = 1000  # fresh ones, on which accuracy is measured
    # standard deviations of the isotropic noise, which the paper does not give, and of the strong view, which it lacks
    noise: Annotated[float, Range(0, 10, why="the moons are 3 wide")] = 0.1
    placement: Placement = Placement.random
    jitter: Annotated[float, Range(0, 10, why="the moons are 3 wide")] = 0.15

    def problems(self) -> Iterator[str]:
        """Both counts are split evenly, and some points are left unlabelled."""
        if self.points % 2 or self.labels % 2:
            yield f"data.points = {self.points}, data.labels = {self.labels}: both are split evenly, so must be even"
        if self.labels >= self.points:
            yield f"data.labels = {self.labels}: leaves none of data.points = {self.points} unlabelled"


@settings
class DigitsData(DataSettings):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998).

    As many labelled images of each class are drawn anew by each seed; the test images are the same for every seed.
    """

    source: ClassVar[str] = "toys:Digits"
    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    name: Literal["digits"] = "digits"
    labels: Annotated[int, Range(10, 1797, why="there are 1,797 images")] = 50
    test_images: Annotated[int, Range(1, 1797, why="there are 1,797 images")] = 597

    def problems(self) -> Iterator[str]:
        """Each class has as many labels, and some images are left unlabelled."""
        if self.labels % 10:
            yield f"data.labels = {self.labels}: must be a multiple of the 10 classes"
        held = self.labels + self.test_images
        if held > 1700:
            yield f"data.labels + data.test_images = {held}: leaves fewer than 97 of the 1,797 images unlabelled"


class SmallImagesData(DataSettings):
    """Images in colour of 32x32 pixels in 10 classes, published in files; of both parts the first so many are taken."""

    root: str
    labelled_in_unlabelled: bool
    train_images: int
    test_images: int
    views: ImageViews
    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    @property
    def balanced(self) -> bool:
        """Whether labels / 10 of each class are labelled, drawn anew by each seed."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """Training images that are neither labelled nor unlabelled."""
        return 0

    @property
    def unlabelled(self) -> int:
        """How many images are unlabelled ones."""
        return self.train_images - self.dropped - (0 if self.labelled_in_unlabelled else self.labels)

    def problems(self) -> Iterator[str]:
        """Two images at least are left unlabelled, and a balanced split is whole."""
        if self.labels + self.dropped > self.train_images or self.unlabelled < 2:
            dropped = f" ({self.dropped} are dropped by data.split)" if self.dropped else ""
            yield (f"data.labels = {self.labels}: leaves fewer than 2 unlabelled images of data.train_images = "
                   f"{self.train_images}{dropped}; lower it, or set data.labelled_in_unlabelled")  # fmt: skip
        if self.balanced and self.labels % 10:
            yield f"data.labels = {self.labels}: must be a multiple of the 10 classes where the split is balanced"
        yield from self.views.problems()


class Split(StrEnum):
    """Which training records are labelled, in the order of the files."""

    paper = "paper"  # 0 to 4,999 are dropped (validation), the next `labels` labelled, the others unlabelled
    released = "released"  # the first `labels` are labelled
    balanced = "balanced"  # labels / 10 of each class, drawn anew by each seed


@settings
class Cifar10Data(SmallImagesData):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels, 10 classes."""

    source: ClassVar[str] = "cifar10:Cifar10"
    VALIDATION: ClassVar[int] = 5000
    """Training images that the paper keeps for validation and the `paper` split drops: the first of them."""

    name: Literal["cifar10"] = "cifar10"
    root: Text = "datasets"  # where `prepare` looks for cifar-10-batches-py, and downloads it to otherwise
    split: Split = Split.paper
    labels: Annotated[int, Range(1, 50_000, why="CIFAR-10 has no more")] = 4000
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too (released: yes)
    train_images: Annotated[int, Range(1, 50_000, why="CIFAR-10 has no more")] = 50_000  # fewer for a short run
    test_images: Annotated[int, Range(1, 10_000, why="CIFAR-10 has no more")] = 10_000  # fewer for a short run
    views: ImageViews = field(default_factory=ImageViews)

    @property
    def balanced(self) -> bool:
        """By its split."""
        return self.split is Split.balanced

    @property
    def dropped(self) -> int:
        """Those for validation."""
        return self.VALIDATION if self.split is Split.paper else 0


@settings
class SvhnData(SmallImagesData):
    """SVHN's cropped digits (Netzer et al. 2011): 32x32 pixels, 10 classes, 26,032 test images.

    Its training images are the 73,257 of `train`, followed by the 531,131 of `extra`. All labelled ones are of `train`.
    """

    source: ClassVar[str] = "svhn:Svhn"
    name: Literal["svhn"] = "svhn"
    root: Text = "datasets"  # where `prepare` looks for *_32x32.mat, and downloads them to otherwise
    labels: Annotated[int, Range(1, 73_257, why="SVHN's train has no more")] = 1000
    balanced: Switch = True  # labels / 10 of each class, drawn anew by each seed; else the first `labels` of the file
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too
    train_images: Annotated[int, Range(1, 604_388, why="SVHN's train and extra have no more")] = 604_388
    test_images: Annotated[int, Range(1, 26_032, why="SVHN has no more")] = 26_032
    views: ImageViews = field(default_factory=lambda: ImageViews(operations=Operations.paper_svhn, flip=False))


@settings
class FolderData(DataSettings):
    """Images in files, such as your own, or ImageNet's.

    A training image in a folder, `train/<class>/...`, has that class, unless the folder is called `unlabelled`; one
    beside the folders has none. Any image that is not labelled is an unlabelled one.
    """

    source: ClassVar[str] = "folder:Folder"
    in_files: ClassVar[bool] = True
    name: Literal["folder"] = "folder"
    root: Text = "images"  # the folder that holds all of it
    train: Text = "."  # folder of the training images, below `root`
    test: Text = ""  # folder of the test images, `test/<class>/...`, below `root`; empty where there is none
    labelled: Text = ""  # file below `root` with the labelled images: a path in each line, or a CSV with path,label;
    # imagenet_10percent: the customary 128,116 names; empty: all, or `labels` of those in class folders
    labels: Annotated[int, Range(0, 100_000_000)] = 0  # drawn as evenly as can be, anew by each seed; 0 takes all
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too
    set_aside: ShareBelowOne = 0.0  # of each class's labelled images: neither labelled nor unlabelled ones, but for an
    # estimate of accuracy where there are no test images; each class keeps one label at least
    image_size: Annotated[int, Range(8, 1024)] = 64  # side in pixels of what the networks see
    damaged: Share = 0.01  # largest share of training images that may be damaged, and are then left out
    # how many there are; filled by `prepare`, or refused if it finds another number
    classes: Annotated[int, Range(2, 65_536, why="0 is filled by what is found", or_zero=True)] = 0
    views: CropViews = field(default_factory=CropViews)

    @property
    def shape(self) -> tuple[int, ...]:
        """An image in colour."""
        return (3, self.image_size, self.image_size)

    def problems(self) -> Iterator[str]:
        """Each class has a label."""
        if 0 < self.labels < self.classes:
            yield f"data.labels = {self.labels}: fewer than one for each of the {self.classes} classes; raise it"
        yield from self.views.problems()


Data = Annotated[TwoMoonsData | DigitsData | Cifar10Data | SvhnData | FolderData, Field(discriminator="name")]


def source_of(config: DataSettings) -> Source[Any]:
    """The data set of these settings. Nothing else in the package asks which data set it has."""
    source: Source[Any] = resolve_name(f"repro.data.{config.source}")(config)
    return source

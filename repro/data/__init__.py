"""Data sets: the settings of each and of its views, and by its name the `Source` that describes it. Needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from repro.settings import Probability, Range, Share, ShareBelowOne, Switch, Text, settings

if TYPE_CHECKING:
    from repro.data.sets import Source

IMAGE = (3, 32, 32)
"""Of CIFAR-10 and SVHN."""


class DataSettings:
    """What the settings of every data set have beside their values."""

    name: str
    labels: int
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

    name: Literal["two_moons"] = "two_moons"
    points: Annotated[int, Range(4, 1_000_000)] = 2000  # training points, half in each cluster (paper)
    labels: Annotated[int, Range(2, 1_000_000)] = 6  # labelled points, half in each cluster (paper)
    test_points: Annotated[int, Range(1, 1_000_000)] = (
        1000  # fresh points of the same distribution, on which accuracy is measured
    )
    noise: Annotated[float, Range(0, 10, why="the moons are 3 wide")] = (
        0.1  # standard deviation of the isotropic noise; the paper does not give it
    )
    placement: Placement = Placement.random
    jitter: Annotated[float, Range(0, 10, why="the moons are 3 wide")] = (
        0.15  # standard deviation of the strong view; the paper's toy experiment has no views
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """A point."""
        return (2,)

    def problems(self) -> Iterator[str]:
        """Both counts are split evenly, and some points are left unlabelled."""
        if self.points % 2 or self.labels % 2:
            yield f"data.points = {self.points}, data.labels = {self.labels}: both are split evenly, so must be even"
        if self.labels >= self.points:
            yield f"data.labels = {self.labels}: leaves none of data.points = {self.points} unlabelled"


@settings
class DigitsData(DataSettings):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""

    name: Literal["digits"] = "digits"
    labels: Annotated[int, Range(10, 1797, why="there are 1,797 images")] = (
        50  # labelled images, the same number of each class, drawn anew by each seed
    )
    test_images: Annotated[int, Range(1, 1797, why="there are 1,797 images")] = (
        597  # held out; the same images for every seed
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """One channel of 8x8 pixels."""
        return (1, 8, 8)

    def problems(self) -> Iterator[str]:
        """Each class has as many labels, and some images are left unlabelled."""
        if self.labels % 10:
            yield f"data.labels = {self.labels}: must be a multiple of the 10 classes"
        held = self.labels + self.test_images
        if held > 1700:
            yield f"data.labels + data.test_images = {held}: leaves fewer than 97 of the 1,797 images unlabelled"


class Operations(StrEnum):
    """The pool from which RandAugment draws."""

    released = "released"  # 15 operations, Cutout among them (released code)
    paper = "paper"  # 15 operations, SamplePairing in place of Cutout (paper, Table 5)
    paper_svhn = "paper_svhn"  # the paper's without SamplePairing, Rotate and TranslateX (Table 5)


class Arithmetic(StrEnum):
    """What the operations do where the released code departs from their sources (RandAugment, Pillow)."""

    released = "released"  # blends and Solarize's threshold wrap modulo 256; Contrast pivots on (pixels / 256)
    standard = "standard"  # blends saturate, Solarize's threshold stops at 256, Contrast pivots on the mean grey


@settings
class ImageViews:
    """Weak view: flip and crop. Strong view: RandAugment and Cutout on the weak one, then flip and crop once more."""

    operations: Operations = Operations.released
    arithmetic: Arithmetic = Arithmetic.released
    layers: Annotated[int, Range(1, 100)] = 2  # operations one after another
    magnitude: Annotated[float, Range(0, 30, why="10 is the usual end of the scale")] = (
        16.0  # of every operation, on a scale whose usual end is 10
    )
    lowest_rate: Probability = 0.2  # each image draws once, uniformly between these two, with what probability ...
    highest_rate: Probability = 0.8  # ... each of its layers is applied at all
    cutout: Annotated[int, Range(0, 32, why="the image has 32 pixels")] = (
        16  # side in pixels of the square erased last; 0 erases none
    )
    crop_padding: Annotated[int, Range(0, 31, why="the image has 32 pixels")] = (
        4  # pixels of fill on each side, from which a crop of the image's size is taken
    )
    fill: Annotated[int, Range(0, 255, why="a pixel value")] = 128  # value of pixels that come from outside the image
    flip: Switch = True  # left to right, with probability 1/2
    recrop: Switch = True  # whether the strong view is flipped and cropped once more (released)

    def problems(self) -> Iterator[str]:
        """The rates are in order, and Cutout has a centre."""
        yield from _rates(self)
        if self.cutout % 2:
            yield f"data.views.cutout = {self.cutout}: is measured from its centre, so must be even"


class Split(StrEnum):
    """Which training records are labelled, in the order of the files."""

    paper = "paper"  # 0 to 4,999 are dropped (validation), the next `labels` labelled, the others unlabelled
    released = "released"  # the first `labels` are labelled
    balanced = "balanced"  # labels / 10 of each class, drawn anew by each seed


@settings
class Cifar10Data(DataSettings):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels, 10 classes."""

    name: Literal["cifar10"] = "cifar10"
    root: Text = "datasets"  # where `prepare` looks for cifar-10-batches-py, and downloads it to otherwise
    split: Split = Split.paper
    labels: Annotated[int, Range(1, 50_000, why="CIFAR-10 has no more")] = 4000
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too (released: yes)
    train_images: Annotated[int, Range(1, 50_000, why="CIFAR-10 has no more")] = (
        50_000  # the first so many training records; fewer for a short run
    )
    test_images: Annotated[int, Range(1, 10_000, why="CIFAR-10 has no more")] = (
        10_000  # the first so many test records; fewer for a short run
    )
    views: ImageViews = field(default_factory=ImageViews)

    VALIDATION: ClassVar[int] = 5000
    """Training images that the paper keeps for validation and the `paper` split drops: the first of them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """A small image in colour."""
        return IMAGE

    @property
    def dropped(self) -> int:
        """Training images that are neither labelled nor unlabelled."""
        return self.VALIDATION if self.split is Split.paper else 0

    @property
    def unlabelled(self) -> int:
        """How many images are unlabelled ones."""
        return self.train_images - self.dropped - (0 if self.labelled_in_unlabelled else self.labels)

    def problems(self) -> Iterator[str]:
        """Two images at least are left unlabelled, and a balanced split is whole."""
        if self.labels + self.dropped > self.train_images or self.unlabelled < 2:
            yield (
                f"data.labels = {self.labels}: leaves fewer than 2 unlabelled images of "
                f"data.train_images = {self.train_images} ({self.dropped} are dropped by data.split = {self.split}); "
                "lower it, or set data.labelled_in_unlabelled"
            )
        if self.split is Split.balanced and self.labels % 10:
            yield f"data.labels = {self.labels}: must be a multiple of the 10 classes when data.split = balanced"
        yield from self.views.problems()


@settings
class SvhnData(DataSettings):
    """SVHN's cropped digits (Netzer et al. 2011): 32x32 pixels, 10 classes, 26,032 test images.

    Its training images are the 73,257 of `train`, followed by the 531,131 of `extra`.
    """

    name: Literal["svhn"] = "svhn"
    root: Text = "datasets"  # where `prepare` looks for *_32x32.mat, and downloads them to otherwise
    labels: Annotated[int, Range(1, 73_257, why="SVHN's train has no more")] = (
        1000  # labelled images, all of them from `train`
    )
    balanced: Switch = True  # labels / 10 of each class, drawn anew by each seed; else the first `labels` of the file
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too
    train_images: Annotated[int, Range(1, 604_388, why="SVHN's train and extra have no more")] = (
        604_388  # the first so many training images; up to 73,257 none of `extra`
    )
    test_images: Annotated[int, Range(1, 26_032, why="SVHN has no more")] = (
        26_032  # the first so many test images; fewer for a short run
    )
    views: ImageViews = field(default_factory=lambda: ImageViews(operations=Operations.paper_svhn, flip=False))

    @property
    def shape(self) -> tuple[int, ...]:
        """A small image in colour."""
        return IMAGE

    @property
    def unlabelled(self) -> int:
        """How many images are unlabelled ones."""
        return self.train_images - (0 if self.labelled_in_unlabelled else self.labels)

    def problems(self) -> Iterator[str]:
        """Two images at least are left unlabelled, and a balanced split is whole."""
        if self.labels > self.train_images or self.unlabelled < 2:
            yield (
                f"data.labels = {self.labels}: leaves fewer than 2 unlabelled images of "
                f"data.train_images = {self.train_images}; lower it, or set data.labelled_in_unlabelled"
            )
        if self.balanced and self.labels % 10:
            yield f"data.labels = {self.labels}: must be a multiple of the 10 classes when data.balanced = true"
        yield from self.views.problems()


@settings
class CropViews:
    """Views of images of any size. One random crop, resized, for both; weak: flipped. Strong: flipped, RandAugment.

    The crop has a share of the image's area and a ratio of its sides drawn uniformly, the ratio on a log scale. The two
    views flip independently. Evaluation takes the centre.
    """

    operations: Operations = Operations.released
    arithmetic: Arithmetic = Arithmetic.released
    layers: Annotated[int, Range(1, 100)] = 2  # operations one after another
    magnitude: Annotated[float, Range(0, 30, why="10 is the usual end of the scale")] = (
        17.0  # of every operation, on a scale whose usual end is 10
    )
    lowest_rate: Probability = 0.2  # each image draws once, uniformly between these two, with what probability ...
    highest_rate: Probability = 0.8  # ... each of its layers is applied at all
    cutout_share: Share = (
        0.17857142857142858  # half of Cutout's side at magnitude 10, of the image's (released: 40/224)
    )
    translate_share: Share = 0.44642857142857145  # likewise TranslateX's and TranslateY's shift (released: 100/224)
    fill: Annotated[int, Range(0, 255, why="a pixel value")] = 128  # value of pixels that come from outside the image
    flip: Switch = True  # left to right, with probability 1/2
    smallest_area: Annotated[float, Range(0.0001, 1)] = (
        0.08  # of the random crop, as a share of the image's; the largest is the whole
    )
    widest_ratio: Annotated[float, Range(1, 10)] = (
        1.3333333333333333  # of the random crop's sides, and its inverse the narrowest
    )
    evaluated_share: Annotated[float, Range(0.1, 1)] = (
        0.875  # of the shorter side: the centre square that evaluation looks at (224 / 256)
    )

    def problems(self) -> Iterator[str]:
        """The rates are in order."""
        yield from _rates(self)


@settings
class FolderData(DataSettings):
    """Images in files, such as your own, or ImageNet's.

    A training image in a folder, `train/<class>/...`, has that class, unless the folder is called `unlabelled`; one
    beside the folders has none. Any image that is not labelled is an unlabelled one.
    """

    name: Literal["folder"] = "folder"
    root: Text = "images"  # the folder that holds all of it
    train: Text = "."  # folder of the training images, below `root`
    test: Text = ""  # folder of the test images, `test/<class>/...`, below `root`; empty where there is none
    labelled: Text = ""  # file below `root` with the labelled images: a path in each line, or a CSV with path,label;
    # imagenet_10percent: the customary 128,116 names; empty: all, or `labels` of those in class folders
    labels: Annotated[int, Range(0, 100_000_000)] = (
        0  # so many of them, as evenly over the classes as can be, drawn anew by each seed; 0 takes all
    )
    labelled_in_unlabelled: Switch = False  # whether the labelled images are unlabelled ones too
    set_aside: ShareBelowOne = 0.0  # of each class's labelled images: neither labelled nor unlabelled ones, but for an
    # estimate of accuracy where there are no test images; each class keeps one label at least
    image_size: Annotated[int, Range(8, 1024)] = 64  # side in pixels of what the networks see
    damaged: Share = 0.01  # largest share of training images that may be damaged, and are then left out
    classes: Annotated[int, Range(2, 65_536, why="0 is filled by what is found", or_zero=True)] = (
        0  # how many there are; filled by `prepare`, or refused if it finds another number
    )
    views: CropViews = field(default_factory=lambda: CropViews(arithmetic=Arithmetic.standard))

    in_files: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """An image in colour."""
        return (3, self.image_size, self.image_size)

    def problems(self) -> Iterator[str]:
        """Each class has a label."""
        if 0 < self.labels < self.classes:
            yield f"data.labels = {self.labels}: fewer than one for each of the {self.classes} classes; raise it"
        yield from self.views.problems()


def _rates(views: ImageViews | CropViews) -> Iterator[str]:
    if views.lowest_rate > views.highest_rate:
        yield (f"data.views.lowest_rate = {views.lowest_rate}: "
               f"must not exceed data.views.highest_rate = {views.highest_rate}")  # fmt: skip


Data = Annotated[TwoMoonsData | DigitsData | Cifar10Data | SvhnData | FolderData, Field(discriminator="name")]

_SOURCES = {
    "two_moons": ("toys", "TwoMoons"),
    "digits": ("toys", "Digits"),
    "cifar10": ("cifar10", "Cifar10"),
    "svhn": ("svhn", "Svhn"),
    "folder": ("folder", "Folder"),
}
"""The module and the class of each data set's source."""


def source_of(config: DataSettings) -> Source[Any]:
    """The data set of these settings. Nothing else in the package asks which data set it has."""
    module, name = _SOURCES[config.name]
    source: Source[Any] = getattr(importlib.import_module(f"repro.data.{module}"), name)(config)
    return source

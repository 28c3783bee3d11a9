"""What values of data sets, views and networks are possible together."""

from __future__ import annotations

from collections.abc import Iterator

from repro.config.data import (
    Cifar10Data,
    CropViews,
    Data,
    DigitsData,
    FolderData,
    ImageViews,
    Split,
    SvhnData,
    TwoMoonsData,
)
from repro.config.models import Model, WideResNet

_VALIDATION = 5000  # images that the paper's split drops


def data_problems(data: Data) -> Iterator[str]:
    """Rules over several settings of one data set."""
    if isinstance(data, TwoMoonsData):
        yield from _two_moons(data)
    elif isinstance(data, DigitsData):
        yield from _digits(data)
    else:
        yield from _cifar10(data) if isinstance(data, Cifar10Data) else _svhn_or_folder(data)
        yield from _views(data.views)


def network_problems(model: Model) -> Iterator[str]:
    """Rules for one network."""
    if isinstance(model, WideResNet) and (model.depth - 4) % 6:
        yield f"model.depth = {model.depth}: must be 6 n + 4 with n at least 1, such as 10, 16 or 28"


def _two_moons(data: TwoMoonsData) -> Iterator[str]:
    if data.points % 2 or data.labels % 2:
        yield f"data.points = {data.points}, data.labels = {data.labels}: both are split evenly, so must be even"
    if data.labels >= data.points:
        yield f"data.labels = {data.labels}: leaves none of data.points = {data.points} unlabelled"


def _digits(data: DigitsData) -> Iterator[str]:
    if data.labels % 10:
        yield f"data.labels = {data.labels}: must be a multiple of the 10 classes"
    held = data.labels + data.test_images
    if held > 1700:
        yield f"data.labels + data.test_images = {held}: leaves fewer than 97 of the 1,797 images unlabelled"


def _cifar10(data: Cifar10Data) -> Iterator[str]:
    dropped = _VALIDATION if data.split is Split.paper else 0
    if data.labels + dropped > data.train_images or unlabelled_images(data) < 2:
        yield (f"data.labels = {data.labels}: leaves fewer than 2 unlabelled images of "
               f"data.train_images = {data.train_images} ({dropped} are dropped by data.split = {data.split}); "
               "lower it, or set data.labelled_in_unlabelled")  # fmt: skip
    if data.split is Split.balanced and data.labels % 10:
        yield f"data.labels = {data.labels}: must be a multiple of the 10 classes when data.split = balanced"


def unlabelled_images(data: Cifar10Data | SvhnData) -> int:
    """How many images are unlabelled ones."""
    dropped = _VALIDATION if isinstance(data, Cifar10Data) and data.split is Split.paper else 0
    return data.train_images - dropped - (0 if data.labelled_in_unlabelled else data.labels)


def _svhn_or_folder(data: SvhnData | FolderData) -> Iterator[str]:
    if isinstance(data, FolderData):
        if 0 < data.labels < data.classes:
            yield f"data.labels = {data.labels}: fewer than one for each of the {data.classes} classes; raise it"
        return
    if data.labels > data.train_images or unlabelled_images(data) < 2:
        yield (f"data.labels = {data.labels}: leaves fewer than 2 unlabelled images of "
               f"data.train_images = {data.train_images}; lower it, or set data.labelled_in_unlabelled")  # fmt: skip
    if data.balanced and data.labels % 10:
        yield f"data.labels = {data.labels}: must be a multiple of the 10 classes when data.balanced = true"


def _views(views: ImageViews | CropViews) -> Iterator[str]:
    if views.lowest_rate > views.highest_rate:
        yield (f"data.views.lowest_rate = {views.lowest_rate}: "
               f"must not exceed data.views.highest_rate = {views.highest_rate}")  # fmt: skip
    if isinstance(views, ImageViews) and views.cutout % 2:
        yield f"data.views.cutout = {views.cutout}: is measured from its centre, so must be even"

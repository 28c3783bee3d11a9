"""Views of 32x32 images as training gets them, on made-up images: which stream moves which view, and the scale."""

from __future__ import annotations

import torch

from repro.augment import images
from repro.augment.views import CIFAR10_DEVIATION, CIFAR10_MEAN, labelled_view, unlabelled_views
from repro.data import Cifar10Data
from repro.seeding import Streams
from repro.settings import View

PIXELS = Streams(0).integers("images", 0, 256, (16, 3, 32, 32)).to(torch.uint8)
DATA = Cifar10Data()


def test_views_of_images_are_normalised_crops_and_distortions() -> None:
    """The weak view is the normalised crop, the strong view the normalised distortion of that crop."""
    weak, strong = unlabelled_views(PIXELS, DATA, {View.weak, View.strong}, Streams(0), 3)
    cropped = images.apply_crop(PIXELS, images.draw_crop(Streams(0), "weak view", 3, 16, DATA.views), DATA.views)
    distorted = images.apply_strong(cropped, images.draw_strong(Streams(0), 3, 16, DATA.views), DATA.views)

    assert torch.equal(images.normalise(cropped, CIFAR10_MEAN, CIFAR10_DEVIATION), weak)
    assert torch.equal(images.normalise(distorted, CIFAR10_MEAN, CIFAR10_DEVIATION), strong)
    assert not torch.equal(weak, strong)


def test_labelled_and_unlabelled_views_are_drawn_apart() -> None:
    """The same images get other flips and crops as labelled ones than as unlabelled ones."""
    weak, strong = unlabelled_views(PIXELS, DATA, {View.weak, View.strong}, Streams(0), 3)
    labelled = labelled_view(PIXELS, DATA, Streams(0), 3)

    for view in (weak, strong):
        same = (view == labelled).flatten(1).all(dim=1)
        assert int(same.sum()) <= 2  # 16 images, of which one in 162 is moved alike by chance


def test_labelled_and_unlabelled_images_have_one_scale() -> None:
    """Normalised images of all values have about mean 0 and deviation 1 in every view."""
    weak, strong = unlabelled_views(PIXELS, DATA, {View.weak, View.strong}, Streams(0), 3)
    for view in (weak, strong, labelled_view(PIXELS, DATA, Streams(0), 3)):
        assert abs(float(view.mean())) < 0.5
        assert 0.6 < float(view.std()) < 1.6

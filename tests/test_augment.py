"""Views: drawn numbers by range and frequency, pixels against exact references."""

from __future__ import annotations

import doctest

import pytest
import torch
from scipy import stats
from torch import Tensor

from repro import RandAugment
from repro.augment import ImageViews, views
from repro.augment.views import Part
from repro.data import Cifar10Data, DigitsData, TwoMoonsData, source_of
from repro.data.toys import Motion, draw_jitter, draw_motions, draw_shifts, move
from repro.seeding import Streams
from repro.settings import View

IMAGES = Streams(0).uniform("images", 0, (4, 1, 8, 8))
BOTH = {View.weak, View.strong}
DIGITS, MOONS, SMALL = (source_of(kind()) for kind in (DigitsData, TwoMoonsData, Cifar10Data))
PIXELS = Streams(0).integers("images", 0, 256, (16, 3, 32, 32)).to(torch.uint8)
LEAST_P = 1e-3  # the seeds are fixed, so a sound generator passes for ever; a broken one gives a p far below this


def geometry(right: float = 0, down: float = 0, degrees: float = 0, shear: float = 0) -> Motion:
    """The same map for all four images."""
    return Motion(torch.tensor([[right, down]] * 4), torch.full((4,), degrees), torch.full((4,), shear))


def shifted(images: Tensor, right: int, down: int) -> Tensor:
    """Images rolled, with zeros for what came round."""
    rolled = images.roll((down, right), (-2, -1))
    rows, columns = torch.arange(8)[:, None] - down, torch.arange(8) - right
    return rolled * ((rows >= 0) & (rows < 8) & (columns >= 0) & (columns < 8))


@pytest.mark.parametrize(("right", "down"), [(0, 0), (-1, 2), (3, -1)])
def test_whole_shifts_move_pixels(right: int, down: int) -> None:
    """A shift by whole pixels moves them right and down, bit for bit, and zeros come in."""
    assert torch.equal(shifted(IMAGES, right, down), move(IMAGES, geometry(right, down)))


def test_rotation_is_anticlockwise() -> None:
    """90 degrees turn an image once anticlockwise as seen."""
    expected = torch.rot90(IMAGES, 1, (-2, -1))

    torch.testing.assert_close(move(IMAGES, geometry(degrees=90)), expected, rtol=0, atol=1e-5)  # cos 90 > 0


def test_shear_moves_rows_against_each_other() -> None:
    """A shear of 2 shifts a row y pixels below the centre by 2 y: those next to the centre by one, opposite ways."""
    out = move(IMAGES, geometry(shear=2.0))
    left, right = shifted(IMAGES, -1, 0), shifted(IMAGES, 1, 0)

    torch.testing.assert_close(out[..., 4, :], left[..., 4, :], rtol=0, atol=1e-5)  # float32
    torch.testing.assert_close(out[..., 3, :], right[..., 3, :], rtol=0, atol=1e-5)


def test_each_image_has_its_own_map() -> None:
    """One map for each image: only the second moves."""
    maps = Motion(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), torch.zeros(4), torch.zeros(4))
    out = move(IMAGES, maps)

    assert torch.equal(shifted(IMAGES, 1, 0)[1], out[1])
    assert torch.equal(IMAGES[[0, 2, 3]], out[[0, 2, 3]])


def test_weak_draws_are_whole_shifts() -> None:
    """All nine shifts by up to one pixel are equally frequent; nothing turns or shears."""
    drawn = draw_shifts(Streams(0), 0, 9000)
    counts = torch.bincount(((drawn.shift + 1) @ torch.tensor([3.0, 1.0])).long(), minlength=9)

    assert {-1.0, 0.0, 1.0} == set(drawn.shift.unique().tolist())
    assert LEAST_P < stats.chisquare(counts.numpy()).pvalue
    assert not drawn.degrees.any()
    assert not drawn.shear.any()


def test_strong_draws_are_uniform_in_their_range() -> None:
    """Shifts within 1.5 pixels, turns within 30 degrees, shears within 0.3, each uniform and unrelated."""
    drawn = draw_motions(Streams(0), 0, 9000)
    units = torch.stack([drawn.shift[:, 0] / 1.5, drawn.shift[:, 1] / 1.5, drawn.degrees / 30, drawn.shear / 0.3])
    for unit in units:
        assert LEAST_P < stats.kstest(unit.numpy(), stats.uniform(-1, 2).cdf).pvalue
    off_diagonal = units.corrcoef() - torch.eye(4)
    assert float(off_diagonal.abs().max()) < 0.045  # 4 standard errors, 1 / sqrt(9000) each


def test_jitter_has_its_spread() -> None:
    """Offsets of points are normal with the given standard deviation, and are added."""
    offsets = draw_jitter(Streams([1, 2]), 0, 4000, 0.15)
    examples = Streams([1, 2]).uniform("x", 0, (4000, 2))
    source, part = source_of(TwoMoonsData(jitter=0.15)), Part(Streams([1, 2]), 0)

    assert (2, 4000, 2) == tuple(offsets.shape)
    assert LEAST_P < stats.kstest(offsets.flatten().double().numpy(), stats.norm(0, 0.15).cdf).pvalue
    assert torch.equal(examples + offsets, source.unlabelled_views(examples, BOTH, part)[1])


def test_views_of_digits_differ() -> None:
    """Weak, strong and labelled views are drawn apart, anew at each step, and the same for the same step."""
    raw = (IMAGES * 16).to(torch.uint8).repeat(8, 1, 1, 1)
    weak, strong = DIGITS.unlabelled_views(raw, BOTH, Part(Streams(0), 5))
    labelled = DIGITS.labelled_view(raw, Part(Streams(0), 5))
    again, later = (DIGITS.unlabelled_views(raw, BOTH, Part(Streams(0), step)) for step in (5, 6))

    assert not torch.equal(weak, strong)
    assert not torch.equal(weak, labelled)
    assert torch.equal(weak, again[0])
    assert torch.equal(strong, again[1])
    assert not torch.equal(weak, later[0])
    assert not torch.equal(strong, later[1])


@pytest.mark.parametrize("view", list(View))
def test_an_unwanted_view_changes_no_other(view: View) -> None:
    """A view computed alone is the one computed with the other."""
    raw, index = (IMAGES * 16).to(torch.uint8), 0 if view is View.weak else 1
    both, alone = (DIGITS.unlabelled_views(raw, wanted, Part(Streams(0), 5)) for wanted in (BOTH, {view}))

    assert torch.equal(both[index], alone[index])


def test_views_of_points() -> None:
    """A point's weak and labelled views are itself, its strong view is moved."""
    x = Streams(0).uniform("x", 0, (5, 2))
    weak, strong = MOONS.unlabelled_views(x, BOTH, Part(Streams(0), 0))

    assert x is weak
    assert x is MOONS.labelled_view(x, Part(Streams(0), 0))
    assert not torch.equal(x, strong)


# 32x32 images


def test_views_of_images_are_normalised_crops_and_distortions() -> None:
    """The weak view is the normalised crop, the strong view the normalised distortion of that crop."""
    weak, strong = SMALL.unlabelled_views(PIXELS, BOTH, Part(Streams(0), 3))
    cropped = views.apply_crop(
        PIXELS, views.draw_crop(Streams(0), "weak view", 3, 16, SMALL.config.views), SMALL.config.views
    )
    distorted = views.apply_strong(
        cropped, views.draw_strong(Streams(0), 3, 16, SMALL.config.views), SMALL.config.views
    )

    assert torch.equal(views.normalise(cropped, SMALL.mean, SMALL.deviation), weak)
    assert torch.equal(views.normalise(distorted, SMALL.mean, SMALL.deviation), strong)
    assert not torch.equal(weak, strong)


def test_rand_augment_alone_is_the_strong_view() -> None:
    """`repro.RandAugment` by the same draws, at any step; its documented example runs."""
    part = Part(Streams(7), 5)
    expected = views.distorted(PIXELS, ImageViews(layers=3), part, "strong view")

    assert torch.equal(expected, RandAugment(7, layers=3)(PIXELS, 5))
    assert torch.equal(views.cropped(PIXELS, ImageViews(), part, "weak view"), RandAugment(7).weak(PIXELS, 5))
    assert 0 == doctest.testmod(views).failed
    with pytest.raises(ValueError, match="magnitud is not a setting; did you mean 'magnitude'"):
        RandAugment(magnitud=3.0)

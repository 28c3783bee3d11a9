"""Views: drawn numbers by range and frequency, pixels against exact references."""

from __future__ import annotations

import pytest
import torch
from repro.augment.digits import Geometry
from scipy import stats
from torch import Tensor

from repro.augment import digits, points
from repro.augment.views import labelled_view, to_input, unlabelled_views
from repro.data import DigitsData, TwoMoonsData
from repro.seeding import Streams
from repro.settings import View

IMAGES = Streams(0).uniform("images", 0, (4, 1, 8, 8))
BOTH = {View.weak, View.strong}
LEAST_P = 1e-3  # the seeds are fixed, so a sound generator passes for ever; a broken one gives a p far below this


def geometry(right: float = 0, down: float = 0, degrees: float = 0, shear: float = 0) -> Geometry:
    """The same map for all four images."""
    return Geometry(torch.tensor([[right, down]] * 4), torch.full((4,), degrees), torch.full((4,), shear))


def shifted(images: Tensor, right: int, down: int) -> Tensor:
    """Images rolled, with zeros for what came round."""
    rolled = images.roll((down, right), (-2, -1))
    rows, columns = torch.arange(8)[:, None] - down, torch.arange(8) - right
    return rolled * ((rows >= 0) & (rows < 8) & (columns >= 0) & (columns < 8))


def test_no_motion_leaves_images_unchanged() -> None:
    """The identity map gives the images themselves, bit for bit."""
    assert torch.equal(IMAGES, digits.apply(IMAGES, geometry()))


@pytest.mark.parametrize("right", [-1, 0, 1, 3])
@pytest.mark.parametrize("down", [-1, 0, 2])
def test_whole_shifts_move_pixels(right: int, down: int) -> None:
    """A shift by whole pixels moves them right and down, bit for bit, and zeros come in."""
    assert torch.equal(shifted(IMAGES, right, down), digits.apply(IMAGES, geometry(right, down)))


def test_half_shift_averages_neighbours() -> None:
    """Half a pixel to the right averages each pixel with its left neighbour, zero at the edge."""
    expected = (IMAGES + shifted(IMAGES, 1, 0)) / 2

    torch.testing.assert_close(digits.apply(IMAGES, geometry(right=0.5)), expected, rtol=0, atol=1e-6)  # float32


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_is_anticlockwise(degrees: int, turns: int) -> None:
    """90 degrees turn an image once anticlockwise as seen."""
    expected = torch.rot90(IMAGES, turns, (-2, -1))

    torch.testing.assert_close(
        digits.apply(IMAGES, geometry(degrees=degrees)), expected, rtol=0, atol=1e-5
    )  # cos 90 > 0


def test_shear_moves_rows_against_each_other() -> None:
    """A shear of 2 shifts a row y pixels below the centre by 2 y: those next to the centre by one, opposite ways."""
    out = digits.apply(IMAGES, geometry(shear=2.0))
    left, right = shifted(IMAGES, -1, 0), shifted(IMAGES, 1, 0)

    torch.testing.assert_close(out[..., 4, :], left[..., 4, :], rtol=0, atol=1e-5)  # float32
    torch.testing.assert_close(out[..., 3, :], right[..., 3, :], rtol=0, atol=1e-5)


def test_each_image_has_its_own_map() -> None:
    """One map for each image: only the second moves."""
    maps = Geometry(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), torch.zeros(4), torch.zeros(4))
    out = digits.apply(IMAGES, maps)

    assert torch.equal(shifted(IMAGES, 1, 0)[1], out[1])
    assert torch.equal(IMAGES[[0, 2, 3]], out[[0, 2, 3]])


def test_weak_draws_are_whole_shifts() -> None:
    """All nine shifts by up to one pixel are equally frequent; nothing turns or shears."""
    drawn = digits.draw_weak(Streams(0), "weak view", 0, 9000)
    counts = torch.bincount(((drawn.shift + 1) @ torch.tensor([3.0, 1.0])).long(), minlength=9)

    assert {-1.0, 0.0, 1.0} == set(drawn.shift.unique().tolist())
    assert LEAST_P < stats.chisquare(counts.numpy()).pvalue
    assert not drawn.degrees.any()
    assert not drawn.shear.any()


def test_strong_draws_are_uniform_in_their_range() -> None:
    """Shifts within 1.5 pixels, turns within 30 degrees, shears within 0.3, each uniform and unrelated."""
    drawn = digits.draw_strong(Streams(0), 0, 9000)
    units = torch.stack([drawn.shift[:, 0] / 1.5, drawn.shift[:, 1] / 1.5, drawn.degrees / 30, drawn.shear / 0.3])
    for unit in units:
        assert LEAST_P < stats.kstest(unit.numpy(), stats.uniform(-1, 2).cdf).pvalue
    off_diagonal = units.corrcoef() - torch.eye(4)
    assert float(off_diagonal.abs().max()) < 0.045  # 4 standard errors, 1 / sqrt(9000) each


def test_jitter_has_its_spread() -> None:
    """Offsets of points are normal with the given standard deviation, and are added."""
    offsets = points.draw_strong(Streams([1, 2]), 0, 4000, 0.15)
    examples = Streams([1, 2]).uniform("x", 0, (4000, 2))

    assert (2, 4000, 2) == tuple(offsets.shape)
    assert LEAST_P < stats.kstest(offsets.flatten().double().numpy(), stats.norm(0, 0.15).cdf).pvalue
    assert torch.equal(examples + offsets, points.apply(examples, offsets))


def test_views_of_digits_differ() -> None:
    """Weak, strong and labelled views are drawn apart, anew at each step, and the same for the same step."""
    raw = (IMAGES * 16).to(torch.uint8).repeat(8, 1, 1, 1)
    weak, strong = unlabelled_views(raw, DigitsData(), BOTH, Streams(0), 5)
    labelled = labelled_view(raw, DigitsData(), Streams(0), 5)
    again, later = (unlabelled_views(raw, DigitsData(), BOTH, Streams(0), step) for step in (5, 6))

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
    both, alone = (unlabelled_views(raw, DigitsData(), wanted, Streams(0), 5) for wanted in (BOTH, {view}))

    assert torch.equal(both[index], alone[index])
    assert torch.equal(to_input(raw, DigitsData()), alone[1 - index])


def test_views_of_points() -> None:
    """A point's weak and labelled views are itself, its strong view is moved."""
    x = Streams(0).uniform("x", 0, (5, 2))
    weak, strong = unlabelled_views(x, TwoMoonsData(), BOTH, Streams(0), 0)

    assert x is weak
    assert x is labelled_view(x, TwoMoonsData(), Streams(0), 0)
    assert not torch.equal(x, strong)


def test_grey_levels_become_numbers_up_to_one() -> None:
    """Grey levels 0, 8, 16 are 0, 0.5, 1; points stay."""
    assert [0.0, 0.5, 1.0] == to_input(torch.tensor([0, 8, 16], dtype=torch.uint8), DigitsData()).tolist()
    assert [16.0] == to_input(torch.tensor([16.0]), TwoMoonsData()).tolist()

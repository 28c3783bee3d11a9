"""Views of images: drawn numbers by range and frequency, whole views against NumPy, and no waiting for a device."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import Tensor

from repro.augment import Arithmetic, ImageViews, Operations, randaugment
from repro.augment.randaugment import POOLS, Layer, Operation
from repro.augment.views import Crop, Strong, apply_crop, apply_strong, draw_crop, draw_strong, normalise
from repro.seeding import Streams

Bytes = npt.NDArray[np.uint8]

VIEWS = ImageViews()
IMAGES = Streams(0).integers("images", 0, 256, (64, 3, 32, 32)).to(torch.uint8)
STRONG = draw_strong(Streams(0), 0, 64, VIEWS)
MANY = 20_000
LEAST_P = 1e-3  # the seeds are fixed, so a sound generator passes for ever; a broken one gives a p far below this
PLAIN = Crop(torch.zeros(64, dtype=torch.bool), torch.full((64, 2), 4))  # no flip, and back to where the padding began


def cropped(image: Bytes, flip: bool, row: int, column: int, padding: int, fill: int) -> Bytes:
    """One image [C, H, W]: flip, pad, crop, as one would write it down."""
    height, width = image.shape[1:]
    turned = image[:, :, ::-1] if flip else image
    padded = np.pad(turned, ((0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    return padded[:, row : row + height, column : column + width]


def one(drawn: Strong, index: int) -> Strong:
    """What was drawn for one image alone."""
    part = slice(index, index + 1)
    layers = tuple(Layer(*(getattr(layer, f.name)[part] for f in fields(Layer))) for layer in drawn.layers)
    return Strong(layers, drawn.cutout[part], Crop(drawn.crop.flip[part], drawn.crop.offset[part]))


def assert_uniform(drawn: Tensor, values: int) -> None:
    """The integers 0 to values - 1 all occur, equally often."""
    assert set(range(values)) == set(drawn.unique().tolist())
    assert LEAST_P < stats.chisquare(torch.bincount(drawn.flatten()).numpy()).pvalue


# Flip and crop


@pytest.mark.parametrize(("padding", "fill"), [(4, 128), (3, 0), (0, 128)])
def test_crop_is_flip_then_pad_then_crop(padding: int, fill: int) -> None:
    """Every image of a drawn batch is what NumPy makes of it, oblong ones with one channel included."""
    views = ImageViews(crop_padding=padding, fill=fill)
    crop = draw_crop(Streams(3), "weak view", 0, 64, views)
    for images in (IMAGES, IMAGES[:, :1, :20]):
        expected = [
            cropped(image, bool(flip), *offset, padding, fill)
            for image, flip, offset in zip(images.numpy(), crop.flip, crop.offset.tolist(), strict=True)
        ]

        np.testing.assert_array_equal(np.stack(expected), apply_crop(images, crop, views).numpy())


def test_crop_draws_are_uniform() -> None:
    """Flips are fair, all 81 offsets equally frequent, and flips say nothing about offsets."""
    crop = draw_crop(Streams(0), "weak view", 0, MANY, VIEWS)
    cells = crop.flip * 81 + crop.offset[:, 0] * 9 + crop.offset[:, 1]

    assert_uniform(cells, 162)


# Strong views: what is drawn


@pytest.mark.parametrize("pool", list(Operations))
def test_operations_are_drawn_uniformly(pool: Operations) -> None:
    """Both layers draw all pairs of operations, and of signs, equally often, so with replacement and independently."""
    drawn = draw_strong(Streams(0), 0, MANY, ImageViews(operations=pool))
    place = {operation: index for index, operation in enumerate(POOLS[pool])}
    first, second = (torch.tensor([place[Operation(op)] for op in layer.operation.tolist()]) for layer in drawn.layers)

    assert_uniform(first * len(place) + second, len(place) ** 2)
    one, other = (layer.negative for layer in drawn.layers)
    assert_uniform(one * 2 + other.long(), 4)


def test_layers_share_the_rate_and_decide_alone() -> None:
    """Given the rate p, both layers are applied with p squared, none with (1 - p) squared: in sum 0.28, 0.28 and 0.44.

    With a rate for each layer it would be 0.25, 0.25 and 0.5; with a shared decision the sum of the first two were 1.
    """
    drawn = draw_strong(Streams(0), 0, MANY, VIEWS)
    first, second = (layer.applied.long() for layer in drawn.layers)
    rate = 0.2 + 0.6 * Streams(0).uniform("strong view rate", 0, (MANY,))
    observed = torch.bincount(first + second).numpy()

    assert LEAST_P < stats.chisquare(observed, MANY * np.array([0.28, 0.44, 0.28])).pvalue
    for low, high in ((0.2, 0.4), (0.6, 0.8)):  # a high rate applies more
        share = float(first[(rate >= low) & (rate < high)].double().mean())
        assert share == pytest.approx((low + high) / 2, abs=4 * 0.5 / np.sqrt(MANY / 3))  # 4 standard errors


def test_centres_are_uniform() -> None:
    """Both layers' and the last Cutout's centre fall on every pixel of 32x32 equally often, never outside."""
    drawn = draw_strong(Streams(0), 0, MANY, VIEWS)
    for centre in (*(layer.centre for layer in drawn.layers), drawn.cutout):
        row, column = (centre * 32).floor().long().unbind(-1)
        assert_uniform(row * 32 + column, 32 * 32)


def test_partners_are_the_other_images() -> None:
    """Each image meets every other one equally often and never itself; a single image meets itself."""
    many = ImageViews(operations=Operations.paper, layers=100)
    layers = [layer for step in range(20) for layer in draw_strong(Streams(0), step, 5, many).layers]
    ahead = (torch.stack([layer.partner for layer in layers]) - torch.arange(5) - 1) % 5
    for of_one_image in ahead.unbind(-1):
        assert_uniform(of_one_image, 4)
    assert [0] == draw_strong(Streams(0), 0, 1, VIEWS).layers[0].partner.tolist()


def test_draws_are_independent() -> None:
    """No two of the strong view's numbers are correlated, nor with the weak view's."""
    drawn = draw_strong(Streams(0), 0, MANY, VIEWS)
    weak = draw_crop(Streams(0), "weak view", 0, MANY, VIEWS)
    columns = [Streams(0).uniform("strong view rate", 0, (MANY,)), *drawn.cutout.unbind(-1)]
    for crop in (drawn.crop, weak):
        columns += [crop.flip, *crop.offset.unbind(-1)]
    for layer in drawn.layers:
        ahead = (layer.partner - torch.arange(MANY)) % MANY
        columns += [layer.operation, layer.negative, *layer.centre.unbind(-1), ahead]
    off_diagonal = torch.stack([column.double() for column in columns]).corrcoef() - torch.eye(len(columns))

    assert float(off_diagonal.abs().max()) < 4.5 / np.sqrt(MANY)  # 4.5 standard errors, for 171 pairs


# Strong views: what is made of it


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_a_batch_is_its_images_one_by_one(arithmetic: Arithmetic) -> None:
    """Each image's view depends on that image and its numbers alone; every operation occurs among them."""
    views = ImageViews(arithmetic=arithmetic)
    together = apply_strong(IMAGES, STRONG, views)
    alone = torch.cat([apply_strong(IMAGES[index : index + 1], one(STRONG, index), views) for index in range(64)])
    occurring = {op for layer in STRONG.layers for op in layer.operation[layer.applied].tolist()}

    assert torch.equal(together, alone)
    assert set(POOLS[Operations.released]) == occurring


def test_strong_view_is_layers_then_cutout_then_crop() -> None:
    """Layer by layer, then a square of 16 pixels, then flip and crop, each as written down in NumPy."""
    args = randaugment.arguments(VIEWS)
    after = IMAGES
    for layer in STRONG.layers:
        after = randaugment.apply(after, IMAGES, layer, args)
    expected = after.numpy().copy()
    for index, image in enumerate(expected):
        row, column = (int(at) for at in STRONG.cutout[index] * 32)
        image[:, max(0, row - 8) : row + 8, max(0, column - 8) : column + 8] = 128
        flip, offset = bool(STRONG.crop.flip[index]), STRONG.crop.offset[index].tolist()
        expected[index] = cropped(image, flip, *offset, 4, 128)

    np.testing.assert_array_equal(expected, apply_strong(IMAGES, STRONG, VIEWS).numpy())


def test_parts_of_the_strong_view_can_be_left_out() -> None:
    """Without operations, Cutout and second crop the strong view is the weak one; each alone changes something."""
    bare = {"lowest_rate": 0.0, "highest_rate": 0.0, "cutout": 0, "recrop": False}
    for change in ({}, {"highest_rate": 1.0}, {"cutout": 16}, {"recrop": True}):
        views = ImageViews(**{**bare, **change})  # type: ignore[arg-type]
        result = apply_strong(IMAGES, draw_strong(Streams(0), 0, 64, views), views)
        assert (not change) == torch.equal(IMAGES, result)


def test_constants_reach_the_operations() -> None:
    """Cutout and translations of larger images take their own constants."""
    views = ImageViews(layers=1, magnitude=10, cutout=0, recrop=False)
    no, yes = torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    operations = torch.tensor([Operation.cutout, Operation.translate_x])
    layer = Layer(operations, negative=no, centre=torch.full((2, 2), 0.5), partner=torch.arange(2), applied=yes)
    drawn = Strong((layer,), torch.zeros(2, 2), PLAIN)
    black = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    for cutout, translate in ((4, 4), (10, 25)):
        out = apply_strong(black, drawn, views, cutout_const=cutout, translate_const=translate)
        assert [(2 * cutout) ** 2, 64 * translate] == (out[:, 0] == 128).flatten(1).sum(dim=1).tolist()


# On a device


def test_everything_stays_on_the_device() -> None:
    """Without data, on the meta device, views are drawn and applied: no value is read and nothing is made elsewhere."""
    streams, images = Streams(0, "meta"), IMAGES.to("meta")
    for views in (VIEWS, ImageViews(operations=Operations.paper, arithmetic=Arithmetic.standard)):
        weak = apply_crop(images, draw_crop(streams, "weak view", 0, 64, views), views)
        strong = apply_strong(weak, draw_strong(streams, 0, 64, views), views)
        assert ("meta", torch.uint8, (64, 3, 32, 32)) == (strong.device.type, strong.dtype, tuple(strong.shape))
        assert "meta" == normalise(strong, (0.5,) * 3, (0.25,) * 3).device.type
        # An index on the meta device hides where the table that it reads is.
        args, device = randaugment.arguments(views), images.device
        tables = [randaugment._tables(args, device), randaugment._factors(args, device)]
        tables += [randaugment._maps(args, 32, 32, device), randaugment.pool(views.operations, device)]
        assert {"meta"} == {table.device.type for table in tables}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bytes() -> None:
    """Draws and views are the CPU's, byte for byte, in every pool and arithmetic."""
    for pool, arithmetic in itertools.product(Operations, Arithmetic):
        views = ImageViews(operations=pool, arithmetic=arithmetic)
        here, there = (
            apply_strong(IMAGES.to(device), draw_strong(Streams(0, device), 0, 64, views), views).cpu()
            for device in ("cpu", "cuda")
        )

        assert torch.equal(here, there)


# Networks' input, and refusals


def test_normalise() -> None:
    """(x - 255 mean) / (255 std) by channel, in float32."""
    mean, std = (0.4914, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)
    shape = (1, 3, 1, 1)
    centre, spread = (np.array(numbers, np.float32).reshape(shape) * np.float32(255) for numbers in (mean, std))
    expected = (IMAGES.numpy().astype(np.float32) - centre) / spread

    assert torch.equal(torch.from_numpy(expected), normalise(IMAGES, mean, std))


@pytest.mark.parametrize(("call", "wanted"), [
    (lambda: apply_crop(IMAGES.float(), PLAIN, VIEWS), r"torch.float32 .* need torch.uint8 \[64, C, H, W\]"),
    (lambda: apply_crop(IMAGES[:1], PLAIN, VIEWS), r"\[1, 3, 32, 32\]; need torch.uint8 \[64, C, H, W\]"),
    (lambda: apply_strong(IMAGES[:, :1], STRONG, VIEWS), r"\[64, 1, 32, 32\]; need torch.uint8 \[64, 3, H, W\]"),
    (lambda: normalise(IMAGES.float(), (0.5,) * 3, (0.5,) * 3), r"need torch.uint8 \[64, 3, H, W\]"),
])  # fmt: skip
def test_other_images_are_refused(call: Callable[[], Tensor], wanted: str) -> None:
    """The message names what was given and what is wanted."""
    with pytest.raises(ValueError, match=wanted):
        call()

"""RandAugment's operations against the released code's own results and against Pillow.

`goldens/augment_ops.npz` holds what the released code's functions gave for eight 32x32 images, run with TensorFlow
2.12 on a CPU (six drawn images, two of CIFAR-10's test images), for each operation, sign and several magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from repro.augment import Arithmetic, ImageViews, Operations, randaugment
from repro.augment.randaugment import Layer, Operation, arguments
from repro.seeding import Streams
from tests.released import kept

Bytes = npt.NDArray[np.uint8]

BY_NAME = {"".join(part.capitalize() for part in op.name.split("_")): op for op in Operation}
"""Operations by the names of the paper and the released code, such as ShearX."""


GOLDEN = kept("augment_ops")


CASES = [name for name in GOLDEN if name.split("/")[0] in BY_NAME]
"""The arrays that are results of one operation, such as `ShearX/m16/neg` and `Color/m10/saturated`."""


def to_batch(images: npt.NDArray[np.generic]) -> Tensor:
    """NHWC bytes as NCHW."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def to_arrays(batch: Tensor) -> Bytes:
    """NCHW bytes as NHWC."""
    array: Bytes = batch.permute(0, 2, 3, 1).numpy()
    return array


def layer_of(
    operation: Operation, count: int, *, negative: bool = False, centre: tuple[float, float] = (0, 0)
) -> Layer:
    """The same operation for all images; SamplePairing's partner is the next image."""
    return Layer(
        operation=torch.full((count,), operation, dtype=torch.int64),
        negative=torch.full((count,), negative),
        centre=torch.tensor(centre, dtype=torch.float32).expand(count, 2),
        partner=(torch.arange(count) + 1) % count,
        applied=torch.ones(count, dtype=torch.bool),
    )


def applied(images: Tensor, operation: Operation, views: ImageViews, *, negative: bool = False) -> Tensor:
    """The images after one operation."""
    return randaugment.apply(images, images, layer_of(operation, len(images), negative=negative), arguments(views))


@pytest.mark.parametrize("name", CASES)
def test_operations_give_the_released_bytes(name: str) -> None:
    """Every byte of every case is the released code's: all 15 operations, signs, and magnitudes 3, 5, 10 and 16.

    The references marked `saturated` are the same code with a saturating last cast. Contrast has them with the released
    pivot, so there the two halves of `standard` are taken apart.
    """
    operation, *rest = name.split("/")
    views = ImageViews(magnitude=float(rest[0][1:]) if rest else 0.0)
    args = arguments(views)
    images = to_batch(GOLDEN["images"])
    row, column = (float(at) / 32 for at in GOLDEN["cutout_centre_yx"])
    layer = layer_of(BY_NAME[operation], len(images), negative=rest[-1:] == ["neg"], centre=(row, column))
    if operation == "Contrast" and rest[-1] == "saturated":
        pivot = torch.full((1, 1, 1, 1), randaugment.contrast_pivot(images, Arithmetic.released))
        result = randaugment.blend(pivot, images.float(), args.factor, Arithmetic.standard)
    elif rest[-1:] == ["saturated"]:
        result = randaugment.apply(images, images, layer, replace(args, arithmetic=Arithmetic.standard))
    else:
        result = randaugment.apply(images, images, layer, args)

    np.testing.assert_array_equal(to_arrays(result), GOLDEN[name])


def test_the_last_cutout_is_the_released_one() -> None:
    """A 16x16 square about the reference's centre, cut off at the right edge."""
    images, (row, column) = to_batch(GOLDEN["images"]), (float(at) / 32 for at in GOLDEN["cutout_centre_yx"])
    erased = randaugment.square(torch.tensor([[row, column]]), 8, 32, 32)

    np.testing.assert_array_equal(to_arrays(images.masked_fill(erased[:, None], 128)), GOLDEN["final_cutout16"])


def test_halves_are_rounded_away_from_zero() -> None:
    """-0.5 is -1 and 2.5 is 3; the largest float32 below 0.5 is 0."""
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    values = torch.tensor([-1.5, -0.5, -below, 0.0, below, 0.5, 1.5, 2.5, 2.4, -3.6])

    assert [-2, -1, 0, 0, 0, 1, 2, 3, 2, -4] == randaugment.round_half_away(values).tolist()


def test_arguments_at_the_released_settings() -> None:
    """Magnitude 16 at 32x32 pixels, and 17 at 224x224 with the constants of ImageNet; whole numbers are truncated."""
    small = arguments(ImageViews(magnitude=16))
    between = arguments(ImageViews(magnitude=17))  # 6.8 bits and pixels
    large = arguments(ImageViews(magnitude=17), cutout_const=40, translate_const=100)

    assert (6, 409, 6) == (small.bits, small.threshold, small.half)
    assert (6, 435, 6) == (between.bits, between.threshold, between.half)
    assert (48, 0.48, 6.4, 2.98) == pytest.approx((small.degrees, small.slope, small.pixels, small.factor))
    assert (68, 170.0) == (large.half, pytest.approx(large.pixels))
    assert 196.0 == randaugment.contrast_pivot(torch.zeros(1, 3, 224, 224, dtype=torch.uint8), Arithmetic.released)


# Against Pillow, from which the operations come. Two sizes, so that height and width cannot be taken for each other.
SMALL = to_batch(GOLDEN["images"])
OBLONG = Streams(0).integers("pixels", 0, 256, (2, 3, 20, 33)).to(torch.uint8)
BATCHES = [SMALL, OBLONG]
MAGNITUDES = [3.0, 16.0]


def by_pillow(images: Tensor, function: Callable[[Image.Image], Image.Image]) -> Bytes:
    """A function of Pillow on each image."""
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in to_arrays(images)])


def standard(images: Tensor, operation: Operation, magnitude: float) -> Bytes:
    """One operation in the standard arithmetic."""
    return to_arrays(applied(images, operation, ImageViews(magnitude=magnitude, arithmetic=Arithmetic.standard)))


@pytest.mark.parametrize("images", BATCHES, ids=["32x32", "20x33"])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_tables_equal_pillow(images: Tensor, magnitude: float) -> None:
    """Equalize, Invert, Posterize and Solarize give Pillow's bytes."""
    args = arguments(ImageViews(magnitude=magnitude))
    pairs: list[tuple[Operation, Callable[[Image.Image], Image.Image]]] = [
        (Operation.equalize, ImageOps.equalize),
        (Operation.invert, ImageOps.invert),
        (Operation.posterize, lambda image: ImageOps.posterize(image, args.bits)),
        (Operation.solarize, lambda image: ImageOps.solarize(image, min(args.threshold, 256))),
    ]
    for operation, function in pairs:
        np.testing.assert_array_equal(standard(images, operation, magnitude), by_pillow(images, function))


def test_counting_leaves_pytorch_as_strict_as_it_was() -> None:
    """Equalize's whole numbers may be summed in any order; what comes after them may not."""
    assert torch.get_deterministic_debug_mode() == 2  # an error, by conftest.py

    standard(BATCHES[0], Operation.equalize, 10)

    assert torch.get_deterministic_debug_mode() == 2


@pytest.mark.parametrize("images", BATCHES, ids=["32x32", "20x33"])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(
    "operation", [Operation.rotate, Operation.shear_x, Operation.shear_y, Operation.translate_x, Operation.translate_y]
)
def test_moves_are_pillows_but_for_ties(images: Tensor, magnitude: float, negative: bool, operation: Operation) -> None:
    """Pillow's nearest pixel wherever the place is not halfway between two.

    Pillow measures from the corner of the first pixel, the released code from its centre: a shear by s about the one is
    a shear about the other and a shift by s / 2. The map is given to Pillow in its own terms.
    """
    height, width = images.shape[-2:]
    views = ImageViews(magnitude=magnitude)
    maps = randaugment._maps(arguments(views), height, width, torch.device("cpu"))[operation, int(negative)]
    a, b, c, d, e, f = maps.tolist()
    in_pillows_terms = (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)
    pillow = by_pillow(
        images,
        lambda image: image.transform(
            image.size, Image.Transform.AFFINE, in_pillows_terms, Image.Resampling.NEAREST, fillcolor=(128, 128, 128)
        ),
    )
    ours = to_arrays(applied(images, operation, views, negative=negative))
    y, x = np.mgrid[:height, :width]
    off_tie = [np.abs(np.abs(at % 1) - 0.5) > 1e-3 for at in (a * x + b * y + c, d * x + e * y + f)]  # Pillow: 16 bits
    clear = off_tie[0] & off_tie[1]

    np.testing.assert_array_equal(ours[:, clear], pillow[:, clear])
    assert clear.mean() > 0.8


def test_standard_contrast_pivots_on_the_mean_grey() -> None:
    """An image of one grey level keeps it in the standard arithmetic and loses it in the released one."""
    images = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    views = ImageViews(magnitude=3.0)

    assert torch.equal(images, applied(images, Operation.contrast, replace(views, arithmetic=Arithmetic.standard)))
    assert 65 == int(applied(images, Operation.contrast, views)[0, 0, 0, 0])  # 4 + 0.64 (100 - 4) = 65.44


def test_released_arithmetic_wraps() -> None:
    """200 at factor 1.9 is 380 and becomes 124, or 255 where it saturates; Solarize at 10 inverts all or nothing."""
    images = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)
    results = [
        int(applied(images, operation, ImageViews(magnitude=10, arithmetic=arithmetic))[0, 0, 0, 0])
        for operation in (Operation.brightness, Operation.solarize)
        for arithmetic in (Arithmetic.released, Arithmetic.standard)
    ]

    assert [380 - 256, 255, 55, 200] == results


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_what_changes_nothing(arithmetic: Arithmetic) -> None:
    """Moves at magnitude 0, blends at factor 1 (magnitude 5), and a layer not applied leave every byte as it is."""
    images = Streams(0).integers("pixels", 0, 256, (40, 3, 16, 16)).to(torch.uint8)
    at_zero = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y", "cutout", "sample_pairing", "identity"]
    views = ImageViews(operations=Operations.paper, arithmetic=arithmetic)
    args = arguments(views)
    for name in at_zero:
        assert torch.equal(images, applied(images, Operation[name], replace(views, magnitude=0.0)))
    for name in ("color", "contrast", "brightness", "sharpness"):
        assert torch.equal(images, applied(images, Operation[name], replace(views, magnitude=5.0)))
    for operation in Operation:
        layer = replace(layer_of(operation, 40), applied=torch.zeros(40, dtype=torch.bool))
        assert torch.equal(images, randaugment.apply(images, images, layer, args))


@pytest.mark.parametrize(("magnitude", "weight"), [(5.0, 0.2), (10.0, 0.4), (12.5, 0.5), (16.0, 0.5), (30.0, 0.5)])
def test_sample_pairing_mixes_in_the_partner(magnitude: float, weight: float) -> None:
    """The partner's weak view has weight 0.04 per unit of magnitude, but no more than 1/2."""
    weak = Streams(0).integers("pixels", 0, 256, (6, 3, 16, 16)).to(torch.uint8)
    images = Streams(0).integers("others", 0, 256, (6, 3, 16, 16)).to(torch.uint8)
    args = arguments(ImageViews(operations=Operations.paper, magnitude=magnitude))
    ours = randaugment.apply(images, weak, layer_of(Operation.sample_pairing, 6), args)
    exact = ((1 - weight) * images.double() + weight * weak.roll(-1, 0).double()) * (255.5 / 255)

    assert weight == pytest.approx(args.pairing)
    assert float((ours - (exact - 0.5)).abs().max()) < 0.5 + 1e-4  # rounded down; float32 at 255

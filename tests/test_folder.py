"""Images in files: which are labelled, where they are cropped, and that what is read is what Pillow reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, TiffImagePlugin
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from repro.augment import CropViews, Operations, randaugment
from repro.augment.randaugment import POOLS, Operation
from repro.augment.views import Part, draw_boxes
from repro.data import FolderData, source_of
from repro.data.folder import drawn_by_class, drawn_evenly, listing_path
from repro.data.images import ImageFiles, centres, read_image
from repro.fit.saved import read_file
from repro.seeding import Streams
from tests.entry_points import python
from tests.folders import files_of, listed, picture, prepared, write_folder, write_image

pytestmark = pytest.mark.usefixtures("workplace")


def files(root: Path, names: list[str], size: int = 16) -> ImageFiles:
    """Some image files, with their upright sides."""
    sides = [ImageOps.exif_transpose(Image.open(root / name)).size for name in names]
    digests = np.zeros((len(names), 16), dtype=np.uint8)
    paths = np.array([name.encode() for name in names], dtype=np.bytes_)
    return ImageFiles(root, paths, np.array(sides, dtype=np.int32), digests, size)


# Splits


def test_labels_are_drawn_evenly_and_exhaust_small_classes() -> None:
    """As many of each class as can be; a small class gives all, the others what is then missing; exactly so many."""
    labels = np.array([0] * 50 + [1] * 3 + [2] * 40 + [3] * 1)
    for count, wanted in ((4, [1, 1, 1, 1]), (24, [10, 3, 10, 1]), (93, [49, 3, 40, 1]), (94, [50, 3, 40, 1])):
        found = drawn_evenly(labels, 4, count, seed=0)
        counts = np.bincount(labels[found], minlength=4).tolist()

        assert count == len(found) == len(set(found.tolist()))
        assert sorted(found.tolist()) == found.tolist()
        assert wanted == counts
    assert [2, 2, 3] == sorted(np.bincount(labels[drawn_evenly(labels, 4, 8, seed=0)])[:3].tolist())


def test_another_seed_draws_other_labels() -> None:
    """The draw is a function of the seed; each image is as likely as any other of its class."""
    labels = np.arange(400) % 4
    draws = [drawn_evenly(labels, 4, 40, seed) for seed in range(200)]

    assert draws[0].tolist() == drawn_evenly(labels, 4, 40, 0).tolist()
    assert draws[0].tolist() != draws[1].tolist()
    often = np.bincount(np.concatenate(draws), minlength=400)
    assert 0.001 < stats.chisquare(often).pvalue


def test_labelled_and_unlabelled_images_are_all_there_are(tmp_path: Path) -> None:
    """Apart, together, or, where nothing is left unlabelled, the labelled ones as unlabelled ones too."""
    root = write_folder(tmp_path / "images", {"cat": 8, "dog": 8, "unlabelled": 4})
    apart = source_of(prepared(root, labels=6)).training_set(3)
    together = source_of(prepared(root, labels=6, labelled_in_unlabelled=True)).training_set(3)
    (root / "all.csv").write_text("".join(f"{p.relative_to(root)},{p.name[0]}\n" for p in root.rglob("*.jpg")))
    every = source_of(prepared(root, labelled="all.csv")).training_set(3)

    assert list(range(20)) == sorted([*apart.labelled_indices.tolist(), *apart.unlabelled_indices.tolist()])
    assert [3, 3] == torch.bincount(apart.labels).tolist()
    assert apart.labelled_indices.tolist() == together.labelled_indices.tolist()
    assert list(range(20)) == together.unlabelled_indices.tolist()
    assert 4 == int((together.hidden_labels == -1).sum())
    assert (20, 20) == (len(every.labels), len(every.unlabelled))


def test_a_share_of_each_class_is_set_aside(tmp_path: Path) -> None:
    """A fifth, rounded, of each class, one label staying: neither labelled nor unlabelled any more."""
    write_folder(tmp_path / "images", {"a": 8, "bb": 3, "c": 1}, "png")
    source = source_of(prepared(tmp_path / "images", set_aside=0.2, labelled_in_unlabelled=True))
    aside, training = source.set_aside_set(0), source.training_set(0)

    assert [2, 1] == torch.bincount(aside.labels).tolist()
    assert [6, 2, 1] == torch.bincount(training.labels).tolist()
    names = [{bytes(name) for name in files.paths} for files in  # type: ignore[union-attr]
             (aside.examples, training.labelled, training.unlabelled)]  # fmt: skip
    assert names[0].isdisjoint(names[1] | names[2])
    assert len(names[0] | names[2]) == 12
    assert [] == drawn_by_class(np.array([0, 1]), 2, 0.9, 0).tolist()
    assert 1 < len({tuple(drawn_by_class(np.arange(40) % 2, 2, 0.2, seed)) for seed in range(2)})


def test_the_hash_of_the_data_is_of_contents_and_split(tmp_path: Path) -> None:
    """Another content, class or draw is another data set; a folder that was moved or renamed is not."""
    root = write_folder(tmp_path / "images", {"cat": 6, "dog": 6})
    write_folder(root / "test", {"cat": 2, "dog": 2})
    config = prepared(root, labels=4, test="test")
    first, tested = source_of(config).training_hash([0]), source_of(config).held_out_hash([0])
    assert first != source_of(config).training_hash([1])
    moved = prepared(root.rename(tmp_path / "moved"), labels=4, test="test")
    assert (first, tested) == (source_of(moved).training_hash([0]), source_of(moved).held_out_hash([0]))
    write_image(tmp_path / "moved/dog/d0.jpg", seed=9)
    write_image(tmp_path / "moved/test/dog/d0.jpg", seed=9)
    changed = prepared(tmp_path / "moved", labels=4, test="test")
    assert first != source_of(changed).training_hash([0])
    assert tested != source_of(changed).held_out_hash([0])
    before = source_of(changed).held_out_hash([0])
    (tmp_path / "moved/test/cat/c1.jpg").rename(tmp_path / "moved/test/dog/c1.jpg")  # the same bytes in the same order
    assert before != source_of(prepared(tmp_path / "moved", labels=4, test="test")).held_out_hash([0])


def test_each_list_of_labels_is_prepared_by_itself() -> None:
    """A plan that names two of one folder looks through it for both."""
    first, other = (source_of(FolderData(root="images", labelled=name)) for name in ("a.csv", "b.csv"))

    assert first.key != other.key


@pytest.mark.parametrize(("operation", "share"), [
    (Operation.cutout, "cutout_share"),
    (Operation.translate_x, "translate_share"),
])  # fmt: skip
def test_cutout_and_shift_are_shares_of_the_side(
    operation: Operation, share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At magnitude 10, a shift of a quarter of 32 pixels empties 8 columns, Cutout of such a half side a 16 x 16."""
    monkeypatch.setitem(POOLS, Operations.released, (operation,))
    randaugment.pool.cache_clear()
    shares = {"cutout_share": 0.0, "translate_share": 0.0} | {share: 0.25}
    crops = CropViews(magnitude=10, layers=1, lowest_rate=1, highest_rate=1, fill=0, flip=False, **shares)  # type: ignore[arg-type]
    source: Any = source_of(FolderData(root="images", image_size=32, views=crops))
    white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    empty = (source.strong(white, white, Part(Streams(0), 0), "strong view") == 0)[:, 0].sum(dim=(1, 2))
    monkeypatch.undo()
    randaugment.pool.cache_clear()

    assert int(empty.max()) == (256 if operation is Operation.cutout else 8 * 32)
    assert int(empty.min()) > 0


def test_a_folder_without_test_images_holds_none_out(tmp_path: Path) -> None:
    """Nobody is refused for having no test images; there is nothing to evaluate."""
    config = prepared(write_folder(tmp_path / "images", {"cat": 2, "dog": 2}))

    assert 0 == len(source_of(config).held_out_set(0).labels)


def test_an_unprepared_or_damaged_folder_names_the_command(tmp_path: Path) -> None:
    """The listing is missing, or is not what was written."""
    root = write_folder(tmp_path / "images", {"cat": 2, "dog": 2})
    with pytest.raises(ValueError, match=r"is missing; data\.root = .*: prepare it: repro prepare"):
        source_of(FolderData(root=str(root))).settled()
    config = prepared(root)
    listing_path(config, "train").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"is damaged; data\.root"):
        source_of(config).training_set(0)


# Boxes


def test_boxes_are_distributed_as_torchvisions() -> None:
    """Share of the area, ratio of the sides and place of a random crop, on a wide image."""
    count, width, height = 4000, 640, 480
    sides = np.tile([width, height], (count, 1))
    left, upper, right, lower = draw_boxes(Streams(0), "weak view", 0, sides, CropViews()).T
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    top, side, high, wide = theirs.T
    ours = {
        "area": (right - left) * (lower - upper),
        "ratio": (right - left) / (lower - upper),
        "left": left / np.maximum(width - (right - left), 1),
        "upper": upper / np.maximum(height - (lower - upper), 1),
    }
    others = {"area": high * wide, "ratio": wide / high, "left": side / np.maximum(width - wide, 1),
              "upper": top / np.maximum(height - high, 1)}  # fmt: skip

    for what, values in ours.items():
        assert 0.001 < stats.ks_2samp(values, others[what]).pvalue, what


@pytest.mark.parametrize("sides", [(500, 375), (375, 500), (8, 2000), (2000, 8), (8, 8), (64, 64)])
def test_boxes_lie_within_the_image(sides: tuple[int, int]) -> None:
    """Whatever the image's shape: at least the smallest area where that fits, and of an allowed ratio."""
    views = CropViews()
    boxes = draw_boxes(Streams(1), "weak view", 5, np.tile(sides, (500, 1)), views)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]

    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= sides[0] + 1e-9).all()
    assert (boxes[:, 3] <= sides[1] + 1e-9).all()
    assert (np.abs(np.log(wide / high)) <= math.log(views.widest_ratio) + 1e-9).all()
    if max(sides) < 2 * min(sides):
        assert (wide * high >= views.smallest_area * sides[0] * sides[1] * (1 - 1e-9)).all()
        assert wide.std() > 0


# Reading


def test_reading_is_pillows_reading_bit_for_bit(tmp_path: Path) -> None:
    """Decoded, as RGB, the box resized bicubically: with one reader and with four, in the order asked for."""
    names = ["a.jpg", "b.png", "c.webp", "grey.png", "d.jpg"] * 5
    for number, name in enumerate(names[:5]):
        write_image(tmp_path / name, 50 + number, 40, number)
    picture(44, 33).convert("L").save(tmp_path / "grey.png")
    some = files(tmp_path, names)
    boxes = draw_boxes(Streams(0), "weak view", 0, some.sides, CropViews())
    images = (Image.open(tmp_path / name).convert("RGB") for name in names)
    plain = [np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC, tuple(box)))
             for image, box in zip(images, boxes.tolist(), strict=True)]  # fmt: skip
    expected = torch.from_numpy(np.stack(plain)).permute(0, 3, 1, 2)

    assert (25, 3, 16, 16) == some.shape
    assert torch.equal(expected, some.start_reading(boxes)())
    assert torch.equal(expected, some.start_reading(boxes, readers=4)())
    index = torch.tensor([7, 7, 0, 24])
    assert torch.equal(expected[index], some[index].start_reading(boxes[index.numpy()], readers=2)())
    assert some.start_reading(boxes)().is_contiguous()


def test_a_large_jpeg_decoded_at_a_fraction_shows_the_same(tmp_path: Path) -> None:
    """A box of 2 to 16 times the wanted side, anywhere, upright or turned, is within some grey levels of the whole."""
    smooth = picture(80, 60).resize((1200, 903), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    for orientation in (1, 3, 6):
        exif[0x0112] = orientation
        smooth.save(tmp_path / "large.jpg", quality=95, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(tmp_path / "large.jpg"))
        for left, upper, side in ((0, 0, 900), (100, 50, 500), (40, 390, 260), (300.5, 200.25, 64)):
            box = (left, upper, left + side, upper + side)
            whole = np.asarray(upright.resize((32, 32), Image.Resampling.BICUBIC, box)).astype(float)
            found = read_image(tmp_path / "large.jpg", 32, box).astype(float)
            assert np.abs(found - whole).mean() < 1.5, (orientation, box)
            assert np.abs(found - whole).max() < 25, (orientation, box)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_the_way_up_that_exif_says(orientation: int, suffix: str, tmp_path: Path) -> None:
    """All eight orientations of one picture are one picture, its sides and boxes included."""
    back = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}  # fmt: skip
    upright, turn = picture(48, 32), back[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    root = tmp_path / "images"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        stored.save(root / label / f"a.{suffix}", exif=exif, **how)
    listing = listed(prepared(root, image_size=16))
    boxes = np.array([[4.0, 2.0, 40.0, 20.5], [0.0, 0.0, 48.0, 32.0]])
    read = files_of(FolderData(root=str(root), image_size=16)).start_reading(boxes)()

    assert [[48, 32]] * 2 == listing.sides.tolist()
    for image, box in zip(read, boxes.tolist(), strict=True):
        expected = np.asarray(upright.resize((16, 16), Image.Resampling.BICUBIC, tuple(box))).transpose(2, 0, 1)
        assert np.abs(image.numpy().astype(int) - expected).max() <= (6 if suffix == "jpg" else 0)
    config = FolderData(root=str(root), image_size=16)
    assert torch.equal(files_of(config)[:1].centre()[0], read_file(root / f"cat/a.{suffix}", config, None))


def test_evaluation_looks_at_the_centre(tmp_path: Path) -> None:
    """A square of 7/8 of the shorter side, whatever the image's shape, normalised by ImageNet's constants."""
    write_image(tmp_path / "wide.png", 80, 40)
    some, data = files(tmp_path, ["wide.png"]), FolderData(image_size=16)
    assert [[22.5, 2.5, 57.5, 37.5]] == centres(some.sides, 0.875).tolist()
    plain = Image.open(tmp_path / "wide.png").resize((16, 16), Image.Resampling.BICUBIC, (22.5, 2.5, 57.5, 37.5))
    scaled = torch.from_numpy(np.array(plain)).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    expected = (scaled - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(source_of(data).as_evaluated(some)[0], expected, rtol=0, atol=1e-5)


def test_an_image_that_went_bad_names_the_remedy(tmp_path: Path) -> None:
    """Removed or damaged since it was prepared: the file is named in the reader's sentence."""
    write_image(tmp_path / "a.jpg")
    some = files(tmp_path, ["a.jpg"])
    for content in (None, b"nothing"):
        (tmp_path / "a.jpg").unlink(missing_ok=True)
        if content:
            (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.jpg cannot be read any more .* prepare again") as caught:
            some.centre()
        assert "\n" not in str(caught.value)


def test_a_forked_worker_reads_though_its_parent_has_read(tmp_path: Path) -> None:
    """Threads do not survive a fork: a worker that waited for its parent's would wait for ever."""
    write_image(tmp_path / "a.png")
    code = (
        "import multiprocessing, sys; from pathlib import Path; from tests.test_folder import files\n"
        "some = files(Path(sys.argv[1]), ['a.png'])\n"
        "read = lambda: some.centre(2).sum().item()\n"
        "here = read(); pipe, end = multiprocessing.Pipe()\n"
        "process = multiprocessing.get_context('fork').Process(target=lambda: end.send(read())); process.start()\n"
        "assert pipe.poll(20), 'hangs'; assert here == pipe.recv(); process.join()\n"
    )
    assert 0 == python("-c", code, str(tmp_path)).returncode


# Pixels


def halves(left: float, right: float, kind: type = np.uint8) -> Image.Image:
    """16 x 16 grey pixels of two levels."""
    return Image.fromarray(np.repeat(np.array([[left] * 8 + [right] * 8], dtype=kind), 16, axis=0))


def seen(*pictures_: Image.Image, suffix: str = "tif", **how: Any) -> list[tuple[int, int]]:
    """The levels of both halves of each image, as training on all of them and as predict sees them."""
    for number, one in enumerate(pictures_):
        for label in "ab"[: 2 if number == 0 else 1]:
            Path("images", label).mkdir(parents=True, exist_ok=True)
            one.save(f"images/{label}/{number}.{suffix}", **how)
    config = prepared(Path("images"), image_size=8)
    files, found = files_of(config), []
    for number in range(len(pictures_)):
        at = listed(config).paths.tolist().index(f"a/{number}.{suffix}".encode())
        read = files[at : at + 1].centre()[0].numpy()
        assert np.array_equal(read, read_file(Path(f"images/a/{number}.{suffix}"), config, files.levels).numpy())
        found.append((round(read[..., :2].mean()), round(read[..., -2:].mean())))
    return found


@pytest.mark.parametrize(("kind", "levels", "expected"), [
    (np.uint16, [(0, 65_535)], [(0, 255)]),
    (np.uint16, [(0, 4095)], [(0, 255)]),  # 12 bits in 16
    (np.uint16, [(0, 255), (0, 65_535)], [(0, 1), (0, 255)]),  # one scale, not one for each image
    (np.uint16, [(0, 255), (0, 256)], [(0, 254), (0, 255)]),
    (np.uint16, [(0, 2500), (0, 1250)], [(0, 255), (0, 128)]),  # fills no customary depth
    (np.uint16, [(29_000, 31_000), (30_000, 30_000)], [(0, 255), (127, 128)]),  # a thermal camera
    (np.uint16, [(0, 60_000), (0, 30_000)], [(0, 233), (0, 117)]),  # of all 16 bits
    (np.uint16, [(7, 7)], [(0, 0)]),
    (np.int32, [(0, 8_000_000), (4_000_000, 0)], [(0, 255), (128, 0)]),
    (np.int32, [(-1000, -745), (-1000, -1000)], [(0, 255), (0, 0)]),  # Hounsfield units
    (np.int32, [(-(2**31), 2**31 - 1)], [(0, 255)]),
    (np.int32, [(0, 255), (0, 100)], [(0, 255), (0, 100)]),
    (np.int32, [(0, 70_000), (0, 65_536)], [(0, 255), (0, 239)]),  # modulo 65,536 it would be 0
    (np.float32, [(0, 1), (0, 0.5)], [(0, 255), (0, 128)]),
    (np.float32, [(0, 1e30), (0, 5e29)], [(0, 255), (0, 128)]),
])  # fmt: skip
def test_levels_of_more_than_8_bits_have_one_scale(
    kind: type, levels: list[tuple[float, float]], expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    """The brighter is never the darker, in one image or between two; nothing wraps; predict has the scale of fit."""
    found = seen(*(halves(*pair, kind) for pair in levels))

    assert np.abs(np.array(found) - expected).max() <= 1


def test_test_images_have_the_scale_of_training(tmp_path: Path) -> None:
    """A darker test image stays darker, as it would when one is predicted."""
    for place, right in (("a", 4095), ("b", 4095), ("test/a", 2048), ("test/b", 1024)):
        Path("images", place).mkdir(parents=True, exist_ok=True)
        halves(0, right, np.uint16).save(f"images/{place}/0.tif")
    config = prepared(Path("images"), image_size=8, test="test")
    held_out: Any = source_of(config).held_out_set(0).examples

    assert [128, 64] == held_out.centre()[:, 0, 0, -1].tolist()


def test_a_few_bright_pixels_that_leave_little_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hot pixel of 65,535 among 12 bits; levels beyond the scale of fit stop at white."""
    hot = np.full((16, 16), 2000, np.uint16)
    hot[0, 0] = 65_535
    seen(halves(0, 4095, np.uint16), halves(100, 3000, np.uint16), Image.fromarray(hot))

    assert "3 of 4 images are nearly of one colour" in capsys.readouterr().out
    halves(0, 9999, np.uint16).save("beyond.png")
    assert read_file(Path("beyond.png"), FolderData(image_size=8), (0.0, 4095.0)).max() == 255


def test_a_scale_that_fit_has_not_seen(tmp_path: Path) -> None:
    """16 bits are read by their format; of 32 nobody knows."""
    halves(0, 32_768, np.uint16).save("16.png")
    halves(0, 9, np.int32).save("32.tif")

    assert int(read_file(Path("16.png"), FolderData(image_size=8), None)[0, 0, -1]) == 128
    with pytest.raises(ValueError, match=r"pixels of 32 bits .* whose scale the training images did not give"):
        read_file(Path("32.tif"), FolderData(image_size=8), None)


def shape(mode: str, colour: int, left: int = 0, right: int = 255) -> Image.Image:
    """One colour all over; how opaque the halves are, is the picture."""
    grey, alpha = np.full((16, 16), colour, np.uint8), np.asarray(halves(left, right))
    return Image.fromarray(np.stack([grey] * (len(mode) - 1) + [alpha], axis=-1))


def palette(colour: int, transparency: int | bytes) -> tuple[Image.Image, dict[str, Any]]:
    """Two entries of one colour, of which one or both are transparent; and how it is saved."""
    image = halves(0, 1)
    image.putpalette([colour] * 6)
    return image, {"transparency": transparency}


@pytest.mark.parametrize(("image", "suffix", "expected"), [
    (shape("RGBA", 0), "png", (255, 0)),
    (shape("RGBA", 0), "tif", (255, 0)),
    (shape("LA", 0), "png", (255, 0)),
    (shape("RGBA", 255), "png", (0, 255)),  # white on white would be nothing
    (shape("RGBA", 100), "png", (255, 100)),
    (shape("RGBA", 0, 0, 128), "png", (255, 127)),
    (shape("RGBA", 80, 0, 0), "png", (80, 80)),  # transparent all over, so it means something else
    (shape("RGBA", 80, 255, 255), "png", (80, 80)),
    (palette(0, 0), "png", (255, 0)),
    (palette(0, b"\0\xff"), "png", (255, 0)),
    (palette(0, 0), "gif", (255, 0)),
    ((halves(7, 90), {"transparency": 7}), "png", (255, 90)),
    ((halves(7, 90).convert("RGB"), {"transparency": (7, 7, 7)}), "png", (255, 90)),
    ((halves(0, 255).convert("1"), {"transparency": 0}), "png", (0, 255)),
])  # fmt: skip
def test_a_shape_in_the_transparency_is_seen(
    image: Any, suffix: str, expected: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Laid over white, as a viewer shows it, or over black where white would swallow it; and said."""
    (picture_, how) = image if isinstance(image, tuple) else (image, {"lossless": True} if suffix == "webp" else {})
    found = seen(picture_, suffix=suffix, **how)

    assert np.abs(np.array(found[0]) - expected).max() <= 1
    assert ("partly transparent: laid over white" in capsys.readouterr().out) == (
        not (isinstance(image, Image.Image) and np.asarray(image)[..., -1].min() == 255)
    )


def oriented(kind: int, value: Any) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The orientation as a tag of this type."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[0x0112] = kind
    tags[0x0112] = value
    return tags


@pytest.mark.parametrize(("kind", "value"), [(2, "6"), (3, 0), (3, 9), (1, b"6"), (8, -6), (12, 5.5)])
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "webp"])
def test_an_orientation_that_means_nothing_is_none(kind: int, value: Any, suffix: str, tmp_path: Path) -> None:
    """Outside 1 to 8, or of any other type: fit, evaluation and predict see the image as it is stored."""
    tags = oriented(kind, value)
    exif = b"Exif\0\0" + tags.tobytes(8) if suffix != "tif" else b""
    how = {"tiffinfo": tags} if suffix == "tif" else {"exif": exif[:6] + b"II*\0\x08\0\0\0" + exif[6:]}

    assert np.abs(np.array(seen(halves(20, 220), suffix=suffix, **how)) - (20, 220)).max() <= 3

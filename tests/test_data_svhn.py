"""SVHN: what is labelled, unlabelled and held out, and that images are mapped, not copied; on real digits and noise."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repro.config.check_data import data_problems
from repro.data.held_out import examples_hash, held_out_labels, held_out_set
from repro.data.svhn_files import EXTRA, TEST, TRAIN
from repro.data.training import class_count, describe_split, prepare, training_hash, training_set
from tests.svhn_sample import Sample, noise
from torch import Tensor

from repro.augment import images
from repro.augment.views import SVHN_DEVIATION, SVHN_MEAN, labelled_view, to_input
from repro.data import ImageViews, SvhnData, svhn, svhn_files
from repro.data.sets import class_counts
from repro.evaluate.labels import labels_to_store
from repro.plan import compose
from repro.seeding import Streams

ROOT = Path(__file__).parent.parent / "experiments"
LABELS = (torch.arange(604_388) * 7919 // 13) % 10
PAPER = SvhnData(balanced=False)
BALANCED = SvhnData()
ALONE = SvhnData(balanced=False, labelled_in_unlabelled=True, train_images=1000)
ALL = SvhnData(balanced=False, labelled_in_unlabelled=True, train_images=73_257, labels=73_257)


def positions(split: tuple[Tensor, Tensor]) -> Tensor:
    """All indices of a split, labelled and unlabelled, in ascending order."""
    return torch.cat(split).sort().values


def test_the_first_records_are_labelled_and_all_others_are_not() -> None:
    """1,000 of `train` in the order of the file; 603,388 are left, none of them twice, whatever the seed."""
    labelled, unlabelled = split = svhn._split(PAPER, torch.empty(0), 0)

    assert torch.equal(torch.arange(1000), labelled)
    assert 603_388 == len(unlabelled)
    assert torch.equal(torch.arange(604_388), positions(split))
    assert torch.equal(unlabelled, svhn._split(PAPER, torch.empty(0), 7)[1])


def test_the_balanced_split_by_index() -> None:
    """100 of each class, all of `train`, the first of each in the seed's own order; all others are unlabelled."""
    (labelled, unlabelled), other = (svhn._split(BALANCED, LABELS, seed) for seed in (0, 1))

    assert [100] * 10 == torch.bincount(LABELS[labelled]).tolist()
    assert int(labelled.max()) < 73_257
    order = Streams(0).permutation("split", 0, 73_257)
    assert torch.equal(order[LABELS[order] == 3][:100], labelled[300:400])
    assert torch.equal(torch.arange(604_388), positions((labelled, unlabelled)))
    assert torch.equal(torch.arange(604_388), positions(other))
    common = set(labelled.tolist()) & set(other[0].tolist())
    assert len(common) < 40  # 4 standard deviations above 1,000 * 1,000 / 73,257


@pytest.mark.parametrize("config", [PAPER, BALANCED, SvhnData(labels=20, train_images=60)])
def test_the_last_images_stand_where_labelled_ones_were_taken_out(config: SvhnData) -> None:
    """All other unlabelled images are in the order of the file, so that it can be mapped as it is."""
    labelled, unlabelled = svhn._split(config, LABELS, 0)

    here = torch.arange(len(unlabelled))
    assert int((unlabelled != here).sum()) == int((labelled < len(unlabelled)).sum())
    assert bool(((unlabelled == here) | (unlabelled >= len(unlabelled))).all())


@pytest.mark.parametrize("config", [ALONE, ALL, replace(BALANCED, labelled_in_unlabelled=True)])
def test_labelled_images_may_be_unlabelled_ones_too(config: SvhnData) -> None:
    """All training images then, in the order of the file; alone (Table 9) the labelled ones are all there is."""
    labelled, unlabelled = svhn._split(config, LABELS, 0)

    assert torch.equal(torch.arange(config.train_images), unlabelled)
    assert config.labels == len(set(labelled.tolist()))
    assert [] == list(data_problems(config))


def test_a_balanced_split_of_too_few_images_is_refused() -> None:
    """One class runs short: said by key, value and remedy."""
    with pytest.raises(ValueError, match=r"data.labels = 50: wants 5 .* has only \d .* 52 images .*; lower"):
        svhn._split(SvhnData(labels=50, train_images=52), (LABELS[:52] * LABELS[:52]) % 10, 0)


@pytest.fixture(params=["noise", "digits"])
def sample(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    """Random and real images, prepared in a working directory of their own."""
    found: Sample = request.getfixturevalue(f"svhn_{request.param}")
    found.stand_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    prepare(SvhnData(root=str(found.root)), Path("artifacts/data"))
    return found


def all_images(sample: Sample, *names: str) -> Tensor:
    """Images of some files, [N, 3, 32, 32]."""
    return torch.from_numpy(np.concatenate([sample.images[name] for name in names]).transpose(0, 3, 1, 2).copy())


def all_labels(sample: Sample, *names: str) -> Tensor:
    """Labels of some files, [N]."""
    return torch.from_numpy(np.concatenate([sample.labels[name] for name in names]))


def whole(sample: Sample, **changes: Any) -> SvhnData:
    """Settings with all training images of a sample."""
    return replace(SvhnData(labels=20, train_images=sum(len(sample.images[n]) for n in (TRAIN, EXTRA))), **changes)


@pytest.mark.parametrize("changes", [{}, {"balanced": False}, {"labelled_in_unlabelled": True}])
@pytest.mark.parametrize("extra", [-1, 0, 1, 40])
def test_images_and_labels_are_those_of_their_indices(sample: Sample, changes: dict[str, Any], extra: int) -> None:
    """Pixels and labels are the records' own, also of those that stand in another's place; of `extra` no more."""
    pixels, labels = all_images(sample, TRAIN, EXTRA), all_labels(sample, TRAIN, EXTRA)
    config = whole(sample, train_images=len(sample.images[TRAIN]) + extra, **changes)
    for seed in (0, 1):
        data = training_set(config, seed)

        assert (torch.uint8, torch.int64) == (data.labelled.dtype, data.labels.dtype)  # type: ignore[union-attr]
        assert torch.equal(pixels[data.labelled_indices], data.labelled)
        assert torch.equal(labels[data.labelled_indices], data.labels)
        assert torch.equal(pixels[data.unlabelled_indices], data.unlabelled)
        assert torch.equal(labels[data.unlabelled_indices], data.hidden_labels)
        assert config.train_images > int(data.unlabelled_indices.max())


def test_torchvision_reads_the_same(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels and labels of all three files are torchvision's, which takes SciPy's reader."""
    from torchvision.datasets import SVHN

    lists = {part: [*entry[:2], sample.md5[entry[1]]] for part, entry in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", lists)
    train, extra, test = (SVHN(str(sample.root), part) for part in ("train", "extra", "test"))
    data, held_out = training_set(whole(sample, labelled_in_unlabelled=True), 0), held_out_set(SvhnData(), 0)

    assert isinstance(data.unlabelled, Tensor)
    assert np.array_equal(np.concatenate([train.data, extra.data]), data.unlabelled.numpy())
    assert np.array_equal(np.concatenate([train.labels, extra.labels]), data.hidden_labels.numpy())
    assert isinstance(held_out.examples, Tensor)
    assert np.array_equal(test.data, held_out.examples.numpy())
    assert np.array_equal(test.labels, held_out.labels.numpy())


def test_a_training_set_leaves_the_file_as_it_is(sample: Sample) -> None:
    """What one process moves or overwrites is its own: file, other seeds, and the same seed again see nothing of it."""
    path = Path("artifacts/data/svhn/training/images.npy")
    before, config = path.read_bytes(), whole(sample)

    first = training_set(config, 0)
    kept = first.unlabelled[:].clone()  # type: ignore[union-attr]
    first.unlabelled.zero_()  # type: ignore[union-attr]

    assert before == path.read_bytes()
    assert torch.equal(kept, training_set(config, 0).unlabelled)
    assert not torch.equal(kept, training_set(config, 1).unlabelled)


def of_the_map(path: Path) -> dict[str, int]:
    """What the system counts, in kB, of this process's maps of a file."""
    text = Path("/proc/self/smaps").read_text()
    maps = re.findall(rf"^\S+ \S+ \S+ \S+ \S+ +{re.escape(str(path.resolve()))}\n((?:\w+:.*\n)+)", text, re.MULTILINE)
    return {
        key: sum(int(found[1]) for found in re.finditer(rf"^{key}: +(\d+) kB", "".join(maps), re.MULTILINE))
        for key in ("Size", "Private_Dirty")
    }


def test_unlabelled_images_are_mapped_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 MB of images that are all looked at, a process has only the pages of those that moved as its own."""
    noise(tmp_path, train=2000, extra=2000).stand_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    config = SvhnData(root=str(tmp_path), labels=100, train_images=4000)
    prepare(config, Path("artifacts/data"))

    data = training_set(config, 0)
    total = int(data.unlabelled.to(torch.int64).sum())  # type: ignore[union-attr, arg-type]
    counted = of_the_map(Path("artifacts/data/svhn/training/images.npy"))

    assert total > 0
    assert counted["Size"] >= 12_000
    assert 0 < counted["Private_Dirty"] <= 100 * 2 * 4  # an image lies on one or two pages of 4 kB


def test_training_hash_sees_the_split_and_the_files(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting of the split has its own hash, and so have other published files; nothing else changes it."""
    config = whole(sample)
    configs = [
        config, whole(sample, labels=30), whole(sample, train_images=148),
        whole(sample, train_images=len(sample.images[TRAIN]) - 1),
        whole(sample, balanced=False), whole(sample, labelled_in_unlabelled=True),
        whole(sample, balanced=False, labelled_in_unlabelled=True),
    ]  # fmt: skip

    found = [training_hash(config, [0]) for config in configs]

    assert len(configs) == len(set(found))
    assert found[0] != training_hash(config, [1])
    assert found[4] == training_hash(configs[4], [1])
    assert found[0] == training_hash(replace(config, root="/elsewhere", views=ImageViews(), test_images=7), [0])
    for config, first in ((configs[4], found[4]), (configs[6], found[6])):
        monkeypatch.setitem(svhn_files.MD5, EXTRA, "0" * 32)
        assert first != training_hash(config, [0])
        monkeypatch.setitem(svhn_files.MD5, EXTRA, sample.md5[EXTRA])


def test_hashes_of_a_fixed_split_need_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of training can be checked where the data set is not; the recorded ones, of two seeds."""
    monkeypatch.chdir(tmp_path)

    assert "2fbd7f6515c684142f3ad0814f012a830b8852eab55eb424f4f983ee00fa545d" == training_hash(PAPER, [0, 1])
    assert "3017efdae237cb9914027674aee37d9a0b728706e0d898bf15c99d9d8cd16f49" == training_hash(ALL, [0, 1])
    assert "d3c7ce6447ce0bec281199c85b68a3b5d95a01a0df962fda1bc1909441bfafe7" == examples_hash(PAPER)
    assert examples_hash(PAPER) != examples_hash(replace(PAPER, test_images=26_031))
    with pytest.raises(ValueError, match="prepare it again"):
        training_hash(BALANCED, [0])


def test_held_out_images_are_those_of_the_test_file(sample: Sample) -> None:
    """All of them, or the first so many; never one of the training files."""
    pixels, labels = all_images(sample, TEST), all_labels(sample, TEST)
    for count in (26_032, 7):
        held_out = held_out_set(SvhnData(test_images=count), 0)

        assert torch.equal(pixels[:count], held_out.examples)
        assert torch.equal(labels[:count], held_out.labels)
        assert torch.equal(labels[:count].repeat(2, 1), held_out_labels(SvhnData(test_images=count), [3, 4]))
    run = {"data": asdict(SvhnData(test_images=9)), "model": {"name": "wide_resnet"}, "method": {"name": "supervised"}}
    stored = labels_to_store(run | {"optim": {}, "budget": {}, "finetune": {}, "recipe": {}})
    assert stored is not None
    assert labels[:9].tolist() == stored.labels.tolist()


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_changed_test_file_is_not_evaluated_on(sample: Sample, harm: str) -> None:
    """Its MD5 is looked at again by evaluation."""
    path = Path("artifacts/data/svhn") / TEST
    content = path.read_bytes()
    path.unlink()  # it may be a link to the sample
    if harm == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises(ValueError, match=rf"{TEST} (has MD5 .*|is missing); prepare it again: python -m repro.cli"):
        held_out_set(SvhnData(), 0)


def test_the_split_is_described(sample: Sample) -> None:
    """Counts of the labelled classes, and every index."""
    described = describe_split(whole(sample, labels=10, balanced=False), [0])

    assert '"labelled_indices": ["0-9"]' in described
    assert '"balanced": false' in described
    assert "root" not in described


def test_svhn_has_ten_classes_and_one_seed_at_a_time() -> None:
    """The network's number of outputs; several seeds at once are refused with the remedy."""
    assert 10 == class_count(SvhnData())
    with pytest.raises(ValueError, match=r"data.name = svhn: cannot be stacked .* set budget.stack to 1"):
        training_set(SvhnData(), [0, 1])


def test_a_digit_is_never_mirrored(sample: Sample) -> None:
    """The views of SVHN's settings shift and distort, but have no flip: a mirrored 2 is no 2."""
    config = compose("svhn_paper_mpl", root=ROOT).data
    assert isinstance(config, SvhnData)
    pixels = all_images(sample, TRAIN)[:32]
    untouched = replace(config, views=replace(config.views, crop_padding=0))

    crop = images.draw_crop(Streams(0), "labelled view", 0, 32, untouched.views)

    assert torch.equal(pixels, images.apply_crop(pixels, crop, untouched.views))
    assert torch.equal(to_input(pixels, config), labelled_view(pixels, untouched, Streams(0), 0))


def test_real_digits_are_normalised_to_mean_0_and_deviation_1(svhn_digits: Sample) -> None:
    """With the customary numbers of all of `train`, about so for its first 1,083 images."""
    pixels = all_images(svhn_digits, TRAIN)
    scaled = to_input(pixels, SvhnData())

    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (SVHN_MEAN, SVHN_DEVIATION))
    by_hand = (pixels.double() / 255 - mean) / deviation
    torch.testing.assert_close(scaled.double(), by_hand, rtol=0, atol=1e-5)
    assert scaled.mean(dim=(0, 2, 3)).abs().max() < 0.1
    assert (scaled.std(dim=(0, 2, 3)) - 1).abs().max() < 0.1


def test_the_first_real_labels_are_not_balanced(svhn_digits: Sample) -> None:
    """How many of each digit the 1,000 labels of a split in the order of the file are."""
    assert [60, 207, 132, 119, 104, 104, 73, 65, 73, 63] == class_counts(all_labels(svhn_digits, TRAIN)[:1000], 10)

"""SVHN: what is labelled and unlabelled, and that only the published files are read."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.augment.views import Part
from repro.data import SvhnData, source_of, svhn
from repro.data.svhn import EXTRA, TEST, TRAIN
from repro.evaluate.labels import labels_to_store
from repro.plan import compose
from repro.seeding import Streams
from tests.samples import Svhn

ROOT = Path(__file__).parents[1] / "experiments"
PAPER = SvhnData(balanced=False)
BALANCED = SvhnData()
ALL = SvhnData(balanced=False, labelled_in_unlabelled=True, train_images=73_257, labels=73_257)
ALONE = SvhnData(balanced=False, labelled_in_unlabelled=True, train_images=1000)
LABELS = (torch.arange(604_388) * 7919 // 13) % 10
PLACED = Path("artifacts/data/svhn")
SMALL = SvhnData(root="mine", labels=10, train_images=60, balanced=False)
LARGE = SvhnData(root="mine", labels=10, train_images=150)


def split(config: SvhnData, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which are labelled and unlabelled, by made-up labels: no image is needed to see that."""
    return svhn.Svhn(config).split(LABELS, seed)


# Splits


def test_the_first_labels_of_train_are_labelled() -> None:
    """Or as many of each class, drawn from `train` alone; the unlabelled images are all the others, each once."""
    (first, rest), (drawn, others) = split(PAPER), split(BALANCED)

    assert torch.equal(torch.arange(1000), first)
    assert [100] * 10 == LABELS[drawn].bincount().tolist()
    assert int(drawn.max()) < 73_257
    assert set(drawn.tolist()) != set(split(BALANCED, 1)[0].tolist())
    for labelled, unlabelled in ((first, rest), (drawn, others)):
        assert torch.equal(torch.arange(604_388), torch.cat([labelled, unlabelled]).sort().values)
        here = torch.arange(len(unlabelled))  # in the order of the file, but where a labelled one was taken out
        assert int((unlabelled != here).sum()) == int((labelled < len(unlabelled)).sum())
        assert bool(((unlabelled == here) | (unlabelled >= len(unlabelled))).all())


@pytest.mark.parametrize("config", [ALONE, ALL, replace(BALANCED, labelled_in_unlabelled=True)])
def test_labelled_images_may_be_unlabelled_ones_too(config: SvhnData) -> None:
    """All training images then, in the order of the file; alone (Table 9) the labelled ones are all there is."""
    labelled, unlabelled = split(config)

    assert torch.equal(torch.arange(config.train_images), unlabelled)
    assert config.labels == len(set(labelled.tolist()))
    assert [] == list(config.problems())


def test_hashes_of_a_fixed_split_need_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of training can be checked where the data set is not; the recorded ones, of two seeds."""
    monkeypatch.chdir(tmp_path)

    assert "2fbd7f6515c684142f3ad0814f012a830b8852eab55eb424f4f983ee00fa545d" == source_of(PAPER).training_hash([0, 1])
    assert "3017efdae237cb9914027674aee37d9a0b728706e0d898bf15c99d9d8cd16f49" == source_of(ALL).training_hash([0, 1])
    held_out = source_of(PAPER).held_out_examples_hash()
    assert "d3c7ce6447ce0bec281199c85b68a3b5d95a01a0df962fda1bc1909441bfafe7" == held_out
    assert held_out != source_of(replace(PAPER, test_images=26_031)).held_out_examples_hash()
    with pytest.raises(ValueError, match="prepare it again"):
        source_of(BALANCED).training_hash([0])
    with monkeypatch.context() as patch:
        before = source_of(PAPER).training_hash([0])
        patch.setitem(svhn.MD5, EXTRA, "0" * 32)
        assert before != source_of(PAPER).training_hash([0])


# Images


def of(svhn_workplace: Svhn, *names: str) -> tuple[Tensor, Tensor]:
    """Images and labels of some files."""
    parts = ([kind[name] for name in names] for kind in (svhn_workplace.images, svhn_workplace.labels))
    images, labels = (torch.from_numpy(np.concatenate(part)) for part in parts)
    return images, labels


def whole(**changes: Any) -> SvhnData:
    """Settings with all training images of the sample."""
    return replace(SvhnData(labels=20, balanced=False, train_images=150), **changes)


@pytest.mark.parametrize("changes", [{}, {"balanced": True}, {"labelled_in_unlabelled": True}])
@pytest.mark.parametrize("extra", [-1, 0, 20])
def test_images_are_those_of_their_indices(svhn_workplace: Svhn, changes: dict[str, Any], extra: int) -> None:
    """Pixels and labels are the records' own, also of those that stand in another's place; of `extra` no more."""
    pixels, labels = of(svhn_workplace, TRAIN, EXTRA)
    config = whole(**changes, train_images=60 + extra)
    for seed in (0, 1):
        data = source_of(config).training_set(seed)

        assert (torch.uint8, torch.int64) == (data.labelled.dtype, data.labels.dtype)
        assert torch.equal(pixels[data.labelled_indices], data.labelled)
        assert torch.equal(labels[data.labelled_indices], data.labels)
        assert torch.equal(pixels[data.unlabelled_indices], data.unlabelled)
        assert torch.equal(labels[data.unlabelled_indices], data.hidden_labels)
        assert config.train_images > int(data.unlabelled_indices.max())


def test_held_out_images_are_those_of_the_test_file(svhn_workplace: Svhn) -> None:
    """All of them, or the first so many; never one of the training files."""
    pixels, labels = of(svhn_workplace, TEST)
    for count in (26_032, 7):
        source = source_of(SvhnData(test_images=count))

        assert torch.equal(pixels[:count], source.held_out_set(0).examples)
        assert torch.equal(labels[:count].repeat(2, 1), source.held_out_labels([3, 4]))
    run = {"data": asdict(SvhnData(test_images=9)), "model": {"name": "wide_resnet"}, "method": {"name": "supervised"}}
    stored = labels_to_store(run | {"optim": {}, "budget": {}, "finetune": {}, "recipe": {}})
    assert labels[:9].tolist() == stored.labels.tolist()


def test_a_digit_is_never_mirrored(svhn_workplace: Svhn) -> None:
    """The views of SVHN's settings shift and distort, but have no flip: a mirrored 2 is no 2."""
    config = compose("svhn_paper_mpl", root=ROOT).data
    pixels, _ = of(svhn_workplace, TRAIN)
    untouched = source_of(replace(config, views=replace(config.views, crop_padding=0)))

    assert torch.equal(untouched.to_input(pixels), untouched.labelled_view(pixels, Part(Streams(0), 0)))


# Files


@pytest.fixture
def root(svhn_noise: Svhn, tmp_path: Path, no_network: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with stand-ins for the published files in the folder `mine`, and without network."""
    monkeypatch.chdir(tmp_path)
    svhn_noise.stand_in(monkeypatch)
    shutil.copytree(svhn_noise.root, "mine")
    return Path("mine")


def spoil(path: Path) -> None:
    """Turns one bit, in a new file: what was linked to the old one stays as it was."""
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_prepare_leaves_links(root: Path) -> None:
    """No copies; who names another place then finds what was prepared, and need not have it there."""
    source_of(LARGE).prepare()
    elsewhere = replace(LARGE, root="elsewhere")
    source_of(elsewhere).prepare()

    for name in (TRAIN, EXTRA, TEST):
        assert (PLACED / name).is_symlink()
        assert (PLACED / name).samefile(root / name)
    assert torch.equal(source_of(LARGE).training_set(0).labels, source_of(elsewhere).training_set(0).labels)
    assert "datasets" == source_of(elsewhere).recorded().root


def test_extra_is_needed_only_by_who_wants_it(root: Path) -> None:
    """Where `train` is enough, `extra` is neither read nor downloaded; who asks for more then is told what to do."""
    (root / EXTRA).rename("later")
    source_of(SMALL).prepare()

    assert 50 == len(source_of(SMALL).training_set(0).unlabelled)
    with pytest.raises(ValueError, match=r"extra_32x32.mat is missing; prepare it again: repro prepare"):
        source_of(LARGE).training_set(0)
    with pytest.raises(
        ValueError, match=r"data.root = mine: extra.* neither there nor to be had .*; put it there, or set"
    ):
        source_of(LARGE).prepare()
    assert source_of(SMALL).key != source_of(LARGE).key
    Path("later").rename(root / EXTRA)
    source_of(LARGE).prepare()
    assert [140, 50] == [len(source_of(config).training_set(0).unlabelled) for config in (LARGE, SMALL)]


@pytest.mark.parametrize("name", [TRAIN, EXTRA, TEST])
def test_a_file_that_is_not_the_published_one_is_refused(name: str, root: Path) -> None:
    """By its MD5; it stays, nothing is linked to it, and the remedy is named."""
    spoil(root / name)

    message = rf"mine/{name} has MD5 .*, the published file has {svhn.MD5[name]}; delete it to download it anew"
    with pytest.raises(ValueError, match=message):
        source_of(LARGE).prepare()
    assert not (PLACED / name).exists()
    assert (root / name).is_file()


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_changed_test_file_stops_evaluation_alone(root: Path, harm: str) -> None:
    """Its MD5 is looked at again by evaluation; training never opens it."""
    source_of(LARGE).prepare()
    spoil(root / TEST) if harm == "flipped" else (root / TEST).unlink()

    assert 140 == len(source_of(LARGE).training_set(0).unlabelled)
    with pytest.raises(ValueError, match=rf"{TEST} (has MD5 .*|is missing); prepare it again: repro prepare"):
        source_of(LARGE).held_out_set(0)

"""CIFAR-10, the real one: what is labelled, unlabelled, dropped and held out, and the hashes that pin it."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repro.config.check_data import data_problems
from repro.data.held_out import held_out_hash, held_out_labels, held_out_set
from repro.data.training import class_count, describe_split, training_hash, training_set
from torch import Tensor

from repro.data import Cifar10Data, ImageViews, Split, cifar10, cifar10_files, cifar10_held_out
from repro.data.sets import class_counts, fingerprint, in_runs
from repro.evaluate.labels import test_labels as labels_of_run
from repro.seeding import Streams

PROJECT = Path(__file__).parents[1]
PAPER = Cifar10Data()
RELEASED = Cifar10Data(split=Split.released, labelled_in_unlabelled=True)
BALANCED = Cifar10Data(split=Split.balanced)
ALL = Cifar10Data(split=Split.released, labels=50_000, labelled_in_unlabelled=True)
TRAINING_HASHES = {
    "paper": "b066d67dd6e40506040b09ea7fef6abe83adc8c8cfb22961936e3ab72b7ed47d",
    "released": "aa62e5d9a8135dfa402439d1cec9f0726dc572ec6011d14fbc08a379caccfb29",
    "balanced": "a43da7789cd08e68f323e322b0240930f2af4ca8fba84a1852edcc48248b907c",
    "all": "8991afb3814f3f5916936ef7475290efc470a09e87dd6484b9d85ece38090772",
}
HELD_OUT_HASH = "92362fdd22fc6f4a9c3c5fbb3ff758889978e6f5fb13aec539128d8d4870e525"
CONFIGS = {"paper": PAPER, "released": RELEASED, "balanced": BALANCED, "all": ALL}


def contents(images: Tensor) -> set[bytes]:
    """A hash of the pixels of each image."""
    return {hashlib.sha256(image.numpy().tobytes()).digest() for image in images}


def indices(first: int, end: int) -> list[int]:
    """Indices from `first` up to `end`, exclusive."""
    return list(range(first, end))


@pytest.mark.parametrize(
    ("changes", "labelled", "unlabelled"),
    [
        ({}, (5000, 9000), (9000, 50_000)),
        ({"labelled_in_unlabelled": True}, (5000, 9000), (5000, 50_000)),
        ({"labelled_in_unlabelled": True, "train_images": 9000}, (5000, 9000), (5000, 9000)),  # Table 9: no others
        ({"split": Split.released}, (0, 4000), (4000, 50_000)),
        ({"split": Split.released, "labelled_in_unlabelled": True}, (0, 4000), (0, 50_000)),
        ({"split": Split.released, "labels": 50_000, "labelled_in_unlabelled": True}, (0, 50_000), (0, 50_000)),
        ({"labels": 500, "train_images": 6000}, (5000, 5500), (5500, 6000)),
        ({"split": Split.released, "labels": 500, "train_images": 6000}, (0, 500), (500, 6000)),
    ],
)
def test_splits_in_file_order(
    cifar10_workplace: Path, changes: dict[str, Any], labelled: tuple[int, int], unlabelled: tuple[int, int]
) -> None:
    """Which records are labelled and unlabelled, exactly, under every seed."""
    config = replace(PAPER, **changes)

    data = training_set(config, 0)

    assert [] == list(data_problems(config))
    assert indices(*labelled) == data.labelled_indices.tolist()
    assert indices(*unlabelled) == data.unlabelled_indices.tolist()
    assert training_hash(config, [0]) == training_hash(config, [1])


@pytest.mark.parametrize("name", list(CONFIGS))
def test_images_and_labels_are_those_of_their_indices(cifar10_workplace: Path, name: str) -> None:
    """Pixels and labels are the records' own, in the order of the indices; shapes and types as promised."""
    images, labels = cifar10.load()
    data = training_set(CONFIGS[name], 0)

    assert (50_000, 3, 32, 32) == tuple(images.shape)
    assert (torch.uint8, torch.int64) == (data.labelled.dtype, data.labels.dtype)
    assert torch.equal(images[data.labelled_indices], data.labelled)
    assert torch.equal(labels[data.labelled_indices], data.labels)
    assert torch.equal(images[data.unlabelled_indices], data.unlabelled)
    assert torch.equal(labels[data.unlabelled_indices], data.hidden_labels)


def test_no_image_is_on_two_sides(cifar10_workplace: Path) -> None:
    """By their pixels, labelled, unlabelled, dropped and test images are 60,000 different ones: no duplicates."""
    data, (images, _) = training_set(PAPER, 0), cifar10.load()

    sides = [data.labelled, data.unlabelled, images[:5000], held_out_set(PAPER, 0).examples]
    found = [contents(side) for side in sides]
    assert [4000, 41_000, 5000, 10_000] == [len(side) for side in found]
    assert 60_000 == len(set.union(*found))


def test_class_counts(cifar10_workplace: Path) -> None:
    """The first records are not balanced: the counts of the 4,000 labels of both sources."""
    paper, released = training_set(PAPER, 0), training_set(RELEASED, 0)

    assert [396, 407, 398, 421, 377, 372, 403, 429, 404, 393] == class_counts(paper.labels, 10)
    assert [4099, 4133, 4083, 4093, 4104, 4140, 4078, 4085, 4076, 4109] == class_counts(paper.hidden_labels, 10)
    assert [396, 366, 420, 384, 422, 393, 414, 385, 407, 413] == class_counts(released.labels, 10)
    assert [5000] * 10 == class_counts(released.hidden_labels, 10)
    assert [1000] * 10 == class_counts(held_out_set(PAPER, 0).labels, 10)


def test_the_balanced_split(cifar10_workplace: Path) -> None:
    """400 of each class, the first of each in the seed's own order; all other images are unlabelled."""
    _, labels = cifar10.load()
    sets = [training_set(BALANCED, seed) for seed in (0, 1)]

    for seed, data in enumerate(sets):
        order = Streams(seed).permutation("split", 0, 50_000)
        first_cats = order[labels[order] == 3][:400]
        assert [400] * 10 == class_counts(data.labels, 10)
        assert set(first_cats.tolist()) == set(data.labelled_indices[data.labels == 3].tolist())
        together = torch.cat([data.labelled_indices, data.unlabelled_indices])
        assert indices(0, 50_000) == together.sort().values.tolist()
    common = set(sets[0].labelled_indices.tolist()) & set(sets[1].labelled_indices.tolist())
    assert len(common) == pytest.approx(320, abs=76)  # 4 standard deviations about 4,000 * 4,000 / 50,000


def test_a_balanced_split_of_too_few_images_is_refused(cifar10_workplace: Path) -> None:
    """One class runs short in the first records: said by key, value and remedy."""
    config = replace(BALANCED, labels=500, train_images=520)

    with pytest.raises(ValueError, match=r"data.labels = 500: wants 50 .* has only \d+ .*; lower data.labels or raise"):
        training_set(config, 0)


def test_cifar10_cannot_be_stacked(cifar10_workplace: Path) -> None:
    """Several seeds at once are refused with the remedy."""
    with pytest.raises(ValueError, match=r"data.name = cifar10: cannot be stacked .* set budget.stack to 1"):
        training_set(PAPER, [0, 1])


def test_files_are_read_once_in_a_process(cifar10_workplace: Path) -> None:
    """A second call gives the same tensors; the training set holds copies of them."""
    images, _ = cifar10.load()

    assert images is cifar10.load()[0]
    training_set(PAPER, 0).labelled.zero_()
    assert images[5000:9000].any()


@pytest.mark.filterwarnings("ignore:dtype")  # torchvision unpickles with numbers where numpy wants booleans
def test_torchvision_reads_the_same(cifar10_workplace: Path) -> None:
    """Pixels, labels and class names are torchvision's, training and test; so are the MD5s."""
    from torchvision.datasets import CIFAR10

    train, test = (CIFAR10(str(cifar10_files.FOLDER.parent), train=train) for train in (True, False))
    images, labels = cifar10.load()
    held_out = held_out_set(PAPER, 0)

    assert np.array_equal(train.data, images.permute(0, 2, 3, 1).numpy())
    assert train.targets == labels.tolist()
    assert np.array_equal(test.data, held_out.examples.permute(0, 2, 3, 1).numpy())
    assert test.targets == held_out.labels.tolist()
    assert tuple(train.classes) == cifar10.CLASS_NAMES
    published = dict(CIFAR10.train_list + CIFAR10.test_list) | {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    assert published == cifar10_files.MD5


@pytest.mark.parametrize("name", list(CONFIGS))
def test_training_data_are_the_recorded_ones(cifar10_workplace: Path, name: str) -> None:
    """The hash over data and split of two seeds is the one recorded here, wherever files came from, however viewed."""
    moved = replace(CONFIGS[name], root="/elsewhere", views=ImageViews(magnitude=3.0), test_images=7)

    assert TRAINING_HASHES[name] == training_hash(CONFIGS[name], [0, 1])
    assert TRAINING_HASHES[name] == training_hash(moved, [0, 1])


def test_training_hash_sees_the_split_and_the_images(cifar10_workplace: Path) -> None:
    """Every setting of the split has its own hash; the published images' hash enters it, and is that of the images."""
    configs = [
        PAPER, RELEASED, BALANCED, replace(PAPER, labels=4010), replace(PAPER, train_images=49_999),
        replace(PAPER, labelled_in_unlabelled=True), replace(RELEASED, labelled_in_unlabelled=False),
    ]  # fmt: skip

    found = [training_hash(config, [0]) for config in configs]

    assert len(configs) == len(set(found))
    assert training_hash(BALANCED, [0]) != training_hash(BALANCED, [1])
    assert fingerprint(*cifar10.load()) == cifar10.SHA256


def test_training_hash_of_a_fixed_split_needs_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record can be checked where the data set is not."""
    monkeypatch.chdir(tmp_path)

    assert 64 == len(training_hash(PAPER, [0]))
    assert training_hash(PAPER, [0]) != training_hash(RELEASED, [0])


@pytest.mark.parametrize("count", [10_000, 100])
def test_held_out_labels_need_no_images(cifar10_workplace: Path, tmp_path: Path, count: int) -> None:
    """Labels and hash of the test set are had where CIFAR-10 is not, and are those of the images."""
    config = replace(PAPER, test_images=count)
    held_out, digest = held_out_set(config, 0), held_out_hash(config, [3, 4])

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run = {"data": asdict(config), "model": {"name": "wide_resnet"}, "method": {"name": "supervised"}}
        labels, same = labels_of_run(run | {"optim": {}, "budget": {}, "finetune": {}, "recipe": {}}, [3, 4], None)

    assert (count, 3, 32, 32) == tuple(held_out.examples.shape)
    assert torch.equal(held_out_set(PAPER, 0).examples[:count], held_out.examples)
    assert (2, count) == labels.shape
    assert np.int64 == labels.dtype
    assert [held_out.labels.tolist()] * 2 == labels.tolist()
    assert digest == same


def test_held_out_data_are_the_recorded_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is the one recorded here, without the images; it changes with the number of test images alone."""
    monkeypatch.chdir(tmp_path)

    assert HELD_OUT_HASH == held_out_hash(PAPER, [0, 1])
    assert HELD_OUT_HASH == held_out_hash(replace(BALANCED, root="/elsewhere", labels=40), [0, 1])
    assert HELD_OUT_HASH != held_out_hash(replace(PAPER, test_images=9999), [0, 1])
    assert torch.equal(held_out_labels(PAPER, [0])[0, :100], held_out_labels(replace(PAPER, test_images=100), [5])[0])


def test_held_out_images_are_checked_against_the_shipped_labels(
    cifar10_workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test images whose labels are not the shipped ones are not evaluated on."""
    other = cifar10_held_out.shipped_labels().roll(1)
    monkeypatch.setattr(cifar10_held_out, "shipped_labels", lambda: other)
    cifar10_held_out._load.cache_clear()

    with pytest.raises(ValueError, match=r"labels of .*test_batch are not those of .*cifar10_test_labels.txt"):
        held_out_set(PAPER, 0)


def test_changed_shipped_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One digit changed in the file of test labels is noticed, and the remedy named."""
    text = cifar10_held_out.LABELS_FILE.read_text()
    changed = tmp_path / "labels.txt"
    changed.write_text(str((int(text[0]) + 1) % 10) + text[1:])
    monkeypatch.setattr(cifar10_held_out, "LABELS_FILE", changed)
    cifar10_held_out.shipped_labels.cache_clear()

    with pytest.raises(ValueError, match=r"labels.txt is damaged .*git checkout"):
        held_out_hash(PAPER, [0])


def test_the_split_file_is_short_and_says_all(cifar10_workplace: Path) -> None:
    """Consecutive indices as ranges, counts of every class, and no setting that does not decide the split."""
    described = describe_split(ALL, [0, 1])
    content = json.loads(describe_split(PAPER, [7]))

    assert len(described) < 2000
    assert {"name", "split", "labels", "labelled_in_unlabelled", "train_images", "test_images"} == set(content["data"])
    assert ["5000-8999"] == content["seeds"]["7"]["labelled_indices"]
    assert ["9000-49999"] == content["seeds"]["7"]["unlabelled_indices"]
    assert 41_000 == content["seeds"]["7"]["unlabelled"] == sum(content["seeds"]["7"]["unlabelled_class_counts"])
    assert [396, 407, 398, 421, 377, 372, 403, 429, 404, 393] == content["seeds"]["7"]["labelled_class_counts"]


def test_runs_keep_the_order() -> None:
    """Three or more consecutive indices become a range; all else stays a number, in the given order."""
    assert [9, 4, 5, "0-2", 7] == in_runs(torch.tensor([9, 4, 5, 0, 1, 2, 7]))
    assert [] == in_runs(torch.tensor([], dtype=torch.int64))


def test_cifar10_has_ten_classes() -> None:
    """The network's number of outputs, and a name for each."""
    assert class_count(Cifar10Data()) == 10 == len(set(cifar10.CLASS_NAMES))


@pytest.mark.parametrize(("data", "file"), [("cifar10", "test_batch"), ("svhn", "test_32x32.mat")])
def test_only_the_door_to_test_data_imports_them(data: str, file: str) -> None:
    """The test images are read by one module, which one module imports."""
    importers, readers = set(), set()
    for path in (PROJECT / "repro").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for alias in n.names}
        modules = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
        importers |= {path.stem} if any(f"{data}_held_out" in name for name in names | modules) else set()
        texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        imports = any("TEST" in {a.name for a in n.names} for n in nodes
                      if isinstance(n, ast.ImportFrom) and n.module == f"repro.data.{data}_files")  # fmt: skip
        readers |= {path.stem} if file in texts or imports else set()

    assert {"held_out"} == importers
    assert {f"{data}_files", f"{data}_held_out"} == readers

"""CIFAR-10: what is labelled, unlabelled, dropped and held out, the hashes that pin it, and that only it is read."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from repro.augment import ImageViews
from repro.data import Cifar10Data, Split, cifar10, source_of
from repro.data.cifar10 import BATCHES, LABELS_FILE, shipped_labels
from repro.data.sets import fingerprint
from repro.evaluate.labels import labels_of
from repro.results import Run
from tests.samples import A_FILE

PAPER = Cifar10Data()
RELEASED = Cifar10Data(split=Split.released, labelled_in_unlabelled=True)
BALANCED = Cifar10Data(split=Split.balanced)
ALL = Cifar10Data(split=Split.released, labels=50_000, labelled_in_unlabelled=True)
FEW = Cifar10Data(root="mine", split=Split.released, labels=20, train_images=5 * A_FILE)
LABELS = (torch.arange(50_000) * 7919 // 13) % 10
LINK = Path("artifacts/data/cifar10")


def split(config: Cifar10Data, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which are labelled and unlabelled, by made-up labels: no image is needed to see that."""
    return cifar10.Cifar10(config).split(LABELS, seed)


# Splits


@pytest.mark.parametrize(("changes", "labelled", "unlabelled"), [
    ({}, (5000, 9000), (9000, 50_000)),
    ({"labelled_in_unlabelled": True}, (5000, 9000), (5000, 50_000)),
    ({"labelled_in_unlabelled": True, "train_images": 9000}, (5000, 9000), (5000, 9000)),  # Table 9: no others
    ({"split": Split.released}, (0, 4000), (4000, 50_000)),
    ({"split": Split.released, "labelled_in_unlabelled": True}, (0, 4000), (0, 50_000)),
    ({"split": Split.released, "labels": 50_000, "labelled_in_unlabelled": True}, (0, 50_000), (0, 50_000)),
    ({"labels": 500, "train_images": 6000}, (5000, 5500), (5500, 6000)),
    ({"split": Split.released, "labels": 500, "train_images": 6000}, (0, 500), (500, 6000)),
])  # fmt: skip
def test_splits_in_file_order(changes: dict[str, Any], labelled: tuple[int, int], unlabelled: tuple[int, int]) -> None:
    """Which records are labelled and unlabelled, exactly, under every seed."""
    config = replace(PAPER, **changes)
    for seed in (0, 1):
        chosen, rest = split(config, seed)

        assert torch.equal(torch.arange(*labelled), chosen)
        assert torch.equal(torch.arange(*unlabelled), rest)
    assert [] == list(config.problems())
    assert unlabelled[1] - unlabelled[0] == config.unlabelled


def test_a_balanced_split_has_as_many_of_each_class() -> None:
    """400 images of each class are labelled, others for each seed, and all the others are unlabelled."""
    (labelled, unlabelled), (other, _) = (split(BALANCED, seed) for seed in (0, 1))

    assert [400] * 10 == LABELS[labelled].bincount().tolist()
    assert torch.equal(torch.arange(50_000), torch.cat([labelled, unlabelled]).sort().values)
    assert set(labelled.tolist()) != set(other.tolist())


def test_a_balanced_split_of_too_few_images_is_refused() -> None:
    """One class runs short: said by key, value and remedy."""
    with pytest.raises(ValueError, match=r"data.labels = 50: wants 5 .* has only \d .* 52 images .*; lower"):
        split(replace(BALANCED, labels=50, train_images=52))


# All of it, where it is


@pytest.mark.parametrize(("config", "recorded"), [
    (PAPER, "b066d67dd6e40506040b09ea7fef6abe83adc8c8cfb22961936e3ab72b7ed47d"),
    (RELEASED, "aa62e5d9a8135dfa402439d1cec9f0726dc572ec6011d14fbc08a379caccfb29"),
    (BALANCED, "a43da7789cd08e68f323e322b0240930f2af4ca8fba84a1852edcc48248b907c"),
    (ALL, "8991afb3814f3f5916936ef7475290efc470a09e87dd6484b9d85ece38090772"),
], ids=["paper", "released", "balanced", "all"])  # fmt: skip
def test_training_data_are_the_recorded_ones(all_of_cifar10: Path, config: Cifar10Data, recorded: str) -> None:
    """The hash over data and split of two seeds; pixels and labels are the records' own, in order of the indices."""
    images, labels = source_of(config).read("train")
    data = source_of(config).training_set(0)

    assert recorded == source_of(config).training_hash([0, 1])
    assert torch.equal(images[data.labelled_indices], data.labelled)
    assert torch.equal(labels[data.labelled_indices], data.labels)
    assert torch.equal(images[data.unlabelled_indices], data.unlabelled)
    assert torch.equal(labels[data.unlabelled_indices], data.hidden_labels)


def test_no_image_is_on_two_sides(all_of_cifar10: Path) -> None:
    """By their pixels, labelled, unlabelled, dropped and test images are 60,000 different ones: no duplicates."""
    source = source_of(PAPER)
    data, (images, labels) = source.training_set(0), source.read("train")

    sides = [data.labelled, data.unlabelled, images[:5000], source.held_out_set(0).examples]
    found = [{hashlib.sha256(image.numpy().tobytes()).digest() for image in side} for side in sides]

    assert [4000, 41_000, 5000, 10_000] == [len(side) for side in found]
    assert 60_000 == len(set.union(*found))
    assert cifar10.SHA256 == fingerprint(images, labels)
    assert [396, 407, 398, 421, 377, 372, 403, 429, 404, 393] == data.labels.bincount().tolist()


def test_test_images_are_the_recorded_ones(all_of_cifar10: Path) -> None:
    """The first so many of the test file, whose labels are the shipped ones."""
    for count in (10_000, 7):
        held_out = source_of(replace(PAPER, test_images=count)).held_out_set(0)

        assert (count, 3, 32, 32) == tuple(held_out.examples.shape)
        assert torch.equal(shipped_labels()[:count], held_out.labels)


def test_accuracies_are_recomputed_without_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes and labels of a split that does not look at labels need no file but the shipped one."""
    monkeypatch.chdir(tmp_path)
    recorded = "92362fdd22fc6f4a9c3c5fbb3ff758889978e6f5fb13aec539128d8d4870e525"
    run = {"data": asdict(replace(PAPER, test_images=9)), "model": {"name": "wide_resnet"}, "optim": {}, "budget": {},
           "method": {"name": "supervised"}, "finetune": {}, "recipe": {}}  # fmt: skip

    labels, _ = labels_of(Run("a", run, pd.DataFrame(), pd.DataFrame(), {}), [0, 1])

    assert recorded == source_of(PAPER).held_out_hash([0, 1]) != source_of(PAPER).held_out_hash([0])
    assert recorded != source_of(replace(PAPER, test_images=9)).held_out_hash([0, 1])
    assert [shipped_labels()[:9].tolist()] * 2 == labels.tolist()
    assert "b066d67dd6e40506040b09ea7fef6abe83adc8c8cfb22961936e3ab72b7ed47d" == source_of(PAPER).training_hash([0, 1])


def test_the_training_hash_sees_the_split_alone() -> None:
    """Every setting of the split has its own hash; views, test images and the place of the files change nothing."""
    changes = [{}, {"labels": 100}, {"labelled_in_unlabelled": True}, {"split": Split.released}, {"train_images": 9999}]
    found = [source_of(replace(PAPER, **change)).training_hash([0]) for change in changes]  # type: ignore[arg-type]

    assert len(found) == len(set(found))
    other = replace(PAPER, root="/elsewhere", views=ImageViews(magnitude=3), test_images=7)
    assert found[0] == source_of(other).training_hash([1])


@pytest.mark.parametrize("harm", ["turned", "gone"])
def test_damaged_test_labels_are_refused(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path, and how to restore it; line breaks mean nothing."""
    path, content = tmp_path / "labels.txt", LABELS_FILE.read_bytes()
    monkeypatch.setattr(cifar10, "LABELS_FILE", path)
    shipped_labels.cache_clear()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert cifar10.LABELS_SHA256 == fingerprint(shipped_labels())
    shipped_labels.cache_clear()
    path.write_bytes(content[1:] + content[:1]) if harm == "turned" else path.unlink()

    with pytest.raises(ValueError, match=r"labels.txt is (damaged|missing).*; restore it: git checkout -- .*labels"):
        source_of(PAPER).held_out_hash([0])


# Files, on a sample of them


def flip_a_bit(path: Path) -> None:
    """Changes one pixel."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_sample_is_read_as_it_was_written(cifar10_sample: Path) -> None:
    """Images by channel, row and column, in the order of the files; those of the test file are held out alone."""
    source_of(FEW).prepare()
    data = source_of(FEW).training_set(0)

    assert (torch.uint8, torch.int64) == (data.labelled.dtype, data.labels.dtype)
    # of the published data: the first images of each file
    assert [6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2] == data.labels[:A_FILE].tolist()
    assert [59, 43, 50] == data.labelled[0, 0, 0, :3].tolist()
    assert [59, 62, 63] == data.labelled[0, :, 0, 0].tolist()
    assert [59, 16, 25] == data.labelled[0, 0, :3, 0].tolist()
    assert torch.equal(shipped_labels()[:A_FILE], source_of(FEW).held_out_set(0).labels)
    published = CIFAR10(cifar10_sample, train=True)
    label_of = {x.transpose(2, 0, 1).tobytes(): k for x, k in zip(published.data, published.targets, strict=True)}
    for images, labels in ((data.labelled, data.labels), (data.unlabelled, data.hidden_labels)):
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_prepare_leaves_a_link(cifar10_sample: Path) -> None:
    """No copy; the place it was prepared from is found by whoever does not name it, and need not be named again."""
    source_of(FEW).prepare()
    elsewhere = replace(FEW, root="elsewhere")
    source_of(elsewhere).prepare()

    assert LINK.is_symlink()
    assert cifar10_sample.samefile(LINK)
    assert torch.equal(source_of(FEW).training_set(0).labelled, source_of(elsewhere).training_set(0).labelled)
    assert "datasets" == source_of(elsewhere).recorded().root


@pytest.mark.parametrize(
    ("name", "harm"), [("batches.meta", "changed"), ("data_batch_5", "gone"), ("test_batch", "changed")]
)
def test_prepare_refuses_other_files(cifar10_sample: Path, name: str, harm: str) -> None:
    """Any file that is not the published one is named, with both MD5s and the remedy; nothing is left."""
    path = cifar10_sample / BATCHES / name
    flip_a_bit(path) if harm == "changed" else path.unlink()

    says = {
        "changed": "has MD5 .*, the published file has .*; put it there, or delete mine/",
        "gone": "is missing; put",
    }
    with pytest.raises(ValueError, match=rf"mine/{BATCHES}/{name} {says[harm]}"):
        source_of(FEW).prepare()
    assert not LINK.exists()


def test_training_and_evaluation_open_their_own_files_alone(cifar10_sample: Path) -> None:
    """A changed test file stops evaluation and not training, and the other way round."""
    source, folder = source_of(FEW), cifar10_sample / BATCHES
    source.prepare()
    kept = (folder / "test_batch").read_bytes()
    for name, works, refuses in (
        ("test_batch", source.training_set, source.held_out_set),
        ("data_batch_3", source.held_out_set, source.training_set),
    ):
        flip_a_bit(folder / name)
        cifar10._read.cache_clear()

        works(0)
        with pytest.raises(ValueError, match=rf"{name} has MD5.*; prepare it again: repro prepare"):
            refuses(0)
        (folder / "test_batch").write_bytes(kept)


def test_a_test_file_with_other_labels_is_refused(cifar10_sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of the right MD5."""
    (cifar10_sample / BATCHES / "test_batch").write_bytes((cifar10_sample / BATCHES / "data_batch_1").read_bytes())
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", CIFAR10.train_list[0][1]]])

    with pytest.raises(ValueError, match="labels of CIFAR-10's test file are not those of"):
        source_of(FEW).held_out_set(0)


def test_the_batches_folder_itself_is_not_the_root(cifar10_sample: Path) -> None:
    """A root one level too deep is answered with the right one instead of a download."""
    with pytest.raises(ValueError, match=rf"wants the folder that holds {BATCHES}; set it to mine$"):
        source_of(replace(FEW, root=f"mine/{BATCHES}")).prepare()


@pytest.fixture
def archive(cifar10_sample: Path, no_network: None, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The sample as one archive, in its place no folder; and no network."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(cifar10_sample / BATCHES, BATCHES)
    for path in (cifar10_sample / BATCHES).iterdir():
        path.unlink()
    (cifar10_sample / BATCHES).rmdir()
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue(), usedforsecurity=False).hexdigest())
    return buffer.getvalue()


def test_an_archive_that_is_there_is_unpacked(archive: bytes, cifar10_sample: Path) -> None:
    """Without network; nothing but the folder and the archive is left."""
    (cifar10_sample / CIFAR10.filename).write_bytes(archive)

    source_of(FEW).prepare()

    assert {BATCHES, CIFAR10.filename} == {path.name for path in cifar10_sample.iterdir()}
    assert 20 == len(source_of(FEW).training_set(0).labels)


def test_a_failed_download_says_what_to_put_where(archive: bytes, cifar10_sample: Path) -> None:
    """One sentence, also where half an archive lies there; no folder is left that looks whole."""
    (cifar10_sample / CIFAR10.filename).write_bytes(archive[:-100])

    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz: .*Name or service not known") as error:
        source_of(FEW).prepare()

    message = str(error.value)
    assert message.startswith(f"data.root = mine: {CIFAR10.filename} is neither there nor to be had ({CIFAR10.url}: ")
    assert f"put that or the folder {BATCHES} there, or set data.root to the folder that holds {BATCHES}" in message
    assert not (cifar10_sample / BATCHES).exists()

"""CIFAR-10's splits by index, from made-up labels: no image is needed to see who is labelled."""

from __future__ import annotations

import pytest
import torch

from repro.data import Cifar10Data, Split, cifar10, cifar10_files

LABELS = (torch.arange(50_000) * 7919 // 13) % 10


@pytest.mark.parametrize(
    ("split", "first"), [(Split.paper, 5000), (Split.released, 0)], ids=["after the validation images", "from 0"]
)
@pytest.mark.parametrize("together", [True, False])
def test_splits_in_file_order(split: Split, first: int, together: bool) -> None:
    """4,000 images in file order are labelled; the unlabelled ones are all others, or all, of the same part."""
    labelled, unlabelled = cifar10._split(Cifar10Data(split=split, labelled_in_unlabelled=together), LABELS, 0)

    assert torch.equal(torch.arange(first, first + 4000), labelled)
    assert torch.equal(torch.arange(first if together else first + 4000, 50_000), unlabelled)


def test_balanced_split_by_index() -> None:
    """400 images of each class are labelled, others for each seed, and all the others are unlabelled."""
    config = Cifar10Data(split=Split.balanced)
    (labelled, unlabelled), (other, _) = (cifar10._split(config, LABELS, seed) for seed in (0, 1))

    assert [400] * 10 == torch.bincount(LABELS[labelled]).tolist()
    assert torch.equal(torch.arange(50_000), torch.cat([labelled, unlabelled]).sort().values)
    assert set(labelled.tolist()) != set(other.tolist())


def test_test_file_is_no_training_file() -> None:
    """The training files are the five batches, the test file is another."""
    assert [f"data_batch_{k}" for k in range(1, 6)] == list(cifar10_files.TRAINING)
    assert cifar10_files.TEST not in cifar10_files.TRAINING

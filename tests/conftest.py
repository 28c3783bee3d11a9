"""One thread, since tensors are tiny here and thread counts must not matter; and real images, where they are."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from repro.data import cifar10_files
from tests import svhn_sample

torch.set_deterministic_debug_mode("error")

PROJECT = Path(__file__).parents[1]
UNPACK = Path(__file__).parents[2] / "shared/data/unpack_cifar10.py"
TINY_IMAGENET = Path(__file__).parents[2] / "shared/data/tiny_imagenet.tar.xz"
CLASSES = ("n01443537", "n01629819", "n02002724", "n02231487", "n03255030")
"""Of Tiny ImageNet, that tests read: goldfish, salamander, stork, grasshopper, dumbbell."""


@pytest.fixture(autouse=True)
def _process() -> None:
    """For each test as at first, whatever an entry point that another one ran has set.

    A process forked from one with several threads would wait for them. What nothing wrote is NaN: to read it shows.
    """
    torch.set_num_threads(1)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds cifar-10-batches-py, only to be read."""
    for root in (PROJECT / "datasets", PROJECT / "artifacts/data/cifar10"):
        if all((root / cifar10_files.BATCHES / name).is_file() for name in cifar10_files.MD5):
            return root
    if not UNPACK.is_file():
        pytest.skip(
            "CIFAR-10 is not here: put cifar-10-batches-py under datasets/, "
            "or let `make reproduce PLAN=cifar10_4k` download it"
        )
    root = tmp_path_factory.mktemp("datasets")
    subprocess.run([sys.executable, str(UNPACK), str(root)], check=True, capture_output=True)  # noqa: S603 - our own
    return root


@pytest.fixture(scope="session")
def cifar10_prepared(cifar10_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `prepare` has placed CIFAR-10, only to be read."""
    workplace = tmp_path_factory.mktemp("workplace")
    cifar10_files.place(cifar10_root, workplace / cifar10_files.FOLDER.parent)
    return workplace


@pytest.fixture
def cifar10_workplace(cifar10_prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one with CIFAR-10 in artifacts/data."""
    monkeypatch.chdir(cifar10_prepared)
    return cifar10_prepared


@pytest.fixture(scope="session")
def svhn_noise(tmp_path_factory: pytest.TempPathFactory) -> svhn_sample.Sample:
    """Random pixels in files like SVHN's, only to be read."""
    return svhn_sample.noise(tmp_path_factory.mktemp("svhn_noise"))


@pytest.fixture(scope="session")
def svhn_digits(tmp_path_factory: pytest.TempPathFactory) -> svhn_sample.Sample:
    """Some real images in files like SVHN's, only to be read."""
    if not svhn_sample.SAMPLE.is_dir():
        pytest.skip("the sample of SVHN is not here: it lies in ../shared/data/svhn_sample")
    return svhn_sample.real(tmp_path_factory.mktemp("svhn_digits"))


@pytest.fixture(scope="session")
def tiny_imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train and val of five classes of real 64x64 JPEGs, only to be read."""
    place = PROJECT / "datasets/tiny-imagenet"
    if (place / "val").is_dir():
        return place
    if not TINY_IMAGENET.is_file():
        pytest.skip("Tiny ImageNet is not here: put it under datasets/tiny-imagenet, as REPRODUCE.md says")
    root = tmp_path_factory.mktemp("datasets")
    with tarfile.open(TINY_IMAGENET) as archive:
        some = [member for member in archive if any(f"/{name}/" in member.name for name in CLASSES)]
        archive.extractall(root, some, filter="data")
    return root / "tiny-imagenet"

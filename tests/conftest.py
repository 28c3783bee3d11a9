"""One thread, since tensors are tiny here and thread counts must not matter; and images: samples, or all of them."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from repro.data import SvhnData, cifar10, source_of
from repro.verify.claims import VERDICTS, Status, read_verdicts
from tests import samples

torch.set_deterministic_debug_mode("error")

PROJECT = Path(__file__).parents[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After tests/test_claims.py: a table of the claims that have run, and one line for those that have not."""
    reports = [one for kind in terminalreporter.stats.values() for one in kind]
    if not any("tests/test_claims.py::test_claim[" in getattr(one, "nodeid", "") for one in reports):
        return
    verdicts = read_verdicts(PROJECT / VERDICTS)
    ran = [one for one in verdicts if one.status is not Status.NOT_RUN]
    terminalreporter.section("claims, as results/verdicts.json has them")
    for one in ran:
        bounds = "" if one.low is None or one.high is None else f"[{one.low:+.2f}, {one.high:+.2f}]"
        estimate = "" if one.estimate is None else f"{one.estimate:+.2f}"
        terminalreporter.line(f"{one.claim:42} {one.status:15} {estimate:>8} {bounds:18} {one.n:4} seeds")
    terminalreporter.line(f"{len(verdicts) - len(ran)} more have not run: results/REPORT.md says what they take")


@pytest.fixture(autouse=True)
def _process() -> None:
    """For each test as at first, whatever an entry point that another one ran has set.

    A process forked from one with several threads would wait for them. What nothing wrote is NaN: to read it shows.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder of the test's own with the project's experiments."""
    (tmp_path / "experiments").symlink_to(PROJECT / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address can be opened."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def all_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one with all of CIFAR-10."""
    if not (PROJECT / "datasets" / cifar10.BATCHES / "test_batch").is_file():
        pytest.skip(f"CIFAR-10 is not here: put {cifar10.BATCHES} under datasets/, or let `prepare` download it")
    (tmp_path / "datasets").symlink_to(PROJECT / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def cifar10_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files like CIFAR-10's with images enough for the paper's split, only to be read."""
    return samples.cifar10_many(tmp_path_factory.mktemp("cifar10_many"))


@pytest.fixture
def cifar10_workplace(cifar10_many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one with these as its data, taken for the published ones."""
    samples.cifar10_for_published(cifar10_many, monkeypatch)
    (tmp_path / "datasets").symlink_to(cifar10_many)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cifar10_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one with a few real images in CIFAR-10's own files, below the folder `mine`."""
    monkeypatch.chdir(tmp_path)
    return samples.cifar10(tmp_path / "mine", monkeypatch)


@pytest.fixture(scope="session")
def svhn_noise(tmp_path_factory: pytest.TempPathFactory) -> samples.Svhn:
    """Random pixels in files like SVHN's, only to be read."""
    return samples.svhn_noise(tmp_path_factory.mktemp("svhn_noise"))


@pytest.fixture
def svhn_workplace(svhn_noise: samples.Svhn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> samples.Svhn:
    """The working directory is one in which these are prepared, taken for the published ones."""
    svhn_noise.stand_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    source_of(SvhnData(root=str(svhn_noise.root))).prepare()
    return svhn_noise


@pytest.fixture(scope="session")
def svhn_digits() -> samples.Svhn:
    """Some real images in files like SVHN's, only to be read."""
    return samples.svhn_digits()

"""CIFAR-10's files: where they come from, that only published ones are used, and that they are there whole or not."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from repro.data.training import describe_split, prepare, training_hash, training_set

from repro.data import Cifar10Data, cifar10, cifar10_files, download

PROJECT = Path(__file__).parents[1]
BATCHES = cifar10_files.BATCHES
NAMES = set(cifar10_files.MD5)
FOLDER = Path("artifacts/data")
EXECUTED = "executed"  # the file that an unpickled `Bomb` leaves in the working directory


class Bomb:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """What an unpickler calls."""
        return os.mkdir, (EXECUTED,)


BOMB = pickle.dumps(Bomb())


@pytest.fixture
def root(cifar10_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and in it a folder with links to the real files, of which a test may replace one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine" / BATCHES
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).symlink_to((cifar10_root / BATCHES / name).resolve())
    return folder.parent


def put(path: Path, content: bytes) -> None:
    """A file of its own in place of a link, so that the real one stays as it is."""
    path.unlink()
    path.write_bytes(content)


def with_a_bit_flipped(path: Path) -> bytes:
    """The content with one bit of one pixel changed."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


def placed() -> set[str]:
    """What lies in the folder that training reads, hidden and temporary files included."""
    folder = FOLDER / "cifar10" / BATCHES
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def no_links(*_: object) -> None:
    """`os.link` between two disks."""
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def no_network(*_: object, **__: object) -> None:
    """A download without network."""
    raise URLError("Name or service not known")


def test_prepare_places_links_to_the_published_files(root: Path) -> None:
    """All seven files, as hard links to the files themselves, also where the source holds symbolic links."""
    prepare(Cifar10Data(root=str(root)), FOLDER)

    assert NAMES == placed()
    for name in NAMES:
        path = FOLDER / "cifar10" / BATCHES / name
        assert not path.is_symlink()
        assert cifar10_files.MD5[name] == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_prepare_links_where_it_can(root: Path) -> None:
    """On one disk a placed file is the same one as its source."""
    content = (root / BATCHES / "test_batch").read_bytes()
    put(root / BATCHES / "test_batch", content)

    prepare(Cifar10Data(root=str(root)), FOLDER)

    assert (root / BATCHES / "test_batch").samefile(FOLDER / "cifar10" / BATCHES / "test_batch")


def test_prepare_copies_where_it_cannot_link(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across disks the files are copied, each under its own name only."""
    monkeypatch.setattr(os, "link", no_links)

    prepare(Cifar10Data(root=str(root)), FOLDER)

    assert NAMES == placed()
    for name in NAMES:
        path = FOLDER / "cifar10" / BATCHES / name
        assert not (root / BATCHES / name).samefile(path)
        assert (root / BATCHES / name).read_bytes() == path.read_bytes()


def test_an_interrupted_copy_leaves_no_part_of_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up at the third file, two whole ones are there, and the next prepare adds the others."""
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 5:  # a file and its folder at a time
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", no_links)
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as error:
            prepare(Cifar10Data(root=str(root)), FOLDER)

    assert {"data_batch_1", "data_batch_2"} == placed()
    assert str(error.value.filename).endswith("data_batch_3")
    prepare(Cifar10Data(root=str(root)), FOLDER)
    assert NAMES == placed()


def test_prepare_does_nothing_the_second_time(root: Path) -> None:
    """Files that are there stay untouched, and the place they came from is not needed any more."""
    prepare(Cifar10Data(root=str(root)), FOLDER)
    folder = FOLDER / "cifar10" / BATCHES
    before = {path.name: (path.stat().st_ino, path.stat().st_ctime_ns) for path in folder.iterdir()}

    prepare(Cifar10Data(root="gone"), FOLDER)

    assert before == {path.name: (path.stat().st_ino, path.stat().st_ctime_ns) for path in folder.iterdir()}


def test_prepare_mends_a_damaged_file(root: Path) -> None:
    """A placed file that was changed is placed again; the others stay."""
    prepare(Cifar10Data(root=str(root)), FOLDER)
    folder = FOLDER / "cifar10" / BATCHES
    put(folder / "data_batch_4", with_a_bit_flipped(folder / "data_batch_4"))
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}

    prepare(Cifar10Data(root=str(root)), FOLDER)

    after = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert {"data_batch_4"} == {name for name in NAMES if before[name] != after[name]}
    assert cifar10_files.verified(folder / "data_batch_4", "")


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_5", "test_batch"])
def test_a_flipped_bit_is_refused_before_anything_is_placed(root: Path, name: str) -> None:
    """Any file that is not the published one is named, with both MD5s and the remedy."""
    put(root / BATCHES / name, with_a_bit_flipped(root / BATCHES / name))

    message = rf"mine/{BATCHES}/{name} has MD5 .*, the published file has {cifar10_files.MD5[name]}; replace it"
    with pytest.raises(ValueError, match=message):
        prepare(Cifar10Data(root=str(root)), FOLDER)
    assert set() == placed()


def test_missing_files_are_named(root: Path) -> None:
    """An incomplete folder is not filled up silently: what is missing is listed."""
    for name in ("data_batch_2", "batches.meta"):
        (root / BATCHES / name).unlink()

    with pytest.raises(
        ValueError, match=r"data.root = .*mine: .* lacks data_batch_2, batches.meta; put them there, or"
    ):
        prepare(Cifar10Data(root=str(root)), FOLDER)
    assert set() == placed()


@pytest.mark.parametrize("name", ["data_batch_5", "data_batch_1"])
def test_training_refuses_a_changed_file_before_it_unpickles(root: Path, name: str) -> None:
    """A pickle that would run code is named as not the published file, and does not run."""
    prepare(Cifar10Data(root=str(root)), FOLDER)
    put(FOLDER / "cifar10" / BATCHES / name, BOMB)
    cifar10._load.cache_clear()

    with pytest.raises(ValueError, match=rf"{name} has MD5 .*; prepare it again: python -m repro.cli.prepare"):
        training_set(Cifar10Data(), 0)
    assert not Path(EXECUTED).exists()


def test_training_without_prepared_files_names_the_remedy(root: Path) -> None:
    """Training reads artifacts/data only, not data.root."""
    with pytest.raises(ValueError, match=r"artifacts/data/.*data_batch_1 is missing; prepare it again: python -m"):
        training_set(Cifar10Data(root=str(root)), 0)


def test_a_pickle_can_make_arrays_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a file of the expected MD5 cannot run code."""
    path = root / BATCHES / "data_batch_1"
    put(path, BOMB)
    monkeypatch.setitem(cifar10_files.MD5, path.name, hashlib.md5(BOMB, usedforsecurity=False).hexdigest())

    with pytest.raises(pickle.UnpicklingError, match=r"asks for .*mkdir"):
        cifar10_files.read_batch(path)
    assert not Path(EXECUTED).exists()


def test_preparing_and_training_never_read_the_test_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test file that cannot be unpickled stops neither: to them it is bytes with an MD5."""
    put(root / BATCHES / "test_batch", BOMB)
    monkeypatch.setitem(cifar10_files.MD5, "test_batch", hashlib.md5(BOMB, usedforsecurity=False).hexdigest())
    config = Cifar10Data(root=str(root))

    prepare(config, FOLDER)
    described = describe_split(config, [0])
    assert 64 == len(training_hash(config, [0]))
    assert "5000-8999" in described
    assert not Path(EXECUTED).exists()


def test_without_files_or_network_the_user_is_told_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence: which archive or files go where, or which setting to change."""
    monkeypatch.setattr(download, "urlopen", no_network)
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ValueError, match=r"could not be downloaded .*Name or service not known") as error:
        prepare(Cifar10Data(), FOLDER)

    message = str(error.value)
    assert message.startswith("data.root = datasets: has no folder cifar-10-batches-py")
    assert all(name in message for name in [*NAMES, "cifar-10-python.tar.gz", "or set data.root to"])
    assert "\n" not in message
    assert set() == placed()


def test_the_batches_folder_itself_is_not_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root one level too deep is answered with the right one instead of a download."""
    monkeypatch.setattr(download, "urlopen", no_network)

    with pytest.raises(ValueError, match=rf"wants the folder that holds {BATCHES}; set it to {root}$"):
        prepare(Cifar10Data(root=str(root / BATCHES)), FOLDER)


def test_sizes_are_those_of_the_published_files(root: Path) -> None:
    """Each size that a member of an archive must have is that of the file with the published MD5."""
    assert {name: (root / BATCHES / name).stat().st_size for name in NAMES} == cifar10_files.SIZE


def test_a_home_folder_is_understood(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data.root=~/mine` is a folder in the user's home."""
    monkeypatch.setenv("HOME", str(root.parent))

    prepare(Cifar10Data(root="~/mine"), FOLDER)

    assert NAMES == placed()


@pytest.mark.slow
def test_prepare_as_a_user_runs_it(root: Path, tmp_path: Path) -> None:
    """Runs that differ in views or in where the files were share one split; the place is not recorded."""
    common = ["data=cifar10", "model=wide_resnet", "data.labels=50", "data.train_images=6000"]
    runs = {
        "one": [*common, f"data.root={root}"],
        "same": [*common, "data.root=/elsewhere"],
        "other": [*common, "data.views.magnitude=3.0"],
        "more": [*common, "data.labels=60"],
    }
    plan = {name: {"experiment": "digits_supervised", "overrides": o, "seeds": "0-1"} for name, o in runs.items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": plan}, sort_keys=False))
    (tmp_path / "experiments").symlink_to(PROJECT / "experiments")

    command = [sys.executable, "-W", "error", "-m", "repro.cli.prepare", "--plan", "params.yaml"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)  # noqa: S603

    assert (0, "") == (done.returncode, done.stderr)
    configs = {name: yaml.safe_load((tmp_path / f"artifacts/configs/{name}.yaml").read_text()) for name in runs}
    assert configs["one"] == configs["same"]
    assert {"datasets"} == {config["data"]["root"] for config in configs.values()}
    assert configs["one"]["data_hash"] == configs["other"]["data_hash"] != configs["more"]["data_hash"]
    assert 2 == len(list((tmp_path / "artifacts/data/splits").glob("cifar10-*.json")))
    assert NAMES == placed()
    assert configs["one"]["data_hash"] == training_hash(Cifar10Data(labels=50, train_images=6000), [0, 1])

"""Records, plans, settings and claims that somebody damaged or made up: one sentence with file, key and remedy.

Nothing here may end in another exception than the project's own, take memory or time without bound, or give a number.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from repro.plan import compose, read_plan
from repro.results import Run, read_run, read_runs, write_run
from repro.settings import ConfigError
from repro.verify.claims import read_claims, read_verdicts
from tests.verify_cases import config, hashed, rebuilt, run_of

ROOT = Path(__file__).parent.parent / "experiments"
Damage = Callable[[Path], object]
ALIASES = b"a: &a [1, 2]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """Whoever waits for a pipe, or counts to a billion, is stopped."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record that passes."""
    place = write_run(run_of("arm", {3: 900, 12: 910}, config({"name": "mpl"})), tmp_path_factory.mktemp("runs"))
    assert [] == rebuilt(read_run(place)).problems
    return place


# Records


def put(name: str, content: bytes) -> Damage:
    """Another content of one file."""
    return lambda place: (place / name).write_bytes(content)


def other(name: str, make: Callable[[Path], object]) -> Damage:
    """Something else where a file is expected."""

    def damage(place: Path) -> None:
        (place / name).unlink()
        make(place / name)

    return damage


def text(name: str, old: str, new: str) -> Damage:
    """Another text in one file, wherever the old one stands."""

    def damage(place: Path) -> None:
        content = (place / name).read_text()
        assert old in content
        (place / name).write_text(content.replace(old, new))

    return damage


def setting(key: str, value: Any) -> Damage:
    """Another setting, with hashes that fit."""
    part, name = key.split(".")
    return again(lambda run: run.config[part].update({name: value}))


def cell(column: str, value: Any) -> Damage:
    """Another value for all seeds in seeds.csv, with hashes that fit."""

    def change(run: Run) -> None:
        run.seeds[column] = value

    return again(change)


def again(change: Callable[[Run], object]) -> Damage:
    """Something else in the record, with hashes that fit: whoever makes up a record can compute them."""

    def damage(place: Path) -> None:
        run = read_run(place)
        change(run)
        write_run(hashed(run), place.parent)

    return damage


def arrays(**changes: Any) -> Damage:
    """Other arrays; None leaves one out. `predictions` and `steps` stand for the names with dots."""
    names = {"predictions": "predictions.student", "steps": "curve.step", "curve": "curve.accuracy.student"}

    def damage(place: Path) -> None:
        with np.load(place / "arrays.npz") as found:
            content = dict(found) | {names.get(name, name): array for name, array in changes.items()}
        np.savez(place / "arrays.npz", **{name: array for name, array in content.items() if array is not None})

    return damage


def packed(members: dict[str, bytes]) -> bytes:
    """An archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def huge_array() -> bytes:
    """A head that says a petabyte, and nothing after it."""
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (1125899906842624,), }".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()


RECORDS: dict[str, tuple[Damage, str]] = {
    "settings are a list": (put("config.yaml", b"- a\n- b\n"), "config.yaml is not what was recorded .no mapping"),
    "settings nested deeply": (put("config.yaml", b"a: " + b"[" * 50_000), "config.yaml is not what was recorded"),
    "a bomb of aliases": (put("config.yaml", ALIASES), "config.yaml .* refers to a list or mapping"),
    "a date": (text("config.yaml", "steps: 1000", "steps: 2001-01-01"), "config.yaml is not what was recorded"),
    "a key that is no text": (text("config.yaml", "finetune:", "1: 2\nfinetune:"), "no mapping of settings"),
    "a setting that there is not": (again(lambda run: run.config.update(other=1)), "other is not a setting"),
    "a method that is a list": (again(lambda run: run.config.update(method=[1])), "the configuration cannot be read"),
    "a billion rows of the log": (
        again(lambda run: run.config["budget"].update(steps=10**9, log_every=1)),
        "where 1000000000 steps give 1000000000"),
    "a recipe of nothing": (again(lambda run: run.config["recipe"].update(values={"no.thing": 1})),
        "no.thing is not a"),
    "seeds without columns": (put("seeds.csv", b"seed\n3\n12\n"),
        "seeds.csv is not what was recorded .no column group"),
    "no file of seeds": (lambda place: (place / "seeds.csv").unlink(), "seeds.csv is missing"),
    "no seed": (lambda place: put("seeds.csv", (place / "seeds.csv").read_bytes().split(b"\n")[0] + b"\n")(place),
        "no seed"),
    "half a seed": (text("seeds.csv", "\n3,", "\n3.5,"), "no whole numbers as seeds"),
    "an accuracy above 1": (cell("accuracy.student", 1.5), "was stored with accuracy 1.5, its predictions give 0.9"),
    "an accuracy in words": (text("seeds.csv", ",0.9,", ",most,"), "could not convert string to float: 'most'"),
    "an accuracy of no network": (cell("accuracy.third", 0.9), "has accuracies of student, teacher, third, but"),
    "no group": (cell("group", ""), "its log has rows of seed 12, which is not recorded"),
    "a log without steps": (text("metrics.csv", "step", "steps"), "the log has no column step"),
    "a log with half steps": (text("metrics.csv", ",50,", ",50.5,"), "metrics.csv is not what was recorded"),
    "arrays that are text": (put("arrays.npz", b"no archive"), "arrays.npz is not what was recorded"),
    "arrays of objects": (arrays(predictions=np.array([{}, {}])), "Object arrays cannot be loaded"),
    "arrays of text": (arrays(predictions=np.array([["a"], ["b"]])), "predictions.student is no array of numbers"),
    "a file that is no array": (put("arrays.npz", packed({"notes.txt": b"a"})), "notes.txt is no array of numbers"),
    "an array of a petabyte": (put("arrays.npz", packed({"a.npy": huge_array()})),
        "arrays.npz is not what was recorded"),
    "an archive of gigabytes": (put("arrays.npz", packed({"a.npy": bytes(1 << 20)}).replace(
        (1 << 20).to_bytes(4, "little"), (1 << 32).__sub__(2).to_bytes(4, "little"))), "take more than 2,147,483,648"),
    "a single number": (arrays(predictions=np.uint8(3)), "predictions.student has not one row for each of 2 seeds"),
    "one example too many dimensions": (arrays(predictions=np.zeros((2, 9, 1), np.uint8)), "holds no classes of test"),
    "classes that are shares": (arrays(predictions=np.zeros((2, 9))), "float64 .2, 9. holds no classes of test ex"),
    "no predictions": (arrays(predictions=None), "the predictions are not those that were evaluated"),
    "no test example": (
        again(lambda run: run.arrays.update({f"predictions.{n}": np.zeros((2, 0), np.uint8) for n in run.networks})),
        r"has predictions \[1, 0\] for labels \[1, 1000\]"),
    "a step that is half": (arrays(steps=np.array([0.0, 0.5])), "curve.step float64 .2. is no list of steps"),
    "a curve without steps": (arrays(steps=None), r"curve.accuracy.student has shape \[2, 2\], but there are 0 steps"),
    **{f"a pipe for {name}": (other(name, os.mkfifo), f"{name} cannot be opened .Is a pipe or a device")
       for name in ("config.yaml", "seeds.csv", "metrics.csv", "arrays.npz")},
    **{f"a folder for {name}": (other(name, Path.mkdir), f"{name} cannot be opened .Is a directory")
       for name in ("config.yaml", "arrays.npz")},
    "a device for the log": (other("metrics.csv", lambda path: path.symlink_to("/dev/zero")), "Is a pipe or a device"),
}  # fmt: skip


def said_of(root: Path) -> str:
    """What reading and judging all runs of a folder says against them."""
    try:
        return "\n".join(problem for run in read_runs(root).values() for problem in rebuilt(run).problems)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", RECORDS)
def test_a_hostile_record_gives_no_number(name: str, good: Path, tmp_path: Path) -> None:
    """It is refused, by the file or by the run and what is wrong with it; the sentence says what to do."""
    damage, wanted = RECORDS[name]
    place = shutil.copytree(good, tmp_path / "arm")
    damage(place)
    said = said_of(tmp_path)

    assert re.search(wanted, said), said
    assert all("arm" in line and re.search("git checkout|a plan that has it|remove", line) for line in said.split("\n"))


# Plans


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_no_reader_waits_for_a_pipe(make: Callable[[Path], object], tmp_path: Path) -> None:
    """Plans, claims and verdicts are files."""
    make(tmp_path / "a.yaml")

    for read in (read_plan, read_claims, read_verdicts):
        with pytest.raises(ValueError, match=r"a\.yaml.* .Is a pipe or a device, not a file."):
            read(tmp_path / "a.yaml")


# Settings


SETTINGS: dict[str, tuple[str, str, str]] = {
    "arms by number": ("arms.yaml", "arms: {1: {title: a, method: mpl}}\n", "arms = .*: wants a mapping of names"),
    "an arm without a method": ("arms.yaml", "arms: {mpl: {title: a}}\n", "arms.mpl: method is missing; add it"),
    "a reference of Hydra's": ("arms.yaml", "arms: {mpl: {title: '${a}${a}', method: mpl}}\n",
        r"arms.yaml: refers .* \$\{"),
    "a recipe with a bomb": ("recipe/none.yaml", ALIASES.decode(), "none.yaml: line 2: refers to a list or mapping"),
    "a data set in minutes": ("data/imagenet.yaml", "name: folder\nx: 1:30\n",
        "imagenet.yaml: line 2: YAML reads 1:30 as the number 90"),
    "defaults that refer": ("config.yaml", "title: '${title}${title}'\n", r"config.yaml: refers .* \$\{"),
    "defaults in a list": ("config.yaml", "[a, b]\n", "digits_mpl: "),
    "a comparison in a list": ("setting/digits.yaml", "comparison: [a]\n",
        "digits.yaml: comparison = .*: wants a mapping of names"),
    "its arms in a list": ("setting/digits.yaml", "comparison: {page: a, arms: [mpl]}\n",
        "comparison: arms = .*: wants a mapping"),
    "methods in a list": ("setting/digits.yaml", "comparison: {methods: [mpl], arms: {mpl: }}\n",
        "comparison: .*methods = "),
    "like itself": ("setting/digits.yaml", "comparison: {like: digits, arms: {mpl: }}\n",
        "like = 'digits': comes back to itself"),
    "like nothing": ("setting/digits.yaml", "comparison: {like: digit, arms: {mpl: }}\n",
        "'digit': is no setting; did you mean 'digits'"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_hostile_settings_are_refused(name: str, tmp_path: Path) -> None:
    """Each file that a run is composed from is read as strictly as the next."""
    file, content, wanted = SETTINGS[name]
    root = shutil.copytree(ROOT, tmp_path / "experiments")
    (root / file).write_text(content)

    with pytest.raises(ConfigError, match=wanted) as caught:
        compose("digits_mpl", root=root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["arms.yaml", "config.yaml", "recipe/none.yaml", "setting/digits.yaml"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_settings_are_files(make: Callable[[Path], object], file: str, tmp_path: Path) -> None:
    """A pipe is not waited for; a folder is named."""
    root = shutil.copytree(ROOT, tmp_path / "experiments")
    (root / file).unlink()
    make(root / file)

    with pytest.raises(ConfigError, match=rf"{file}: cannot be read \(Is .*\); put a YAML file there"):
        compose("digits_mpl", root=root)


# Claims


def claims(**changes: Any) -> bytes:
    """One claim, changed."""
    rule = {"kind": "absolute", "experiment": None, "value": 96.11, "spread": 0.07, "runs": 10, "margin": 0.25}
    entry = {"id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "rule": rule | changes}
    return yaml.safe_dump({"claims": [entry]}).encode()


CLAIMS: dict[str, tuple[bytes, str]] = {
    "a value without end": (claims(value=10**400), "c.rule.value = 1000.*: is too large for a number"),
    "a kind that is a list": (claims(kind=["a"]), "rule.kind = .* is unknown"),
    "a field by number": (claims(**{"3": 4}).replace(b"'3'", b"3"), "rule.3 = 3: keys should be strings"),
    "claims that are text": (b"claims: many\n", "wants a list `claims:`"),
    "a claim that is text": (b"claims: [many]\n", "claim 1: wants a mapping"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_hostile_claim_is_refused(name: str, tmp_path: Path) -> None:
    """No number that arithmetic cannot hold, and no other type."""
    content, wanted = CLAIMS[name]
    (tmp_path / "claims.yaml").write_bytes(content)

    with pytest.raises(ValueError, match=wanted) as caught:
        read_claims(tmp_path / "claims.yaml")
    assert str(caught.value).startswith(str(tmp_path / "claims.yaml"))
    assert "\n" not in str(caught.value)

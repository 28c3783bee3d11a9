"""The hash of a record holds all of it: whatever one value is changed to, the run and its seed are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.results import RecordError, Run, joined, read_run, record_hashes, with_record_hashes, write_run
from tests.verify_cases import config, rebuilt, run_of

SHARED = ("curve.step", "curve.late_step", "boundary.x", "boundary.student")


def a_run(*seeds: int) -> Run:
    """Of these seeds, with arrays of every kind and a log that starts otherwise for each seed."""
    run = run_of("arm", dict.fromkeys(seeds, 900), config({"name": "mpl"}))
    arrays = run.arrays | {
        "curve.late_step": np.array([800, 900]),
        "curve.late_accuracy": np.array([[0.5 + seed / 100, np.nan] for seed in seeds], np.float32),
        "boundary.x": np.linspace(0, 1, 3, dtype=np.float32),
        "boundary.student": np.zeros((1, 2, 3), np.uint8),
    }
    log = run.metrics.assign(loss=np.arange(len(run.metrics)) / 3, late=np.nan)
    return with_record_hashes(replace(run, metrics=log, arrays=arrays))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is recorded of the seeds 3 and 12."""
    place = write_run(a_run(3, 12), tmp_path_factory.mktemp("runs"))
    assert [] == rebuilt(read_run(place)).problems
    return place


def setting(place: Path) -> None:
    """Another learning rate."""
    content = yaml.safe_load((place / "config.yaml").read_text())
    content["optim"]["student"]["learning_rate"] = 0.2
    (place / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def cell(file: str, row: int, column: str, value: str) -> Callable[[Path], None]:
    """Another value in one row of a table; the first row is 0."""

    def change(place: Path) -> None:
        lines = (place / file).read_text().splitlines()
        fields = lines[row + 1].split(",")
        at = lines[0].split(",").index(column)
        assert fields[at] != value
        fields[at] = value
        lines[row + 1] = ",".join(fields)
        (place / file).write_text("\n".join(lines) + "\n")

    return change


def lines(edit: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Other lines in the log."""

    def change(place: Path) -> None:
        text = (place / "metrics.csv").read_text().splitlines(keepends=True)
        (place / "metrics.csv").write_text("".join(edit(text)))

    return change


def array(name: str) -> Callable[[Path], None]:
    """Another last number in one array, of the last seed where each has its own."""

    def change(place: Path) -> None:
        with np.load(place / "arrays.npz") as found:
            arrays = dict(found)
        flat = arrays[name].reshape(-1)
        flat[-1] = flat[-1] + 1 if flat[-1] == flat[-1] else 0
        np.savez_compressed(place / "arrays.npz", allow_pickle=False, **arrays)

    return change


CHANGES: dict[str, tuple[Callable[[Path], None], tuple[int, ...]]] = {
    "a setting": (setting, (3, 12)),
    "an accuracy": (cell("seeds.csv", 1, "accuracy.student", "0.91"), (12,)),
    "the hash itself": (cell("seeds.csv", 0, "record_hash", "0" * 64), (3,)),
    "a cell emptied": (cell("seeds.csv", 1, "held_out_hash", ""), (12,)),
    "a seed": (cell("seeds.csv", 1, "seed", "13"), (13,)),
    "a number of the log": (cell("metrics.csv", 0, "loss", "0.123456"), (3,)),
    "a digit beyond it": (cell("metrics.csv", 1, "loss", "0.3333330001"), (3,)),
    "a step of the log": (cell("metrics.csv", 25, "step", "1"), (12,)),
    "the log cut by its last row": (lines(lambda text: text[:-1]), (12,)),
    "two of its rows exchanged": (lines(lambda text: [text[0], text[2], text[1], *text[3:]]), (3,)),
    "a name of its columns": (lines(lambda text: [text[0].replace("loss", "lost"), *text[1:]]), (3, 12)),
    **{f"{name}": (array(name), (3, 12)) for name in SHARED},
    **{name: (array(name), (12,)) for name in ("curve.accuracy.student", "curve.late_accuracy")},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_record_is_refused_with_its_seed(name: str, folder: Path, tmp_path: Path) -> None:
    """One value, in any of the four files; seeds beside it whose own record is whole are not accused."""
    change, seeds = CHANGES[name]
    place = shutil.copytree(folder, tmp_path / "arm")
    change(place)
    problems = rebuilt(read_run(place)).problems

    for seed in seeds:
        assert any(one.startswith(f"arm, seed {seed}: its record was changed after it was written") for one in problems)
    assert not [one for one in problems if "hash differs" in one and not one.startswith(
        tuple(f"arm, seed {seed}: " for seed in seeds))]  # fmt: skip


@settings(derandomize=True, deadline=None, database=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_edited_byte_goes_unseen(folder: Path, data: st.DataObject) -> None:
    """A byte of any file is changed, added or taken away: the record cannot be read, is refused, or says the same."""
    name = data.draw(st.sampled_from(["config.yaml", "seeds.csv", "metrics.csv", "arrays.npz"]))
    whole = (folder / name).read_bytes()
    at, more = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.sampled_from([b"", bytes([*range(256)])]))
    byte = bytes([data.draw(st.sampled_from(more))]) if more else b""
    good = read_run(folder)
    (folder / name).write_bytes(whole[:at] + byte + whole[at + data.draw(st.integers(0, 1)) :])
    try:
        run = read_run(folder)
        same = run.seeds.equals(good.seeds) and record_hashes(run) == record_hashes(good)
        said = "" if same else "; ".join(rebuilt(run).problems)
        assert same or said
    except RecordError as error:
        said = str(error)
    finally:
        (folder / name).write_bytes(whole)

    assert "\n" not in said


def test_the_hash_does_not_depend_on_the_place() -> None:
    """A seed recorded alone, and after others, has the same: neither they nor its rows' place are of its record."""
    one, both = a_run(5), joined([shared_log(a_run(5)), shared_log(a_run(3))])

    assert record_hashes(shared_log(one))["5"] == record_hashes(both)["5"]
    assert both.metrics.index[both.metrics["seed"] == "5"][0] == 0
    moved = replace(both, metrics=both.metrics.sort_values("seed", kind="stable").reset_index(drop=True))
    assert moved.metrics.index[moved.metrics["seed"] == "5"][0] == 20
    assert record_hashes(moved)["5"] == record_hashes(both)["5"]


def shared_log(run: Run) -> Run:
    """With a column of whole numbers, which are floats where another seed has a share there."""
    settings = run.config | {"data_hash": "of both"}
    return replace(run, config=settings, metrics=run.metrics.assign(noise=0 if 5 in run.seeds.index else 0.5))

"""Checkpoints: the last two, whole, checked, of one format and run; a damaged newest gives way to the one before."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.train import checkpoint
from repro.train.checkpoint import FORMAT, Damaged, OtherFormat, Refused, Series, load, save

MADE_BY = {"config": {"budget": {"steps": 9}}, "seeds": 0, "source": {"train/loop.py": "a"}}


def entry(step: int) -> dict[str, torch.Tensor]:
    """Weights that tell their step."""
    return {"w": torch.full((3,), float(step))}


def write(folder: Path, *steps: int, series: dict[str, Series] | None = None) -> dict[str, Series]:
    """Checkpoints at these steps, each with a snapshot of its own."""
    series = series or {name: Series(name) for name in checkpoint.SERIES}
    for step in steps:
        series["snapshots"].append(step, {"student": entry(step)})
        content = {"made_by": MADE_BY, "step": step, "state": entry(step), "sessions": []}
        checkpoint.write(folder, step, content, series)
    return series


def read(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """What there is to go on from, and what was said."""
    said: list[str] = []
    return checkpoint.read(folder, MADE_BY, said.append), said


def steps(content: dict[str, Any] | None) -> tuple[int, list[int]]:
    """Of the checkpoint and of its snapshots, which must be the ones that were kept."""
    for kept in content["snapshots"]:
        assert torch.equal(entry(kept["step"])["w"], kept["networks"]["student"]["w"])
    return content["step"], content["snapshots"].steps


def spoil(path: Path) -> None:
    """Flips a bit near the end."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(bytes(content))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    """Older checkpoints go; the weights along the way, each in one file, stay."""
    write(tmp_path, 10, 200, 3000)

    assert ["checkpoint-000000200.pt", "checkpoint-000003000.pt"] == sorted(p.name for p in tmp_path.glob("check*"))
    assert (3000, [10, 200, 3000]) == steps(read(tmp_path)[0])


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_newest_gives_way(damage: str, tmp_path: Path) -> None:
    """The one before is gone on from, the reader is told, and the damaged one does not come back."""
    write(tmp_path, 10, 20)
    newest = tmp_path / "checkpoint-000000020.pt"
    content = newest.read_bytes()
    spoilt = {"cut": content[:-1], "empty": b""}
    if damage == "flipped":
        spoil(newest)
    else:
        newest.write_bytes(spoilt[damage])

    found, said = read(tmp_path)

    assert (10, [10]) == steps(found)
    assert len(said) == 1
    assert said[0].startswith(str(newest))
    assert "going on from the checkpoint before it, at step 10" in said[0]
    assert (10, [10]) == steps(read(tmp_path)[0])
    assert [] == read(tmp_path)[1]


def test_damaged_weights_along_the_way_count_too(tmp_path: Path) -> None:
    """A checkpoint whose snapshots are not whole is not whole; going on writes them again."""
    write(tmp_path, 10, 20)
    spoil(tmp_path / "snapshots-0002.pt")

    found, said = read(tmp_path)

    assert (10, [10]) == steps(found)
    assert "snapshots-0002.pt is not what was written" in said[0]
    write(tmp_path, 20, series={name: found[name] for name in checkpoint.SERIES})
    assert (20, [10, 20]) == steps(read(tmp_path)[0])


def test_a_snapshot_of_another_checkpoint_is_noticed(tmp_path: Path) -> None:
    """A file that is whole, but not the one that the checkpoint names, is damage."""
    write(tmp_path / "a", 10)
    write(tmp_path / "b", 11)
    (tmp_path / "b/snapshots-0001.pt").replace(tmp_path / "a/snapshots-0001.pt")

    with pytest.raises(Refused, match=r"no checkpoint in .* is intact: .*snapshots-0001.pt is not what was written"):
        read(tmp_path / "a")


def test_without_an_intact_checkpoint_nothing_starts(tmp_path: Path) -> None:
    """Starting anew is the user's decision; files stay for whoever can mend them."""
    write(tmp_path, 10, 20)
    for path in tmp_path.glob("checkpoint-*"):
        spoil(path)

    with pytest.raises(Refused, match=rf"restore the files from a copy, or start anew: rm -r {tmp_path}"):
        read(tmp_path)
    assert 2 == len(list(tmp_path.glob("checkpoint-*")))


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    """Half-written files and weights that no checkpoint lists are removed; all others are left alone."""
    write(tmp_path, 10)
    for name in (".partly-checkpoint-000000020.pt.x1", "snapshots-0002.pt", "late-0001.pt", "notes.txt"):
        (tmp_path / name).write_bytes(b"half")

    read(tmp_path)

    assert {"checkpoint-000000010.pt", "snapshots-0001.pt", "notes.txt"} == {path.name for path in tmp_path.iterdir()}


def test_weights_are_written_before_what_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in between leaves the checkpoint before, whole."""
    series = write(tmp_path, 10)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 20, series=series)

    assert (10, [10]) == steps(read(tmp_path)[0])


@pytest.mark.parametrize(("made_by", "difference"), [
    ({"config": {"budget": {"steps": 8}}}, "budget.steps = 9 there, 8 here"),
    ({"config": MADE_BY["config"] | {"data_hash": "f00"}}, "data_hash (data or split) = absent there, f00 here"),
    ({"seeds": [0, 1]}, "seeds = 0 there, [0, 1] here"),
    ({"source": {"train/loop.py": "a", "losses.py": "c"}}, "losses.py of the training code differs"),
])  # fmt: skip
def test_a_state_made_otherwise_is_refused_by_name(made_by: dict[str, Any], difference: str, tmp_path: Path) -> None:
    """And by nothing else; days of another training are not thrown away."""
    write(tmp_path, 10)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(Refused) as error:
        checkpoint.read(tmp_path, MADE_BY | made_by, print)

    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert f"of a run made otherwise: {difference}; undo the difference" in str(error.value)


def test_another_format_is_refused_and_kept(tmp_path: Path) -> None:
    """It is not damage: the older one is not gone on from in its place."""
    write(tmp_path, 10, 20)
    newest = tmp_path / "checkpoint-000000020.pt"
    first, rest = newest.read_bytes().split(b"\n", 1)
    newest.write_bytes(first.replace(f" {FORMAT} ".encode(), b" 1 ") + b"\n" + rest)

    with pytest.raises(Refused, match=rf"is in format 1, this version reads {FORMAT}; check that version out"):
        read(tmp_path)
    assert newest.exists()


class Bomb:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What an unpickler calls."""
        return Path.touch, (Path("executed"),)


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in one whose checksum is right."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "file", {"bomb": Bomb()})

    with pytest.raises(Damaged, match="does not hold tensors and plain values alone"):
        load(tmp_path / "file")
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(Damaged, match="does not begin as a saved state"):
        load(tmp_path / "pickle")
    assert not Path("executed").exists()


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Wherever it is, in the first line too."""
    path = tmp_path / "file"
    save(path, {"w": torch.arange(3)})
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        with pytest.raises((Damaged, OtherFormat)):
            load(path)


def test_another_device_or_version_is_said() -> None:
    """Not another revision whose training code is the same: that decides no number."""
    before = {"revision": "a", "torch": "2.8", "device_name": "H100", "threads": 1}
    now = {"revision": "b", "torch": "2.9", "device_name": "H100", "threads": 1}

    assert ["torch 2.9 in place of 2.8"] == checkpoint.changes(before, now)
    assert [] == checkpoint.changes({}, now)

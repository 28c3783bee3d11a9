"""Seeds side by side in one process: each computes what it computes alone, and one that fails ends the others."""

from __future__ import annotations

import contextlib
import itertools
import math
import weakref
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from repro.cli import worker
from repro.cli.chunk import Job
from repro.cli.stopping import Flags
from repro.engine import turns
from repro.engine.graph import CudaGraph
from repro.engine.turns import abreast, groups_of, in_turns, to_its_end
from repro.train import loop
from repro.train.calls import Stopped
from repro.train.finetune import finetuning
from repro.train.loop import Trainer
from repro.train.result import load_results
from tests.entry_points import call
from tests.recording import record_on_tapes
from tests.test_more_seeds import SHORT
from tests.test_recorded_steps import long
from tests.tiny import CPU, all_weights, assert_same

ROOT = Path(__file__).parent.parent


def counting(name: str, to: int, told: list[str]) -> Generator[None, None, str]:
    """Pauses so many times."""
    for step in range(to):
        told.append(f"{name}{step}")
        yield
    return name


def test_they_take_turns() -> None:
    """A step each until all have ended, whichever ends first; a single one is waited for alike."""
    told: list[str] = []

    assert in_turns([counting(name, to, told) for name, to in (("a", 3), ("b", 1), ("c", 2))], CPU) == ["a", "b", "c"]
    assert told == ["a0", "b0", "c0", "a1", "c1", "a2"]
    assert to_its_end(counting("d", 2, told)) == "d"
    abreast([lambda: told.append("x"), lambda: told.append("y")], CPU)()
    assert told[-4:] == ["d0", "d1", "x", "y"]
    assert in_turns([], CPU) == []


def test_groups_keep_the_numbers_of_their_chunks() -> None:
    """The last group takes what is left."""
    assert groups_of([[5], [6], [7]], 2) == [{0: [5], 1: [6]}, {2: [7]}]
    assert groups_of([[5, 6], [7, 8]], 1) == [{0: [5, 6]}, {1: [7, 8]}]


def test_who_fails_ends_the_others() -> None:
    """They are told at once and go on to an end of their own; the first error is raised after that."""
    told: list[str] = []
    stop: list[bool] = []

    def failing(at: int) -> Iterator[None]:
        yield from counting("f", at, told)
        raise ValueError(f"after {at}")

    def asking() -> Iterator[None]:
        for _ in range(100):
            if stop:
                told.append("saved")
                return
            yield

    with pytest.raises(ValueError, match="after 1"):
        in_turns([failing(9), asking(), failing(1)], CPU, lambda error: stop.append(bool(error)))

    assert "saved" in told
    assert "f8" in told
    assert len(stop) == 2


def test_who_fails_keeps_nothing_meanwhile() -> None:
    """What it held is gone before the others save: memory may be why it failed."""
    alive: list[bool] = []
    held: list[weakref.ref[torch.Tensor]] = []

    def failing() -> Iterator[None]:
        taken = torch.ones(3)
        held.append(weakref.ref(taken))
        yield
        try:
            taken @ torch.ones(2)
        except RuntimeError:
            raise ValueError(str(taken.shape)) from None

    def watching() -> Iterator[None]:
        for _ in range(4):
            alive.append(held[0]() is not None)
            yield

    with pytest.raises(ValueError, match="3"):
        in_turns([failing(), watching()], CPU)

    assert alive == [True, False, False, False]


def test_on_a_gpu_each_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same one at each of its turns, and in the same place of the next group; a single one takes what is there."""
    seen: list[tuple[str, str]] = []
    current = ["default"]
    numbers = itertools.count()

    @contextlib.contextmanager
    def entered(stream: str) -> Iterator[None]:
        before, current[0] = current[0], stream
        try:
            yield
        finally:
            current[0] = before

    def task(name: str) -> Iterator[None]:
        for _ in range(2):
            seen.append((name, current[0]))
            yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda: f"stream {next(numbers)}")
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(turns, "_stream", cache(turns._stream.__wrapped__))
    gpu = torch.device("cuda")
    in_turns([task("a"), task("b")], gpu)
    in_turns([task("c"), task("d")], gpu)
    in_turns([task("e")], gpu)
    abreast([lambda: seen.append(("f", current[0])), lambda: seen.append(("g", current[0]))], gpu)()

    places = {"a": 0, "b": 1, "c": 0, "d": 1, "f": 0, "g": 1}
    assert set(seen) == {(name, f"stream {place}") for name, place in places.items()} | {("e", "default")}
    assert len(seen) == 12
    assert current == ["default"]


@pytest.mark.parametrize("recorded", [False, True])
def test_each_trains_as_it_would_alone(recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, log and finetuned weights, bit for bit, in recorded steps too."""
    tapes = record_on_tapes(monkeypatch)
    record, config = CudaGraph if recorded else None, long("digits", "mpl", finetune__steps=5)
    seeds = (3, 4, 5)
    alone, together = ([Trainer(config, seed, CPU, record=record) for seed in seeds] for _ in range(2))

    def train(trainer: Trainer, folder: Path) -> Generator[None, None, dict[str, torch.Tensor]]:
        yield from trainer.steps(folder)
        return (yield from finetuning(trainer))

    tuned = [to_its_end(train(one, tmp_path / f"alone-{one.seeds}")) for one in alone]
    tuned_together = in_turns([train(one, tmp_path / f"together-{one.seeds}") for one in together], CPU)

    for one, other in zip(alone, together, strict=True):
        assert_same(all_weights(one), all_weights(other))
        assert one.rows == other.rows
    for weights, others in zip(tuned, tuned_together, strict=True):
        assert_same(weights, others)
    assert len(tapes) == (6 if recorded else 0)


def test_all_stop_save_and_go_on(tmp_path: Path) -> None:
    """In the middle of training: none takes another step once it is asked to stop; afterwards, bit for bit as alone."""
    config, wanted = long("digits", "mpl"), [False]
    alone = [Trainer(config, seed, CPU) for seed in (3, 4, 5)]
    for one in alone:
        one.run(tmp_path / f"alone-{one.seeds}")

    def train(trainer: Trainer) -> Iterator[None]:
        with contextlib.suppress(Stopped):
            for _ in trainer.steps(tmp_path / f"{trainer.seeds}", stop=lambda: wanted[0]):
                yield
                wanted[0] |= (trainer.seeds, trainer.state.step) == (4, 8)

    first = [Trainer(config, one.seeds, CPU) for one in alone]
    in_turns([train(one) for one in first], CPU)
    again = [Trainer(config, one.seeds, CPU) for one in alone]
    in_turns([one.steps(tmp_path / f"{one.seeds}") for one in again], CPU)

    assert [9, 8, 8] == [one.state.step for one in first]  # the first had its turn before that
    assert [9, 8, 8] == [one.sessions[1]["from_step"] for one in again]
    for one, other in zip(alone, again, strict=True):
        assert_same(all_weights(one), all_weights(other))
        assert one.rows == other.rows


def test_the_turns_of_others_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of those side by side add up to those of the process."""
    now = [0.0]

    def step(_: Trainer) -> dict[str, torch.Tensor]:
        now[0] += 1.0
        return taken(_)

    taken = Trainer._step
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Trainer, "_step", step)
    config = long("digits", "uda")
    trainers = [Trainer(config, seed, CPU) for seed in range(3)]
    in_turns([one.steps(tmp_path / f"{one.seeds}") for one in trainers], CPU)

    assert [40.0, 40.0, 40.0] == [one.sessions[0]["seconds"] for one in trainers]


def trained(place: Path, *overrides: str, status: int = 0) -> str:
    """Prepares and trains three seeds; what training printed."""
    if not (place / "experiments").exists():
        (place / "experiments").symlink_to(ROOT / "experiments")
    plan = {"runs": {"small": {"experiment": "digits_mpl", "overrides": [*SHORT, *overrides], "seeds": "0-2"}}}
    (place / "params.yaml").write_text(yaml.safe_dump(plan))
    assert call(place, "prepare").returncode == 0
    done = call(place, "train", "small", "--seeds", "0-2")
    assert done.returncode == status, done.stderr
    return done.stdout


def networks(place: Path) -> list[Any]:
    """Of every seed, at the end of training."""
    return [result.networks() for result in load_results(place / "artifacts/runs/small")]


def test_a_run_side_by_side(tmp_path: Path) -> None:
    """The weights of seeds in processes of their own; what memory all want is said; another number may go on."""
    for name in "ab":
        (tmp_path / name).mkdir()
    trained(tmp_path / "a")

    said = trained(tmp_path / "b", "engine.side_by_side=2", "budget.workers=1", "budget.max_minutes=0.0001", status=75)
    saved = sorted(path.parent.name for path in (tmp_path / "b/state/small").glob("*/checkpoint-*"))
    trained(tmp_path / "b", "engine.side_by_side=3", "budget.workers=1")

    assert ", for 2 trainings side by side, " in said
    assert saved == ["seed-0"]  # a step of the first is always made; the others do not begin
    for one, other in zip(networks(tmp_path / "a"), networks(tmp_path / "b"), strict=True):
        for network, weights in one.items():
            assert_same(weights, other[network])


def test_a_worker_whose_seed_fails_has_the_others_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag goes up in its own process, since its parent hears of the failure only when the work has ended."""
    flags = Flags([0, 0])
    ended = []

    def train_chunk(_: Job, chunk: list[int], listener: Any) -> Generator[None, None, bool]:
        yield
        if chunk == [1]:
            raise ValueError("seed 1")
        for _ in range(100):
            if listener.stops():
                ended.append(chunk)
                return False
            yield
        return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "_worker", {"flags": flags, "began": False, "busy": False})
    monkeypatch.setattr(worker, "train_chunk", train_chunk)
    job = Job("mine", long("digits", "mpl"), tmp_path / "state", {}, math.inf)

    with pytest.raises(ValueError, match="seed 1"):
        worker.work(job, {0: [0], 1: [1], 2: [2]})
    assert flags.stops
    assert sorted(ended) == [[0], [2]]


def test_each_seed_has_its_lines_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of seeds in step come at the same moment; each is shown from time to time."""
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr(worker, "_worker", {"started": 0.0, "last_lines": {}})
    monkeypatch.setattr(worker, "_put", said.append)
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    for row in range(6):
        now[0] += 12.0
        for number in range(2):
            worker._say(number, f"seed {number} row {row}")

    assert said == ["seed 0 row 2", "seed 1 row 2", "seed 0 row 5", "seed 1 row 5"]

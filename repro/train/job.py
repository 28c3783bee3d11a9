"""The training of one run's seeds by this process, what it runs on, and what must not be mixed with it."""

from __future__ import annotations

import hashlib
import math
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from repro.config import Config, as_mapping, decisive, read_config
from repro.data import source_of
from repro.engine.device import choose_device, describe_device, is_out_of_memory, set_up_process
from repro.engine.distributed import ALONE, World
from repro.files import partly, replace_folder
from repro.seeding import seeds_label
from repro.settings import parse_seeds
from repro.train.checkpoint import (
    SERIES,
    Refused,
    Result,
    kept_in,
    link_weights,
    load_result,
    made_by,
    refuse_other,
    save_result,
)
from repro.train.loop import OutOfTime, Progress, Say, Stopped, Trainer, finetune
from repro.train.metrics import NotFinite, line
from repro.train.storage import Damaged, OtherFormat


@dataclass(frozen=True)
class Job:
    """What all chunks of seeds of one run share."""

    name: str  # of the run
    config: Config
    state: Path  # folder
    source: dict[str, str]  # hashes of the training code's files: a state that other code saved is not resumed
    deadline: float  # time.monotonic()
    ends: float = math.inf  # likewise: when training shall be done, in as many steps as fit

    def folder(self, chunk: list[int]) -> Path:
        """Of the state of a chunk, and of its result, which waits there for the others."""
        return self.state / seeds_label(chunk)

    def training_made_by(self, chunk: list[int]) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from."""
        return made_by(self.config, chunk if self.config.budget.stack > 1 else chunk[0], self.source)

    def made_by(self, chunk: list[int]) -> dict[str, Any]:
        """What must be the same for a result to count: finetuning too."""
        training = self.training_made_by(chunk)
        return training | {"config": decisive(self.config)}


@dataclass(frozen=True)
class Listener:
    """Whom a training tells what, and whom it asks whether to go on."""

    count: Progress
    say: Say  # at once
    log: Say  # what may be left out where much is said
    stops: Callable[[], bool]


class OutOfMemory(RuntimeError):
    """An allocation failed; the message says what to change, and what is kept."""


def train_chunk(job: Job, chunk: list[int], listener: Listener, world: World = ALONE) -> bool:
    """Trains one seed, or several stacked, unless it is finished; False when it stopped before the end.

    Args:
        job: the run.
        chunk: its seeds.
        listener: told what happens, in every process.
        world: the processes that train it together; the first of them writes.

    Raises:
        OutOfMemory: when memory runs out; the checkpoints before it are kept.
    """
    try:
        return _train_chunk(job, chunk, listener, world)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{job.name} {seeds_label(chunk)}: memory ran out; {less_memory(job.config)}; "
            f"{kept_in(job.folder(chunk))}, from which other budget.workers may go on"
        ) from None


def less_memory(config: Config) -> str:
    """What to change where memory has run out, with the values that did not suffice."""
    budget = config.budget
    fewer = f"lower budget.workers = {budget.workers}, or " if budget.workers > 1 else ""
    fewer += f"lower budget.stack = {budget.stack}, or " if budget.stack > 1 else ""
    return (f"{fewer}take smaller batches (budget.labelled_batch = {budget.labelled_batch}, budget.unlabelled_batch = "
            f"{budget.unlabelled_batch})")  # fmt: skip


def _train_chunk(job: Job, chunk: list[int], listener: Listener, world: World) -> bool:
    config, folder, who = job.config, job.folder(chunk), f"{job.name} {seeds_label(chunk)}"

    def say(text: str) -> None:
        listener.say(f"{who}: {text}")

    set_up_process(config.engine.threads)
    if world.first(lambda: is_finished(job, chunk, say)):
        listener.count(config.budget.steps)
        return True
    stacked = config.budget.stack > 1
    device = choose_device()
    here = session(device) | {"processes": world.size}
    trainer = world.each(lambda: Trainer(config, chunk if stacked else chunk[0], device, job.source, here, world))

    def report(row: dict[str, float]) -> None:
        listener.log(line(who, row, config.budget.steps))

    try:
        trainer.run(folder, listener.count, job.deadline, report, listener.stops, say, job.ends)
        tuned = finetune(trainer, listener.stops) if config.finetune.steps else {}
    except (OutOfTime, Stopped):
        return False
    except NotFinite as error:
        raise NotFinite(f"{who}: {error}") from None
    world.first(lambda: save_result(folder, _result(job, chunk, trainer, tuned)))
    return True


def _result(job: Job, chunk: list[int], trainer: Trainer, tuned: dict[str, Tensor]) -> Result:
    facts = environment(trainer.device, trainer.sessions, job.source) | {"warnings": trainer.kept.warnings}
    if trainer.world.size > 1:
        facts["processes"] = trainer.world.size
    return Result(
        as_mapping(trainer.config), chunk, job.config.budget.stack > 1, job.config.method.networks[-1], facts,
        trainer.rows, trainer.kept.series["snapshots"], trainer.kept.series["late"], tuned, job.made_by(chunk),
    )  # fmt: skip


def is_finished(job: Job, chunk: list[int], say: Say) -> bool:
    """Whether the result of this chunk is there and whole; a damaged one is made again from the last checkpoint.

    Raises:
        Refused: when it was made otherwise.
    """
    folder = job.folder(chunk)
    try:
        finished = load_result(folder)
    except Damaged as error:
        say(f"{error}; making it again from the last checkpoint")
        return False
    except OtherFormat as error:
        raise Refused(f"{error}; check that version out, or start anew: rm -r {folder}") from None
    if finished:
        said = {"made_by": finished.made_by, "step": job.config.budget.steps, "sessions": []}
        refuse_other(said, job.made_by(chunk), folder, job.state)
    return finished is not None


CODE = ["repro", "experiments", "dvc.yaml", "requirements.lock"]
"""What decides a number; other uncommitted files do not make a run unclean."""


_NO_NUMBER = {("train", "launch"), ("train", "prepare"), ("train", "stopping")}
"""Files among those that train which decide no number: whoever mends a sentence in them may go on."""


def session(device: torch.device) -> dict[str, Any]:
    """What one process of a training runs on; a training that was interrupted has several."""
    return {
        "revision": revision(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device_name": describe_device(device)["device_name"],
    }


def environment(
    device: torch.device, sessions: Sequence[Mapping[str, Any]], source: Mapping[str, str]
) -> dict[str, Any]:
    """Revision and whether it was clean, versions, device, duration and date of a training that ends now.

    The duration is that of all sessions; they are listed where there was more than one.
    """
    head = revision()
    changes = _git("status", "--porcelain", "--", *CODE)
    return (
        {
            "revision": head,
            "clean": None if head == "unknown" else changes == "",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(sum(one["seconds"] for one in sessions), 2),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "threads": torch.get_num_threads(),
            "source": hashlib.sha256(repr(sorted(source.items())).encode()).hexdigest(),
        }
        | describe_device(device)
        | ({"sessions": list(sessions)} if len(sessions) > 1 else {})
    )


def revision() -> str:
    """Of the project, as git has it."""
    return _git("rev-parse", "HEAD") or "unknown"


def source_hashes() -> dict[str, str]:
    """SHA-256 of each file that decides what training computes."""
    package = Path(__file__).parent.parent
    found = {}
    for part in ("augment", "config", "data", "engine", "losses", "methods", "models", "optim", "seeding", "settings",
                 "train"):  # fmt: skip
        place = package / part
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            if (part, path.stem) in _NO_NUMBER:
                continue
            found[str(path.relative_to(package))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _git(*arguments: str) -> str | None:
    """What git prints, None without it; in a session of its own, which no signal to the process group reaches."""
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, start_new_session=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def take_over(job: Job, chunks: Sequence[list[int]], trained: Path, say: Callable[[str], object]) -> None:
    """Puts what an earlier plan trained of these seeds, in just this way, where training looks for what is done.

    Each result is given the settings of the new plan, which differ in the list of seeds and in what decides nothing.
    Whether somebody had seen results before seeds were added is for the record to say, which evaluation writes.

    Args:
        job: the run, with all its seeds.
        chunks: of the seeds, as they train together; a stack of other seeds is trained again.
        trained: the folder of the run's results.
        say: told which seeds stay, and why others with a result do not.
    """
    kept = []
    for chunk in chunks:
        folder, label = job.folder(chunk), seeds_label(chunk)
        if folder.exists() or not (trained / label).is_dir():
            continue  # its training is under way, or was never done
        try:
            found = load_result(trained / label)
            why = _otherwise(found, job, chunk) if found else "has no result"
            if not found or why:
                say(f"{job.name}: {label} is trained again: what is there {why}")
                continue
            _link(found, job, chunk)
        except (Damaged, OtherFormat) as error:
            say(f"{job.name}: {label} is trained again: {error}")
            continue
        kept.append(label)
    if kept:
        say(f"{job.name}: {', '.join(kept)} trained already by a plan of fewer seeds, and kept")


def _otherwise(found: Result, job: Job, chunk: list[int]) -> str:
    """In what it differs from what the new plan would train; empty where it is the list of seeds alone."""
    there, here = (_but_for_seeds(made_by) for made_by in (found.made_by, job.made_by(chunk)))
    if there["source"] != here["source"]:
        return "was trained by other code"
    if there != here:
        return "has other settings"
    before, now = str(found.config.get("planned_seeds", "")), job.config.planned_seeds
    if not (before and now and set(parse_seeds(before)) <= set(parse_seeds(now))):
        return f"is of a plan of seeds {before or 'that it does not name'}, of which not all are planned now"
    if source_of(read_config(found.config).data).training_hash(parse_seeds(before)) != found.config["data_hash"]:
        return "was trained on other data"
    return ""


def _but_for_seeds(made_by: Mapping[str, Any]) -> dict[str, Any]:
    rest = deepcopy(dict(made_by))
    for key in ("planned_seeds", "data_hash"):
        rest["config"].pop(key, None)
    return rest


def _link(found: Result, job: Job, chunk: list[int]) -> None:
    """Whole or not at all.

    Raises:
        Damaged: when a file of weights is not what was written.
    """
    folder = job.folder(chunk)
    fresh = partly(folder)
    link_weights((getattr(found, name) for name in SERIES), fresh)
    save_result(fresh, replace(found, config=as_mapping(job.config), made_by=job.made_by(chunk)))
    replace_folder(fresh, folder)

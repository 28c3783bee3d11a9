"""A job is one seed of a run, or several stacked: its training by this process, and the environment it records."""

from __future__ import annotations

import hashlib
import math
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
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
from repro.train import checkpoint
from repro.train.loop import NotFinite, Progress, Say, Stopped, Trainer, finetune


@dataclass(frozen=True)
class Job:
    """What trains as one: a seed of a run, or `budget.stack` of them."""

    run: str
    seeds: list[int]
    config: Config
    state: Path  # folder of the run, until all its seeds are done
    source: dict[str, str]  # hashes of the training code's files: a state that other code saved is not resumed
    deadline: float = math.inf  # time.monotonic()
    ends: float = math.inf  # time.monotonic() at which training ends, after as many steps as fit

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.run} {seeds_label(self.seeds)}"

    @property
    def folder(self) -> Path:
        """Of the state, and of the result until all jobs of the run are done."""
        return self.state / seeds_label(self.seeds)

    @property
    def trained_as(self) -> int | list[int]:
        """The seeds in the form that `Trainer` takes."""
        return self.seeds if self.config.budget.stack > 1 else self.seeds[0]

    @property
    def training_made_by(self) -> dict[str, Any]:
        """What must be equal for training to resume from a checkpoint."""
        return checkpoint.made_by(self.config, self.trained_as, self.source)

    @property
    def made_by(self) -> dict[str, Any]:
        """What must be equal for a result to count, finetuning included."""
        return self.training_made_by | {"config": decisive(self.config)}


def jobs_of(run: str, config: Config, state: Path, seeds: Sequence[int], ends: float = math.inf) -> list[Job]:
    """The jobs of a run's seeds; the time of `budget.max_minutes` begins now."""
    stack, minutes = config.budget.stack, config.budget.max_minutes
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    groups = (list(seeds[i : i + stack]) for i in range(0, len(seeds), stack))
    return [Job(run, group, config, state, source_hashes(), deadline, ends) for group in groups]


SECONDS_BETWEEN_LINES = 30.0  # of the log


@dataclass
class Listener:
    """The callbacks of training: steps done, messages, and whether to stop."""

    count: Progress
    say: Say
    stops: Callable[[], bool]
    last: float = field(default_factory=time.monotonic)  # line of the log

    def log(self, text: str) -> None:
        """Says a line, at most one in `SECONDS_BETWEEN_LINES`."""
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.say(text)


def line(name: str, row: Mapping[str, float], steps: int) -> str:
    """`name: step 200 of 300000; losses: student 1.92, UDA 0.31; 43.1 % of pseudo labels wrong; h +1.2e-03 ± 4.0e-03`.

    `row` is one of metrics.csv: means over the steps since the row before; `steps` are those of the whole run.
    """
    names = {key: key.removesuffix("_loss").replace("_", " ").replace("uda", "UDA") for key in row if "_loss" in key}
    losses = [f"{words} {row[key]:.3f}" for key, words in names.items()]
    parts = [f"losses: {', '.join(losses)}"] if losses else []
    if "pseudo_label_wrong" in row:
        parts.append(f"{100 * row['pseudo_label_wrong']:.1f} % of pseudo labels wrong")
    if "feedback" in row:
        parts.append(f"h {row['feedback']:+.1e} ± {row['feedback_spread']:.1e}")
    if row.get("noise_floor"):
        parts.append(f"of which noise {row['noise_floor']:+.1e}")
    return f"{name}: step {row['step']:.0f} of {steps}; {'; '.join(parts)}"


class OutOfMemory(RuntimeError):
    """An allocation failed; the message says what to change, and what is kept."""


def train_job(job: Job, listener: Listener, world: World = ALONE) -> bool:
    """Trains a job unless it is finished; False when it stopped before the end. The first process of `world` writes."""
    config = job.config

    def say(text: str) -> None:
        listener.say(f"{job.name}: {text}")

    def report(row: dict[str, float]) -> None:
        listener.log(line(job.name, row, trainer.config.budget.steps))  # as long as it turns out to be

    set_up_process(config.engine.threads)
    try:
        if world.first(lambda: is_finished(job, say)):
            listener.count(config.budget.steps)
            return True
        device = choose_device()
        here = session(device) | {"processes": world.size}
        trainer = world.each(lambda: Trainer(config, job.trained_as, device, job.source, here, world))
        try:
            trainer.run(job.folder, listener.count, job.deadline, report, listener.stops, say, job.ends)
            tuned = finetune(trainer, listener.stops) if config.finetune.steps else {}
        except NotFinite as error:
            raise NotFinite(f"{job.name}: {error}") from None
        world.first(lambda: checkpoint.save_result(job.folder, result_of(job, trainer, tuned)))
    except Stopped:
        return False
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kept = checkpoint.kept_in(job.folder)
        raise OutOfMemory(f"{job.name}: memory ran out; {less_memory(config)}; {kept}, from which other budget.workers "
                          "may go on") from None  # fmt: skip
    return True


def less_memory(config: Config) -> str:
    """Which settings to lower when memory has run out, with their values."""
    budget = config.budget
    fewer = f"lower budget.workers = {budget.workers}, or " if budget.workers > 1 else ""
    fewer += f"lower budget.stack = {budget.stack}, or " if budget.stack > 1 else ""
    return (f"{fewer}take smaller batches (budget.labelled_batch = {budget.labelled_batch}, budget.unlabelled_batch = "
            f"{budget.unlabelled_batch})")  # fmt: skip


def result_of(job: Job, trainer: Trainer, tuned: dict[str, Tensor]) -> checkpoint.Result:
    """The result of finished training, with the finetuned weights."""
    facts = environment(trainer.device, trainer.sessions, job.source) | {"warnings": trainer.kept.warnings}
    if trainer.world.size > 1:
        facts["processes"] = trainer.world.size
    return checkpoint.Result(
        as_mapping(trainer.config), job.seeds, job.config.budget.stack > 1, job.config.method.networks[-1], facts,
        trainer.rows, trainer.kept.series["snapshots"], trainer.kept.series["late"], tuned, job.made_by,
    )  # fmt: skip


def is_finished(job: Job, say: Say) -> bool:
    """Whether its result is there and intact; refuses one that other settings, seeds or code made."""
    try:
        finished = checkpoint.load_result(job.folder)
    except checkpoint.Damaged as error:
        say(f"{error}; making it again from the last checkpoint")
        return False
    except checkpoint.OtherFormat as error:
        raise checkpoint.Refused(f"{error}; check that version out, or start anew: rm -r {job.folder}") from None
    if finished:
        said = {"made_by": finished.made_by, "step": job.config.budget.steps, "sessions": []}
        checkpoint.refuse_other(said, job.made_by, job.folder, job.state)
    return finished is not None


CODE_AT = Path(__file__).parents[2]
CODE = ["repro", "experiments", "dvc.yaml", "requirements.lock"]
"""What decides a number; other uncommitted files do not make a run unclean."""

_NO_NUMBER = {("train", "launch"), ("train", "prepare"), ("train", "stopping")}
"""Files of `train` that decide no number: training resumes after a change in them."""


def session(device: torch.device) -> dict[str, Any]:
    """Revision, versions and device of one process; interrupted training has several sessions."""
    return {"revision": revision(), "torch": str(torch.__version__), "threads": torch.get_num_threads(),
            "device_name": describe_device(device)["device_name"]}  # fmt: skip


def environment(
    device: torch.device, sessions: Sequence[Mapping[str, Any]], source: Mapping[str, str]
) -> dict[str, Any]:
    """Revision, versions, device, date and seconds of all sessions; lists the sessions if there are several."""
    changes = _git("status", "--porcelain", "--", *CODE)
    return (
        {
            "revision": revision(),
            "clean": None if changes is None else changes == "",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(sum(one["seconds"] for one in sessions), 2),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "threads": torch.get_num_threads(),
            "source": hash_of(source),
        }
        | describe_device(device)
        | ({"sessions": list(sessions)} if len(sessions) > 1 else {})
    )


def revision() -> str:
    """The code's commit: from git, or from the note that `git archive` writes; not that of the folder we stand in."""
    note = CODE_AT / ".git_archival.txt"
    node = note.read_text().partition("node: ")[2].strip() if note.is_file() else ""
    return _git("rev-parse", "HEAD") or ("" if node.startswith("$") else node) or "unknown"


@cache
def source_hashes() -> dict[str, str]:
    """SHA-256 of each file that decides what training computes."""
    package = Path(__file__).parent.parent
    found = {}
    for part in ("augment", "config", "data", "engine", "losses", "methods", "models", "optim", "seeding", "settings",
                 "train"):  # fmt: skip
        place = package / part
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            if (part, path.stem) not in _NO_NUMBER:
                found[str(path.relative_to(package))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def hash_of(source: Mapping[str, str]) -> str:
    """One hash of all files' hashes."""
    return hashlib.sha256(repr(sorted(source.items())).encode()).hexdigest()


def _git(*arguments: str) -> str | None:
    """What git prints of the repository that holds this code, or None without one.

    Installed in an environment, the code may lie inside another repository: it does not belong to that one. A session
    of its own keeps signals to our process group from git.
    """
    said = None
    for command in (["ls-files", "--error-unmatch", "repro/train/job.py"], arguments):
        words = ["git", "-C", str(CODE_AT), *command]
        try:
            said = subprocess.run(words, capture_output=True, text=True, check=True, start_new_session=True)
        except (OSError, subprocess.CalledProcessError):
            return None
    return said.stdout.strip() if said else None


def take_over(jobs: Sequence[Job], trained: Path) -> None:
    """Takes over the results of an earlier plan that trained these seeds, or stacks, in the same way."""
    kept = []
    for job in jobs:
        there, label = trained / job.folder.name, job.folder.name
        if job.folder.exists() or not there.is_dir():
            continue  # its training is under way, or was never done
        try:
            found = checkpoint.load_result(there)
            why = _otherwise(found, job) if found else "what is there has no result"
            if found and not why:
                fresh = partly(job.folder)
                checkpoint.link_weights((getattr(found, name) for name in checkpoint.SERIES), fresh)
                checkpoint.save_result(fresh, replace(found, config=as_mapping(job.config), made_by=job.made_by))
                replace_folder(fresh, job.folder)
                kept.append(label)
        except (checkpoint.Damaged, checkpoint.OtherFormat) as error:
            why = str(error)
        if why:
            print(f"{job.run}: {label} is trained again: {why}")
    if kept:
        print(f"{jobs[0].run}: {', '.join(kept)} trained already by a plan of fewer seeds, and kept")


def _otherwise(found: checkpoint.Result, job: Job) -> str:
    """How a result differs from what the new plan would train; empty if only the list of seeds differs."""
    if found.made_by["source"] != job.made_by["source"]:
        return "what is there was trained by other code"
    free = dict.fromkeys(("planned_seeds", "data_hash"))
    there, here = (made | {"config": made["config"] | free} for made in (found.made_by, job.made_by))
    if there != here:
        return "what is there has other settings"
    before, now = str(found.config.get("planned_seeds", "")), job.config.planned_seeds
    if not (before and now and set(parse_seeds(before)) <= set(parse_seeds(now))):
        return f"what is there is of a plan of seeds {before or 'that it does not name'}, not all of which are planned"
    if source_of(read_config(found.config).data).training_hash(parse_seeds(before)) != found.config["data_hash"]:
        return "what is there was trained on other data"
    return ""

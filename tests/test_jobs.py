"""Notes, queue and options of jobs, as far as they can be tested without Slurm: `squeue` is what a test says."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro import jobs, slurm
from repro.files import LOCKS, TRAINED, only_writer
from repro.settings import ConfigError
from repro.train.job import hash_of, revision, source_hashes
from repro.train.launch import train_plan
from tests.entry_points import python
from tests.test_cluster import ARMS, SHORT

SEED = ("a", "seed-0")


def noted(place: Path, seeds: int = 1, before: int = 0) -> dict[str, Any]:
    """The notes of a plan `p` of so many seeds of 1,000 steps, which are written too."""
    numbers = {f"seed-{seed}": str(seed) for seed in range(seeds)}
    one = {"seeds": ",".join(numbers.values()), "jobs": numbers, "steps": 1000, "workers": 1, "settings": "",
           "before": before}  # fmt: skip
    plan = {"file": "p.yaml", "code": "", "revision": "", "runs": {"a": one}}
    place.mkdir(parents=True, exist_ok=True)
    (place / "runs.json").write_text(json.dumps(plan))
    return plan


def sent(place: Path, number: int, *seeds: str) -> Path:
    """A submission, each seed a job of its own."""
    folder = place / str(number)
    folder.mkdir(parents=True)
    (folder / "sent.json").write_text(json.dumps([[["a", seed]] for seed in seeds]))
    slurm._sent.cache_clear()
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where plan `p` is noted, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return jobs.PLANS / "p"


# The queue


@pytest.mark.parametrize(("state", "said"), [
    ("PENDING", "waiting"), ("REQUEUED", "waiting"), ("REQUEUE_HOLD", "waiting"), ("SPECIAL_EXIT", "waiting"),
    ("RUNNING", "running"), ("COMPLETING", "running"), ("CONFIGURING", "running"), ("SUSPENDED", "running"),
])  # fmt: skip
def test_the_queue_says_which_seeds_are_at_work(
    state: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this plan alone: one of the same name in another folder has jobs of other names."""
    sent(place, 3, "seed-0", "seed-1")
    sent(place, 4, "seed-2")
    other = slurm._name(Path("elsewhere/p").resolve(), 3)
    lines = [
        f"{slurm._name(place, 3)}|1|{state}|n1|7",
        f"{other}|0|RUNNING|n2|8",
        f"{slurm._name(place, 4)}|N/A|{state}|n2|9",
    ]
    monkeypatch.setattr("subprocess.run", lambda *_, **__: Namespace(stdout="".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(shutil, "which", lambda name: name)

    assert {("a", "seed-1"): (said, "n1", "7"), ("a", "seed-2"): (said, "n2", "9")} == slurm.queued(place)


def test_the_last_log_of_a_seed_is_read(place: Path) -> None:
    """It was sent out twice, the second time as one of two."""
    (sent(place, 9, "seed-0") / "5_0_log.out").write_text("error: first\n")
    (sent(place, 10, "seed-1", "seed-0") / "6_1_0_log.out").write_text("error: second\n")

    assert slurm.last_words(place, slurm.logs_of(place)[SEED]).startswith("error: second (")


@pytest.mark.parametrize(("looks", "submitted", "status"), [
    ("-q-q-q-", 1, 0),  # one look that does not show it is no death
    ("-q--q--q--", 3, 2),
    ("-q--q--qqq", 3, 0),
])  # fmt: skip
def test_a_seed_is_given_up_after_three_deaths(
    looks: str, submitted: int, status: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter for each look at the queue: q where it shows the seed's job; after the last, its result is there."""
    noted(place)
    out: list[Any] = []
    missing, queue = iter([[SEED]] * len(looks)), iter(looks)
    monkeypatch.setattr(jobs, "_POLL", 0.0)
    monkeypatch.setattr(jobs, "counted", lambda _: "")
    monkeypatch.setattr(jobs, "_missing", lambda _: next(missing, []))
    monkeypatch.setattr(slurm, "queued", lambda _: {SEED: ("running", "n1", "7")} if next(queue) == "q" else {})
    monkeypatch.setattr(slurm, "submit", lambda *asked: out.append(asked[2]))

    assert status == jobs._watch(place, Namespace())
    assert [[SEED]] * submitted == out


# What a plan's folder says


def test_an_earlier_result_is_not_the_plans(place: Path) -> None:
    """It was there when the plan was started, and has not changed since."""
    (TRAINED / "a").mkdir(parents=True)
    before = (TRAINED / "a").stat().st_mtime_ns

    assert not jobs._joined("a", {"before": before})
    assert jobs._joined("a", {"before": before - 1})


def test_time_left_is_of_the_steps_that_are_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 1,000 steps 400 are done, at 2 a second: five minutes."""
    noted(place)
    note = Path("state/a/seed-0/progress.json")
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"step": 400, "rate": 2.0, "node": "n1"}))
    monkeypatch.setattr(slurm, "queued", lambda *_: {SEED: ("running", "n1", "7")})
    jobs.status(Namespace(plan="p"))

    assert ["a", "seed-0", "running", "400/1,000", "2.0", "5", "min", "n1"] == capsys.readouterr().out.splitlines()[
        1
    ].split()


def test_a_process_elsewhere_is_not_told_to_end(place: Path) -> None:
    """The lock of a shared folder may be of another machine's process of the same number, or of one that died."""
    with only_writer("plan.p", "plan p"):
        assert os.getpid() == jobs._driver("p")
        lock = LOCKS / "plan.p.lock"
        words = lock.read_text().split()
        for number, node in ((words[1], "elsewhere"), ("4194305", words[3])):
            lock.write_text(" ".join([words[0], number, words[2], node, *words[4:]]))
            assert not jobs._driver("p")


@pytest.mark.parametrize("meanwhile", [False, True])
def test_only_a_cancelling_that_is_watched_ends_a_command(
    meanwhile: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark of long ago is put away; one that comes while the command waits for another ends it too."""
    place.mkdir(parents=True)
    mark = place / "cancelled"
    mark.touch()
    os.utime(mark, (1, 1))
    held = ExitStack()
    held.enter_context(only_writer("plan.p", "plan p"))

    def slept(_: float) -> None:
        held.close()
        if meanwhile:
            mark.touch()
            os.utime(mark, (2**32, 2**32))

    monkeypatch.setattr("repro.files._lives", lambda _: True)
    monkeypatch.setattr(jobs.time, "sleep", slept)
    with ExitStack() as lock:
        assert jobs._mine(place, lock) is not meanwhile
    assert not mark.exists()


# Notes, options and refusals


def test_a_job_refuses_other_code_and_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence; the settings hold the hash of the data."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "artifacts/configs/a.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("data_hash: 1\n")
    of = hashlib.sha256(b"data_hash: 1\n").hexdigest()
    code, here = hash_of(source_hashes()), revision()
    job = slurm.Task("a", "0", of, code, here, 1)

    slurm.refuse_other_code_or_data(job)
    with pytest.raises(ValueError, match=r"not as the plan was sent out \(abc\)"):
        slurm.refuse_other_code_or_data(replace(job, revision="abc"))
    with pytest.raises(ValueError, match="not as the plan was sent out"):
        slurm.refuse_other_code_or_data(replace(job, code="other"))
    path.write_text("data_hash: 2\n")
    with pytest.raises(ValueError, match=r"artifacts/configs/a.yaml is not as the plan was started"):
        slurm.refuse_other_code_or_data(job)


def test_what_is_noted_of_a_plan_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged note, or that of another plan of the same name, is one sentence; of a seed's progress, it is none."""
    monkeypatch.chdir(tmp_path)
    place, note = jobs.PLANS / "p", Path("state/a/seed-0/progress.json")
    place.mkdir(parents=True)
    note.parent.mkdir(parents=True)
    one = {"seeds": "0", "jobs": {"seed-0": "0"}, "steps": 9, "workers": 1, "settings": "", "before": 0}
    plan = {"file": "p.yaml", "code": "", "revision": "", "runs": {"a": one}}
    for damaged in ("{", "null", plan | {"runs": []}, plan | {"runs": {"a": one | {"jobs": 3}}},
                    "[" * 100_000, plan | {"runs": {"a": one | {"steps": math.inf}}}):  # fmt: skip
        (place / "runs.json").write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
        with pytest.raises(ValueError, match=r"runs.json: is damaged; .* again: rm state/.plans/p/runs"):
            jobs.status(Namespace(plan="p"))
    (place / "runs.json").write_text(json.dumps(plan))
    for damaged in ("{", "3", "null", '{"step": "x"}', '{"step": 1e999}', "[" * 100_000):
        note.write_text(damaged)
        assert [(("a", "seed-0"), "not running", {"steps": 9})] == list(jobs.states(place))
    (place / "1").mkdir()  # of a submission long ago, where Slurm was
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for verb in (jobs.status, jobs.cancel):
        with pytest.raises(slurm.Unreachable, match=r"squeue is not here; .* forget them: rm -r state/.plans/p/1"):
            verb(Namespace(plan="p"))
    with only_writer("plan.p", "plan p"):  # trained here now: its own lock tells what is at work
        assert [(("a", "seed-0"), "waiting", {"steps": 9})] == list(jobs.states(place))
    Path("sub").mkdir()
    Path("sub/p.yaml").touch()
    for verb in (jobs.status, jobs.cancel):
        with pytest.raises(ValueError, match=r"sub/p.yaml: a plan of that name was started from p.yaml; call this"):
            verb(Namespace(plan="sub/p.yaml"))


@pytest.mark.parametrize("damaged", [None, "[", "null", "[]", '[[["a", "seed-0"]]]', '[[["a", "seed-0"]], [3]]'])
def test_nothing_is_sent_out_twice(damaged: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose seeds nobody can tell any more are ended before others are sent out; other folders are no matter."""
    monkeypatch.chdir(tmp_path)
    place = jobs.PLANS / "p"
    (place / "7").mkdir(parents=True)
    (place / "1.bak").mkdir()
    queue = f"{slurm._name(place, 7)}|1|RUNNING|n1|99\n"
    monkeypatch.setattr("subprocess.run", lambda *_, **__: Namespace(stdout=queue))
    if damaged is not None:
        (place / "7/sent.json").write_text(damaged)
    slurm._sent.cache_clear()
    end = f"scancel --name={slurm._name(place, 7)}; rm -r state/.plans/p/7; repro run"
    with pytest.raises(ValueError, match=f"sent.json: is damaged; put it away, and start the plan again: {end}"):
        slurm.queued(place)
    (place / "7/sent.json").write_text('[[["a", "seed-0"]], [["a", "seed-1"]]]')
    slurm._sent.cache_clear()

    assert {("a", "seed-1"): ("running", "n1", "99")} == slurm.queued(place)


def test_another_plan_that_prepares_a_run_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its results are not taken for those of the plan, neither those that are joined nor a seed's own."""
    monkeypatch.chdir(tmp_path)
    settings, result = Path("artifacts/configs/a.yaml"), Path("state/a/seed-0/result.pt")
    for path in (settings, result):
        path.parent.mkdir(parents=True)
    settings.write_text("steps: 1\n")
    one = {"jobs": {"seed-0": "0"}, "before": 0, "settings": hashlib.sha256(b"steps: 1\n").hexdigest()}

    assert [("a", "seed-0")] == jobs._missing({"a": one})
    result.touch()
    assert [] == jobs._missing({"a": one})
    settings.write_text("steps: 2\n")
    for refused in (jobs._missing, lambda runs: train_plan(runs, "p", 1)):
        with pytest.raises(ValueError, match=r"^a: artifacts/configs/a.yaml is not as the plan was started with: an"):
            refused({"a": one | {"seeds": "0", "steps": 1}})


def test_options_of_slurm() -> None:
    """Those that submitit knows by its names, others as sbatch has them; a job saves 90 s before its end."""
    found = slurm.options(["partition=gpu", "time=8h", "array=64", "cpus_per_task=4"], gpus_per_run=4)

    assert (480, 4, 64, 90) == tuple(
        found[key] for key in ("time", "gpus_per_node", "array_parallelism", "signal_delay_s")
    )
    assert {"partition": "gpu", "cpus-per-task": "4", "requeue": True, "open-mode": "append"} == found[
        "additional_parameters"
    ]
    assert "--array=0-9%10 --time=480 --gpus-per-node=4 --signal=USR2@90" in slurm.in_words(found, 10)
    asked = {"time=8h gpus=0": False, "time=8h partition=gpu": False, "time=8h gres=gpu:1": True,
             "time=8h gpus=1": True, "time=8h gpus_per_task=1": True}  # fmt: skip
    assert asked == {words: slurm.wants_gpus(slurm.options(words.split())) for words in asked}
    for words, says in {
        "time=8": "a whole number",
        "gpus=a time=1h": "gpus=a",
        "gpu": "key=value",
        "gpus=1": "no time=",
        "gpus=² time=1h": "gpus: wants key=value",
        "array=0": "jobs from 1 on",
        "time=8h time=9h": "time=8h and time=9h contradict",
        "partition=a\u00a0b": "without blanks",  # which would be a line of its own in the job's script
        "job_name=x": "job_name=x: is set for each job",  # by which the queue says which seeds are at work
        "ntasks=2": "is set for each job",  # each of which would train the same seed
    }.items():
        with pytest.raises(ValueError, match=says):
            slurm.options(words.split(" "))
    assert [[("a", "0"), ("a", "1")], [("a", "2")], [("b", "0")]] == slurm.grouped(
        [("a", "0"), ("a", "1"), ("a", "2"), ("b", "0")], 2
    )


@pytest.mark.parametrize(("setting", "says"), [
    ("budget.labelled_batch=4", r"budget.labelled_batch = 4: 3 processes c"),
    ("engine.fastest=true", r"engine.fastest = True: is for one process"),
])  # fmt: skip
def test_what_gpus_cannot_share_is_refused_before_rowsgo_out(setting: str, says: str, tmp_path: Path) -> None:
    """The driver names run, setting and remedy: not each job, three times."""
    sizes = ["budget.labelled_batch=6", "budget.unlabelled_batch=6"]
    plan = {"overrides": [*SHORT, *sizes, setting], "runs": {ARMS[1]: {"seeds": "0-1"}}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(plan))

    with pytest.raises(ConfigError, match=f"^{ARMS[1]}: {says}"):
        jobs.lay_out(tmp_path / "p.yaml", processes=3)


def test_without_slurm_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where jobs are to be sent out from, and what to do instead."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="sbatch, squeue and srun are not here"):
        slurm.present()


def test_ctrl_c_says_that_rowsgo_on_only_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything was sent out it is an interruption like any other."""
    queue: dict[slurm.Seed, tuple[str, str, str]] = {}
    asked = Namespace(slurm=["time=1h"], gpus_per_run=1)
    monkeypatch.setattr(slurm, "present", lambda: None)
    monkeypatch.setattr(slurm, "queued", lambda _: queue)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "apart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs._drive(Path("small.yaml"), Path("small"), asked)
    queue["a", "seed-0"] = ("running", "n1", "7")

    assert 130 == jobs._drive(Path("small.yaml"), Path("small"), asked)
    assert "The jobs go on without this command" in capsys.readouterr().err


def test_the_state_of_a_thousand_seeds_is_there_soon(tmp_path: Path) -> None:
    """Each that has begun with its log's last words; PyTorch, or pydantic, would take longer."""
    place = tmp_path / "state/.plans/small"
    (place / "1").mkdir(parents=True)
    run = {"seeds": "0-999", "steps": 300, "workers": 1, "settings": "", "before": 0,
           "jobs": {f"seed-{seed}": str(seed) for seed in range(1000)}}  # fmt: skip
    plan = {"file": "small.yaml", "code": "", "revision": "", "runs": {"a": run}}
    (place / "runs.json").write_text(json.dumps(plan))
    (place / "1/sent.json").write_text(json.dumps([[["a", f"seed-{seed}"]] for seed in range(1000)]))
    for seed in range(999):
        (place / f"1/7_{seed}_0_log.out").write_text("begun\nerror: no room\nsubmitit")
    script = """
import subprocess, sys, time
from types import SimpleNamespace
from repro import jobs
jobs.subprocess.run = lambda *_, **__: SimpleNamespace(stdout="")
jobs.status(SimpleNamespace(plan="small"))
print(sorted({"torch", "hydra", "numpy", "pydantic"} & set(sys.modules)), time.process_time() < 2)
"""
    said = python("-c", script, cwd=tmp_path).stdout

    assert 999 == said.count("  error: no room (state/.plans/small/1/7_")
    assert said.endswith("small: 999 stopped, 1 not running\n[] True\n")


def test_workers_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, or as they are named for this process already; none without one."""
    from repro.engine import device

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert ["0", "1", "2"] == device.visible_gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a")
    assert ["5", "GPU-a"] == device.visible_gpus()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [] == device.visible_gpus()

"""A plan on a real Slurm of two nodes: each fault once, and the records that one process leaves, bit for bit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from repro import jobs, slurm
from repro.files import only_writer
from repro.settings import ConfigError
from repro.train.job import hash_of, revision, source_hashes
from repro.train.launch import train_plan
from tests.entry_points import python, started
from tests.survival import ROOT, outcome
from tests.test_dvc import dvc

SCRIPT = ROOT / "tests/slurm/two_nodes.sh"
SHORT = ["budget.log_every=50", "budget.snapshots=4", "budget.stack=1", "budget.checkpoint_minutes=0.01"]
ARMS = ("moons_stated_supervised", "moons_stated_mpl", "moons_stated_mpl_no_feedback")
PATIENCE = 240.0  # seconds


def why_not() -> str:
    """Why no Slurm can be had here; empty where it can."""
    if os.getuid():
        return "Slurm's daemons start as root only"
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)]
    if missing:
        return f"no {missing[0]} here: apt-get install slurm-wlm munge"
    return "" if importlib.util.find_spec("submitit") else "no submitit here: uv pip install -e '.[cluster]'"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of two nodes that are up."""
    if why := why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True)  # noqa: S603 - our own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
        subprocess.run([SCRIPT, "stop", folder], check=True)  # noqa: S603 - our own


def workplace(place: Path, runs: dict[str, str], steps: int) -> Path:
    """A folder with a plan of these runs and seeds."""
    place.mkdir(parents=True)
    (place / "experiments").symlink_to(ROOT / "experiments")
    plan = {
        "overrides": [*SHORT, f"budget.steps={steps}"],
        "runs": {run: {"seeds": seeds} for run, seeds in runs.items()},
    }
    (place / "small.yaml").write_text(yaml.safe_dump(plan))
    return place


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    """`repro run` of the plan; what it prints is added to the log."""
    with (place / "log").open("a") as log:
        return started(place, "-m", "repro", "run", "small.yaml", *words, stdout=log, stderr=log)


ON = ("--on", "slurm", "--slurm", "time=20m")


def until(found: Callable[[], object], place: Path, patience: float = PATIENCE) -> None:
    """Waits for it."""
    end = time.monotonic() + patience
    while not found():
        assert time.monotonic() < end, (place / "log").read_text() + told("squeue")
        time.sleep(0.3)


def told(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own


def running(place: Path) -> list[str]:
    """The seeds' states that lie there."""
    return sorted(str(path) for path in place.glob("state/*/seed-*/checkpoint-*.pt"))


def outcomes(place: Path, runs: dict[str, str]) -> dict[str, str]:
    """Of each run, all that it leaves."""
    return {run: outcome(place, run) for run in runs}


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_twelve_seeds_outlive_driver_controller_and_node(cluster: Path, tmp_path: Path) -> None:
    """The driver is killed, the controller restarted, the command typed twice, a node killed; the bits are the same."""
    runs = dict.fromkeys(ARMS, "0-3")
    alone, place = (workplace(tmp_path / name, runs, 1500) for name in ("alone", "place"))
    driver = start(place, *ON, "--seeds-per-job", "2")
    until(lambda: running(place), place)
    driver.kill()
    driver.wait()
    subprocess.run([SCRIPT, "restart", cluster], check=True)  # noqa: S603 - our own
    again = start(place, *ON, "--seeds-per-job", "2")
    until(lambda: (place / "log").read_text().count("0 departures") == 2 * len(runs), place)
    second = start(place, *ON)
    until(lambda: "this command watches" in (place / "log").read_text(), place)
    subprocess.run([SCRIPT, "kill", cluster, "2"], check=True)  # noqa: S603 - our own

    local = start(alone, "--workers", "1")
    assert [0, 0, 0] == [one.wait(2 * PATIENCE) for one in (local, again, second)], (place / "log").read_text()
    assert outcomes(alone, runs) == outcomes(place, runs)
    assert 2 >= (place / "log").read_text().count("sent out as")  # by the first driver, and for the node that is lost
    assert not list(place.glob("state/[!.]*"))
    subprocess.run(["slurmd", "-N", "n2"], check=True)  # noqa: S607
    until(lambda: "n2" in told("sinfo", "-h", "-N", "-p", "main", "-t", "idle"), place)


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_preempted_and_out_of_time_a_seed_resumes(cluster: Path, tmp_path: Path) -> None:
    """It saves, is queued again by Slurm or by submitit, goes on, and ends with the bits of an unbroken run."""
    runs = {ARMS[1]: "0"}
    alone, place = (workplace(tmp_path / name, runs, 4000) for name in ("alone", "place"))
    local, driver = start(alone), start(place, *ON)
    until(lambda: running(place), place)
    number = told("squeue", "-h", "-o", "%A").strip()
    told("scancel", "--signal=USR2", number)  # as Slurm does before a job's time is over
    until(lambda: f"Requeued job {number}" in logs(place), place)
    saved = running(place)
    until(lambda: running(place) not in ([], saved), place)  # it trains on
    told("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")

    assert [0, 0] == [one.wait(2 * PATIENCE) for one in (local, driver)], (place / "log").read_text() + logs(place)
    assert "DUE TO PREEMPTION" in logs(place)
    assert outcomes(alone, runs) == outcomes(place, runs)


def logs(place: Path) -> str:
    """Of all jobs."""
    return "".join(path.read_text() for path in place.glob("state/.plans/small/*/*_log.out"))


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_dvc_finds_the_seeds_of_a_cluster_finished(cluster: Path, tmp_path: Path) -> None:
    """It trains nothing, and leaves the lock file and the bits of a local run."""
    runs, place = {ARMS[1]: "0-1"}, tmp_path
    for name in (".dvc/config", ".dvcignore", "dvc.yaml"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    for name in ("repro", "experiments"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    plan = {"overrides": [*SHORT, "budget.steps=100"], "runs": {run: {"seeds": seeds} for run, seeds in runs.items()}}
    for name in ("small.yaml", "params.yaml"):  # as `repro reproduce` would copy it
        (place / name).write_text(yaml.safe_dump(plan))
    told("git", "init", "--quiet", str(place))

    def left() -> tuple[object, dict[str, str]]:
        stages = yaml.safe_load((place / "dvc.lock").read_text())["stages"]
        trained = {run: stages[f"train@{run}"] for run in runs}
        for stage in trained.values():
            stage["outs"] = stage["outs"][0]["path"]  # whose hash is of dates and seconds too
        return (stages["prepare"], trained), outcomes(place, runs)

    assert start(place, *ON).wait(2 * PATIENCE) == 0, (place / "log").read_text()
    again = dvc(place, "repro", "train")
    assert f"{ARMS[1]}: finished already, nothing to train" in again
    of_cluster = left()
    for name in ("artifacts", "state"):
        shutil.rmtree(place / name)
    (place / "dvc.lock").unlink()
    assert "finished already" not in dvc(place, "repro", "train")
    assert left() == of_cluster


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_a_seed_that_dies_three_times_is_named_and_the_others_finish(cluster: Path, tmp_path: Path) -> None:
    """Here for want of room in its folder, and then of a job of a partition that there is not."""
    runs = {ARMS[0]: "0-1"}
    place = workplace(tmp_path / "place", runs, 300)
    full = place / f"state/{ARMS[0]}/seed-1"
    full.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", full], check=False).returncode:  # noqa: S603, S607
        pytest.skip("no small file system can be mounted here")
    try:
        done = start(place, *ON).wait(2 * PATIENCE)
    finally:
        subprocess.run(["umount", full], check=True)  # noqa: S603, S607
    said = (place / "log").read_text()

    assert done == 2
    assert f"error: {ARMS[0]} seed-1 died 3 times: error: " in said
    assert f"No space left on device: 'state/{ARMS[0]}/seed-1/" in said
    assert (place / f"state/{ARMS[0]}/seed-0/result.pt").is_file()
    shutil.rmtree(full)  # mended; the same command ends it
    wrong = start(place, *ON, "partition=none").wait(PATIENCE)
    assert wrong == 2
    assert "error: Slurm refuses the jobs: invalid partition specified: none" in (place / "log").read_text()
    assert "Traceback" not in (place / "log").read_text()


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
def test_what_gpus_cannot_share_is_refused_before_jobs_go_out(setting: str, says: str, tmp_path: Path) -> None:
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


def test_ctrl_c_says_that_jobs_go_on_only_where_there_are_some(
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

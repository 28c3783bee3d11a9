"""A plan on a real Slurm of two nodes: each fault once, and the records that one process leaves, bit for bit."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.entry_points import started
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

"""What users of DVC type, on the stages as they are; and who may run them at once.

The verbs are replaced by ones that write what theirs write, in no time: whether training runs under DVC is for `make
reproduce` to show, which CI calls.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from repro.train.prepare import made_of
from tests.entry_points import call, python, ran
from tests.test_structure import ANY_COMMAND, closure

ROOT = Path(__file__).parent.parent
RUNS = ("digits_mpl", "digits_mpl_no_feedback")
VERBS = """
import json, sys, time
from pathlib import Path
import yaml

def write(path, text=""):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)

verb, runs = sys.argv[1], yaml.safe_load(open("params.yaml"))["runs"]
if verb == "reproduce":
    from repro.command import main
    main()
elif verb == "prepare":
    for run, entry in runs.items():
        write(f"artifacts/configs/{run}.yaml", str(entry))
    write("artifacts/data/all")
    for _ in range(1000):  # no longer than the test that waits for it
        time.sleep(0.1 * Path("slow").exists())
elif verb == "train":
    write(f"artifacts/runs/{sys.argv[2]}/seeds", sys.argv[4])
elif verb == "evaluate":
    write("results/labels/all")
    for run, entry in runs.items():
        write(f"results/runs/{run}/metrics.csv", f"step,student_loss,feedback,noise_floor\\n{entry['seeds']},2,3,4\\n")
elif verb == "verify":
    write("results/verdicts.json", "[]")
else:
    for name in ("REPORT.md", "two_moons.md", "digits.md", "cifar10_4k.md", "svhn_1k.md", "imagenet_10pct.md",
                 "feedback.md", "bias.md", "index.html", "figures/all"):
        write(f"results/{name}")
    write("results/metrics.json", json.dumps({f"seeds/{run}": 1 + entry["seeds"] for run, entry in runs.items()}))
"""


def plan(*seeds: int) -> str:
    """One whose runs have these seeds."""
    return yaml.safe_dump({"runs": {run: {"seeds": seed} for run, seed in zip(RUNS, seeds, strict=True)}})


def run(place: Path, *words: str) -> CompletedProcess[str]:
    """A command in a folder, with Python's own folder in front of the path; its output and its errors together."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603 - our own
        words, cwd=place, env=os.environ | {"PATH": path, "PYTHONPATH": "."}, text=True, check=False, timeout=480,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def dvc(place: Path, *words: str) -> str:
    """What DVC prints, blanks as one; it must end well."""
    done = run(place, sys.executable, "-m", "dvc", *words)
    assert done.returncode == 0, done.stdout
    return "\n".join(" ".join(line.split()) for line in done.stdout.splitlines())


def reproduce(place: Path) -> CompletedProcess[str]:
    """`make reproduce PLAN=tiny` without the installation."""
    return run(place, sys.executable, "-m", "repro", "reproduce", "tiny")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the stages, in which the plan `tiny` was run and committed."""
    place = tmp_path_factory.mktemp("project")
    for name in (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    for name in ("repro", "experiments"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "repro/__main__.py").rename(place / "repro/command.py")
    (place / "repro/__main__.py").write_text(VERBS)
    (place / "experiments/plan/tiny.yaml").write_text(plan(0, 0))
    (place / "params.yaml").write_text(plan(0, 0))
    run(place, "git", "init", "--quiet")
    for key in ("name", "email"):
        run(place, "git", "config", f"user.{key}", "nobody")
    ran = reproduce(place)
    assert ran.returncode == 0, ran.stdout
    run(place, "git", "add", "--all")
    run(place, "git", "commit", "--quiet", "-m", "tiny")
    return place


def test_a_plan_that_was_run_is_up_to_date(project: Path) -> None:
    """The second time nothing runs, and DVC says so."""
    again = reproduce(project).stdout

    assert f"{4 + len(RUNS)} stages" == f"{again.count('change, skipping')} stages", again
    assert "Running stage" not in again
    assert "Data and pipelines are up to date." in again
    assert "Data and pipelines are up to date." in dvc(project, "status")
    assert "" == run(project, "git", "status", "--porcelain").stdout


def test_a_changed_plan_as_an_experiment(project: Path) -> None:
    """It trains the run that was changed, leaves the folder alone, and is seen by `params diff` and `metrics diff`."""
    said = dvc(project, "exp", "run", "--temp", "--name", "more", "-S", f"runs.{RUNS[0]}.seeds=2")

    assert f"> python -m repro train {RUNS[0]} --seeds '2'" in said
    assert "" == run(project, "git", "status", "--porcelain").stdout
    assert f"params.yaml runs.{RUNS[0]}.seeds 0 2" in dvc(project, "params", "diff", "HEAD", "more")
    diff = dvc(project, "metrics", "diff", "HEAD", "more")
    assert f"results/metrics.json seeds/{RUNS[0]} 1 3 2" in diff
    assert RUNS[1] not in diff
    assert f"results/metrics.json seeds/{RUNS[1]} 1 1 0" in dvc(project, "metrics", "diff", "--all", "HEAD", "more")
    assert f"Path seeds/{RUNS[0]} seeds/{RUNS[1]}\nresults/metrics.json 1 1" in dvc(project, "metrics", "show")


@pytest.mark.parametrize("words", [("show",), ("diff", "HEAD", "HEAD~0")])
def test_plots_are_drawn_of_every_run_that_they_name(words: tuple[str, ...], project: Path) -> None:
    """The page that DVC names holds the recorded numbers of both plots."""
    page = Path(dvc(project, "plots", *words, "-o", "artifacts/plots").splitlines()[-1].removeprefix("file://"))

    drawn = page.read_text()
    assert "digits, loss of the student on pseudo labels" in drawn
    assert "digits, feedback h and its noise floor" in drawn
    assert all(f"{one}/metrics.csv" in drawn for one in RUNS)


def wait_for(path: Path, text: str = "") -> None:
    """Until there is such a file with such a text."""
    deadline = time.monotonic() + 100
    while not (path.is_file() and text in path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)


def test_one_at_a_time_and_on_after_a_kill(project: Path, tmp_path: Path) -> None:
    """A second one, and one beside DVC itself, are told who is at work. After SIGKILL nothing is to be cleaned up."""
    place = tmp_path / "project"
    shutil.copytree(project, place, symlinks=True)
    (place / "slow").touch()
    (place / "experiments/config.yaml").write_text("# changed")
    command = [sys.executable, "-m", "repro", "reproduce", "tiny"]
    first = subprocess.Popen(  # noqa: S603 - our own
        command, cwd=place, env=os.environ | {"PYTHONPATH": "."}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(place / ".dvc/tmp/rwlock", "prepare")

    second = reproduce(place)
    assert (2, 1) == (second.returncode, second.stdout.count("\n")), second.stdout
    assert f"error: this folder is being written by process {first.pid} on " in second.stdout
    (place / "state/.locks/reproduce.lock").unlink()  # as if `dvc repro` had been typed
    beside = reproduce(place).stdout
    assert f"error: DVC is at work here already, as process {first.pid}; wait for it, or stop it: " in beside

    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (place / "slow").unlink()
    (place / ".dvc/tmp/rwlock").write_text("")  # killed while DVC wrote it
    after = reproduce(place)
    assert after.returncode == 0, after.stdout
    assert "Running stage 'prepare'" in after.stdout


@pytest.fixture
def like_a_project(workplace: Path) -> Path:
    """The folder of a project, for what is refused before DVC starts."""
    for name in (".dvc", ".git"):
        (workplace / name).mkdir()
    (workplace / "dvc.yaml").touch()
    return workplace


def test_changes_of_a_plan_are_not_lost(like_a_project: Path) -> None:
    """What somebody wrote into params.yaml is no plan, and stays."""
    (like_a_project / "params.yaml").write_text(plan(1, 2))

    done = call(like_a_project, "reproduce", "canary")

    assert (2, plan(1, 2)) == (done.returncode, (like_a_project / "params.yaml").read_text())
    assert done.stderr.startswith("error: params.yaml is none of the plans as they are now; run it as it is: dvc repro")


def test_the_number_of_another_process_is_no_reason_to_wait(like_a_project: Path) -> None:
    """A killed DVC left its number in its list, and an unrelated program has it now: the list goes."""
    from repro.__main__ import _refuse_beside_dvc

    with subprocess.Popen(["sleep", "60"]) as other:  # noqa: S607 - as everywhere
        place = like_a_project / ".dvc/tmp"
        place.mkdir()
        (place / "rwlock").write_text(f'{{"write": {{"/x": {{"pid": {other.pid}, "cmd": "dvc repro"}}}}}}')
        _refuse_beside_dvc(place)
        other.kill()

    assert [] == list(place.iterdir())


@pytest.mark.parametrize(("lost", "message"), [
    (".git", "this folder is no git repository, which DVC asks for; make it one: git init && git add . && "),
    (".dvc", ".dvc is missing, without which DVC runs nothing; take the whole project: git clone"),
])  # fmt: skip
def test_a_tree_that_dvc_would_refuse_is_told_what_to_do(lost: str, message: str, like_a_project: Path) -> None:
    """In one sentence; and an unknown plan too."""
    unknown = call(like_a_project, "reproduce", "quik")
    (like_a_project / lost).rmdir()

    done = call(like_a_project, "reproduce", "quick")

    assert (2, 2) == (done.returncode, unknown.returncode)
    assert f"error: {message}" in done.stderr
    assert "PLAN = quik has no file in experiments/plan; did you mean 'quick'?" in unknown.stderr


# The stages as they are written


SOURCES_AND_METHODS = sorted(f"repro.{path.parent.name}.{path.stem}" for room in ("data", "methods")
                             for path in (ROOT / "repro" / room).glob("[!_]*.py"))  # fmt: skip
LEFT = ["repro/__pycache__/files.cpython-311.pyc", "repro/old.pyc"]
"""What Python leaves in folders that stages depend on."""


def outs() -> dict[str, dict[str, bool]]:
    """Everything that a stage makes, with what dvc.yaml says of it."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    return {path: says for stage in stages for out in stage.get("do", stage)["outs"] for path, says in out.items()}


def test_nothing_finished_is_deleted_before_it_is_made_again() -> None:
    """Only configurations are, which `prepare` writes in a moment: one of a run that is no longer planned must go."""
    assert ["artifacts/configs"] == [path for path, says in outs().items() if not says.get("persist")]
    assert not any(says["cache"] for says in outs().values())


def test_compiled_files_do_not_change_a_stage(tmp_path: Path) -> None:
    """DVC itself passes over them, and not over the sources beside them."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")

    done = python("-m", "dvc", "check-ignore", *LEFT, "repro/files.py", cwd=tmp_path)

    assert (0, LEFT) == (done.returncode, done.stdout.splitlines()), done.stderr


def declared(stage: str) -> set[str]:
    """The files and folders of the package that a stage depends on."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    return {dep for dep in found.get("do", found)["deps"] if dep.startswith("repro")}


@pytest.mark.parametrize("module", SOURCES_AND_METHODS)
def test_training_depends_on_all_of_its_data_set_and_method(module: str) -> None:
    """What the stage does not declare stands in the run's configuration, for which the stage `prepare` looks at it."""
    reached = {str(path.relative_to(ROOT)) for path in closure(ROOT / Path(*module.split(".")).with_suffix(".py"))}
    known = declared("train") | ANY_COMMAND | set(made_of(module))

    assert [] == sorted(path for path in reached if not any(path == dep or path.startswith(f"{dep}/") for dep in known))
    assert [] == [path for path in made_of(module) if str(Path(path).parent) not in declared("prepare")]


def test_an_edited_data_set_or_method_is_of_its_own_runs_alone(workplace: Path) -> None:
    """The configuration of a run ends with the hashes of the files that are its own, and of no other's."""
    (workplace / "params.yaml").write_text("runs: {digits_mpl: {seeds: 0}, moons_tuned_supervised: {seeds: 0-9}}\n")
    ran(workplace, "prepare")

    own = {}
    for path in (workplace / "artifacts/configs").iterdir():
        lines = path.read_text().split("# data set and method are made of\n")[1].splitlines()
        own[path.stem] = dict(line.removeprefix("#   ").split() for line in lines)

    common = {"repro/data/images.py", "repro/data/sets.py", "repro/data/toys.py", "repro/methods/state.py",
              "repro/methods/supervised.py"}  # fmt: skip
    assert common == own["moons_tuned_supervised"].keys()
    assert common | {"repro/methods/mpl.py", "repro/methods/feedback.py"} == own["digits_mpl"].keys()
    for name, recorded in own["digits_mpl"].items():
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == recorded

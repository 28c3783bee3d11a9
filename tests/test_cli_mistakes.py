"""Mistakes and accidents of a user, each answered in one sentence with the remedy."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro import __main__ as command
from repro.evaluate import evaluate
from repro.train import job
from tests.entry_points import python

ROOT = Path(__file__).parent.parent
Complaint = Callable[..., str]


@pytest.fixture
def complaint(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Calls a verb in a new folder with the project's experiments; the one sentence with which it ends, status 2."""

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            command.main(list(words))
        said = capsys.readouterr().err
        assert (2, 1) == (end.value.code, said.count("\n")), said
        assert said.startswith("error: ")
        return said.removeprefix("error: ")

    return call


@pytest.mark.parametrize(("runs", "message"), [
    ({"digits_mlp": {"seeds": 0}}, "did you mean 'digits_mpl'"),
    ({"digits_uda": {"seeds": 0}, "digits_mpl": {"seeds": 0, "overrides": ["budget.steps=0"]}},
     "params.yaml: runs.digits_mpl: budget.steps = 0: must lie in [1, 1,000,000,000]"),
])  # fmt: skip
def test_prepare_refuses_a_bad_plan_before_it_writes(runs: dict[str, Any], message: str, complaint: Complaint) -> None:
    """By run and key, with what was meant; nothing is half-written."""
    Path("params.yaml").write_text(yaml.safe_dump({"runs": runs}))

    assert message in complaint("prepare")
    assert not Path("artifacts").exists()


def test_a_plan_that_needs_a_gpu_is_not_started(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before data are downloaded, in one sentence: how to learn what it would take, and what to do instead."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = complaint("prepare", "--plan", "svhn_1k")

    assert "needs a GPU, and PyTorch finds none here" in said
    assert "repro plan experiments/plan/svhn_1k.yaml;" in said
    assert "make reproduce PLAN=quick" in said
    cluster = ("run", "svhn_1k", "--dry-run", "--on", "slurm", "--slurm", "time=8h")
    assert "needs a GPU, and --slurm asks for none; add gpus=1" in complaint(*cluster)
    assert not Path("artifacts").exists()


@pytest.mark.parametrize(("words", "message"), [
    (["digits_mpl", "--seeds", "5-1"], "seeds = '5-1'"),
    (["digits_mpl", "--seeds", "0", "--against", "digits_uda", "metod.weight=1"], "metod.weight is not a setting"),
    (["digits_mpl", "--seeds", "0", "--against", "moons_tuned_mpl"], "seeds pair only runs on the same data"),
    (["tiny_imagenet_mpl", "data.test=''", "--seeds", "0"], "data.test is empty"),
])  # fmt: skip
def test_a_wrong_trial_is_refused_before_it_writes(words: list[str], message: str, complaint: Complaint) -> None:
    """By run and key, with what was meant."""
    assert message in complaint("run", *words)
    assert not Path("artifacts").exists()


def test_a_path_is_no_run(complaint: Complaint) -> None:
    """A shell completes it."""
    for words in (["evaluate"], ["train", "--seeds", "0"]):
        assert "'artifacts/runs/digits_mpl' is no run of a plan: " in complaint(*words, "artifacts/runs/digits_mpl")


def test_another_folder_is_refused(complaint: Complaint) -> None:
    """Before anything is done there."""
    Path("experiments").unlink()
    says = "is not the project's folder: it has no experiments; cd to the folder with dvc.yaml"

    assert f"{Path.cwd()} {says}\n" == complaint("show")
    Path("experiments").mkdir()  # of something else
    assert f"{Path.cwd()} {says}\n" == complaint("show")
    assert complaint("export", "mine", "--onnx", "m.onnx").startswith("mine holds no trained model")
    assert Path(python("-c", "from repro.files import ROOT; print(ROOT)", cwd=Path.cwd()).stdout).is_absolute()


def test_a_file_that_is_missing_needs_no_room(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said to be missing, and how what belongs to the project comes back."""
    monkeypatch.setattr(command, "report", lambda _: Path("experiments/none.yaml").read_text())
    remedy = "where it belongs to the project: git checkout -- experiments/none.yaml"

    assert f"experiments/none.yaml is missing; {remedy}\n" == complaint("report")


def test_a_results_folder_that_cannot_be_written_is_named(complaint: Complaint) -> None:
    """A file where results/ should be (as root, a read-only folder would not stop the write)."""
    Path("results").write_text("in the way")

    assert "results" in complaint("verify")


def test_ctrl_c_has_its_own_status(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """130, and how to go on."""

    def stop(_: Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "report", stop)
    with pytest.raises(SystemExit) as end:
        command.main(["report"])

    assert end.value.code == 130
    assert "interrupted; run the same command again to go on" in capsys.readouterr().err


def test_what_cannot_be_printed_is_replaced(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minus sign or the name of a class ends no command where only ASCII can be printed."""
    printed = io.BytesIO()
    monkeypatch.setattr(command, "report", lambda _: print("−0.3 ünï"))
    with monkeypatch.context() as ascii_only:
        ascii_only.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii"))
        with pytest.raises(SystemExit) as end:
            command.main(["report"])
        assert (0, b"?0.3 ?n?\n") == (end.value.code, printed.getvalue())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["plan", "--list"]])
def test_a_pipe_that_nobody_reads_is_no_error(words: list[str], unbuffered: str) -> None:
    """As of `repro show | head -1`: the status of a program that SIGPIPE ends, and not a word."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-m", "repro", *words], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(write)

    swallowed = words == ["--help"] and unbuffered  # by argparse
    assert (0 if swallowed else command.EXIT_NOBODY_READS, b"") == (done.returncode, done.stderr)


def test_a_killed_evaluation_worker_is_reported(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system kills it when memory runs out."""
    monkeypatch.setattr(evaluate, "restore_folder", lambda _: os._exit(9))

    assert "evaluate one run at a time: repro evaluate <run>, with one, two for <run>" in complaint(
        "evaluate", "one", "two"
    )


def test_git_is_out_of_reach_of_signals_to_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system's SIGTERM does not make the revision unknown: git has a session, so a group, of its own."""
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\ncut -d ' ' -f 5,6 /proc/$$/stat\n")  # group and session
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    group, session = map(int, str(job._git("rev-parse")).split())

    assert group == session
    assert group != os.getpgid(0)
    assert session != os.getsid(0)


def test_the_revision_is_that_of_the_code_not_of_the_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment often lies inside somebody's own repository, whose commit says nothing about ours."""
    code = tmp_path / "repro/train/job.py"
    code.parent.mkdir(parents=True)
    code.touch()
    monkeypatch.setattr(job, "CODE_AT", tmp_path)

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.check_output(["git", "-C", tmp_path, *who, *words], text=True).strip()  # noqa: S603, S607

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "theirs")
    assert "unknown" == job.revision()

    git("add", ".")
    git("commit", "-q", "-m", "ours")
    assert git("rev-parse", "HEAD") == job.revision()

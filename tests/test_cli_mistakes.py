"""Mistakes and accidents of a user, each answered in one sentence with the remedy; and a report that is cut short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from repro.cli import report
from repro.cli.entry import run
from repro.evaluate import evaluate
from repro.report.render import Report
from tests.entry_points import call
from tests.test_cli import ROOT, workplace

__all__ = ["workplace"]


def test_a_wrong_value_names_its_run(workplace: Path) -> None:
    """Of a plan's runs, the one that has it."""
    runs = {"a": [], "b": ["optim.average_decay=2"]}
    plan = {name: {"experiment": "digits_mpl", "seeds": 0, "overrides": overrides} for name, overrides in runs.items()}
    (workplace / "params.yaml").write_text(yaml.safe_dump({"runs": plan}))

    done = call(workplace, "prepare")

    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: runs.b: optim.average_decay = 2")
    assert done.stderr.count("\n") == 1


def test_another_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is done there."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        run(lambda: pytest.fail("it started"))

    says = "is not the project's folder: it has no experiments; cd to the folder with dvc.yaml"
    assert 2 == end.value.code
    assert f"error: {tmp_path} {says}\n" == capsys.readouterr().err


def test_a_file_that_is_missing_needs_no_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said to be missing, and how what belongs to the project comes back."""
    monkeypatch.chdir(ROOT)

    with pytest.raises(SystemExit) as end:
        run(lambda: int(Path("experiments/none.yaml").read_text()))

    remedy = "where it belongs to the project: git checkout -- experiments/none.yaml"
    assert 2 == end.value.code
    assert f"error: experiments/none.yaml is missing; {remedy}\n" == capsys.readouterr().err


def test_a_killed_evaluation_worker_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system kills it when memory runs out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "restore_folder", lambda _: os._exit(9))
    monkeypatch.setattr("sys.argv", ["evaluate", "one", "two"])

    with pytest.raises(RuntimeError, match=r"evaluate one run at a time: python -m .*, with one, two for <run>$"):
        evaluate.main()


def test_git_is_out_of_reach_of_signals_to_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system's SIGTERM does not make the revision unknown: git has a session, so a group, of its own."""
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\ncut -d ' ' -f 5,6 /proc/$$/stat\n")  # group and session
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    group, session = map(int, str(environment._git("rev-parse")).split())

    assert group == session
    assert group != os.getpgid(0)
    assert session != os.getsid(0)


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a report and two figures; the next report has one of them, and another one."""
    monkeypatch.chdir(tmp_path)
    figures = tmp_path / "results/figures"
    figures.mkdir(parents=True)
    for name in ("kept", "old"):
        (figures / f"{name}.png").write_bytes(b"before")
    (tmp_path / "results/REPORT.md").write_text("before")
    monkeypatch.setattr(report, "rendered", lambda *_: Report("after", {}))
    monkeypatch.setattr(report, "drawn", lambda _: {"kept": b"after", "new": b"after"})
    return tmp_path / "results"


def content(results: Path) -> dict[str, str]:
    """All files under results/ with what they hold."""
    return {str(path.relative_to(results)): path.read_text() for path in results.rglob("*") if path.is_file()}


def test_a_report_removes_figures_that_are_no_longer_drawn(reported: Path) -> None:
    """The folder holds what was drawn and nothing else."""
    report.main()

    assert {"REPORT.md": "after", "figures/kept.png": "after", "figures/new.png": "after"} == content(reported)


@pytest.mark.parametrize("stopped", ["drawn", "write_whole", "replace_folder"])
def test_a_report_that_is_cut_short_leaves_the_old_one(
    stopped: str, reported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report and figures of the last time stay until the new figures are all written; another call mends the rest."""
    before = content(reported)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, stopped, kill)
        with pytest.raises(KeyboardInterrupt):
            report.main()

    assert before == content(reported)


def test_a_report_goes_on_where_one_was_killed(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renames of the figures: they are put aside, and come back before anything else is done."""
    before = content(reported)
    (reported / "figures").rename(reported / ".replaced-figures")
    (reported / ".partly-figures").mkdir()

    with monkeypatch.context() as patch:
        patch.setattr(report, "read_runs", lambda: pytest.fail("stops here"))
        with pytest.raises(pytest.fail.Exception):
            report.main()
    assert before == content(reported)

    report.main()
    assert {"REPORT.md": "after", "figures/kept.png": "after", "figures/new.png": "after"} == content(reported)
    assert {"REPORT.md", "figures"} == {path.name for path in reported.iterdir()}

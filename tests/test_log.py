"""The log line: what a person reads while a run goes on."""

from __future__ import annotations

import pytest

from repro.train import stopping
from repro.train.job import line


def test_a_row_reads_as_a_sentence() -> None:
    """Step, losses, wrong pseudo labels, h with its spread and its noise."""
    row = {"step": 200.0, "student_loss": 1.9234, "teacher_labelled_loss": 0.5, "uda_loss": 0.0312,
           "pseudo_label_wrong": 0.4312, "feedback": -0.00123, "feedback_spread": 0.004,
           "noise_floor": 0.001}  # fmt: skip

    assert (
        "cifar10_mpl seed-0: step 200 of 300000; losses: teacher labelled 0.500, UDA 0.031, student 1.923; "
        "43.1 % of pseudo labels wrong; h -1.2e-03 ± 4.0e-03; of which noise +1.0e-03"
    ) == line("cifar10_mpl seed-0", row, 300_000)


def test_what_is_not_measured_is_not_said() -> None:
    """A supervised run has one loss and nothing else; a noise floor of exactly 0 is no news."""
    assert "run: step 5 of 9; losses: labelled 0.700" == line("run", {"step": 5.0, "labelled_loss": 0.7}, 9)
    assert "noise" not in line("run", {"step": 5.0, "feedback": 1.0, "feedback_spread": 0.0, "noise_floor": 0.0}, 9)


def test_the_time_left_is_of_what_is_done_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,000 steps that an earlier start left count at once, and say nothing of the pace: 1 step in 15 seconds."""
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.sys.stderr, "isatty", lambda: False)
    bar = stopping.Progress("run", 1010)
    for done in (1000, 1001, 1002):
        now[0] += 15
        bar.show(done)

    assert ["run: 1000/1010 steps", "run: 1001/1010 steps, about 135 s left",
            "run: 1002/1010 steps, about 120 s left"] == capsys.readouterr().out.splitlines()  # fmt: skip


def test_the_time_left_forgets_a_jump(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds that go on from saved states say so one after another: after five minutes only the pace of now counts."""
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.sys.stderr, "isatty", lambda: False)
    bar = stopping.Progress("run", 1000)
    for done in (0, 300, 600, *range(601, 621)):
        now[0] += 15
        bar.show(done)

    assert "run: 620/1000 steps, about 5700 s left" == capsys.readouterr().out.splitlines()[-1]

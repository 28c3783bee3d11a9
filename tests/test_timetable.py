"""Minutes that are kept: as many steps as fit until an end, by a clock that the test turns."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from repro.train.loop import Stopped, Trainer
from tests.tiny import CPU, settings


class Clock:
    """Each step of training takes as long as `seconds` says of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.seconds = 0.0, [1.0]
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        advance = Trainer.advance

        def slow(trainer: Trainer) -> bool:
            self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
            return advance(trainer)

        monkeypatch.setattr(Trainer, "advance", slow)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the training loop."""
    return Clock(monkeypatch)


def trainer(steps: int) -> Trainer:
    """A run that is planned to have so many steps, on a falling rate after a warm-up of a tenth."""
    optimiser = {"learning_rate": 0.01, "schedule": "cosine", "warmup_steps": steps // 10}
    return Trainer(settings("two_moons", {"name": "supervised"}, budget__steps=steps,
                            optim__teacher=optimiser, budget__snapshots=2), 0, CPU)  # fmt: skip


@pytest.mark.parametrize(("seconds", "steps"), [
    ([1.0], (99, 100)),  # as planned
    ([4.0], (24, 26)),  # four times as slow as was measured
    ([0.5], (196, 200)),  # twice as fast
    ([1.0] * 50 + [5.0], (60, 61)),  # others begin to compute half way
])  # fmt: skip
def test_training_ends_when_it_shall(
    seconds: list[float], steps: tuple[int, int], clock: Clock, tmp_path: Path
) -> None:
    """100 steps are planned for 100 seconds; whatever the machine does, it ends within a step or two of them."""
    run, clock.seconds = trainer(100), list(seconds)
    run.run(tmp_path, ends=100.0)

    assert steps[0] <= run.state.step <= steps[1]
    assert 93 <= clock.now <= 100 + seconds[-1]
    learner = run.state.learners["teacher"]
    assert (run.state.step, run.state.step) == (learner.total_steps, run.config.budget.steps)
    assert learner.config.warmup_steps == round(0.1 * run.state.step)
    assert float(learner.learning_rate(run.state.step)) == pytest.approx(0)  # the schedule came to its end
    assert run.rows[-1]["step"] == run.state.step == run.kept.series["snapshots"].steps[-1]


def test_a_run_that_stopped_goes_on_with_the_steps_it_had(clock: Clock, tmp_path: Path) -> None:
    """Its schedule is the one it was on, and what it was begun with still names its state."""
    first, clock.seconds = trainer(100), [4.0]
    with pytest.raises(Stopped):
        first.run(tmp_path, ends=100.0, stop=lambda: first.state.step == 10)
    second = trainer(100)
    second.run(tmp_path, ends=math.inf)

    assert second.state.step == first.config.budget.steps < 30

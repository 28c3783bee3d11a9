"""Where the time of a step goes: its parts timed while it runs as always."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from repro.engine.device import finish
from repro.train.loop import Trainer


class Parts:
    """Seconds of each part of the steps that a trainer takes from now on.

    The device is waited for at the beginning and end of each part, so that all parts together take longer than a step
    that nobody watches does.
    """

    def __init__(self, trainer: Trainer, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        trainer.batch = self._timed("batch and views", trainer.batch)
        for role, learner in trainer.state.learners.items():
            learner.model.forward = self._timed(f"{role} forward", learner.model.forward)
            learner.gradients = self._timed(f"{role} backward", learner.gradients)  # type: ignore[method-assign]
            learner.apply = self._timed("optimiser and average", learner.apply)  # type: ignore[method-assign]

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            finish(self._device)
            started = time.perf_counter()
            found = call(*arguments, **named)
            finish(self._device)
            self.seconds[name] += time.perf_counter() - started
            return found

        return timed

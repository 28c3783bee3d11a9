"""What every method takes and changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from repro.models.layers import moved_together
from repro.optim import Learner
from repro.seeding import Draws
from repro.settings import Optim

BuildModel = Callable[[str], nn.Module]
"""From a role, "teacher" or "student", to a fresh network."""


Noise = Tensor | int | None
"""What a pass of a network takes besides its examples: the randomness of its dropout."""


@dataclass(frozen=True)
class Batch:
    """One step's data: B labelled and U unlabelled examples of shape E, each with leading shape `lead`."""

    labelled: Tensor  # [*lead, B, *E], the view trained on
    labels: Tensor  # int64 [*lead, B]
    weak: Tensor  # [*lead, U, *E]; a view that the method does not look at is the example itself
    strong: Tensor  # [*lead, U, *E], another view of the same examples
    hidden_labels: Tensor  # int64 [*lead, U]; enters metrics only
    draws: Draws  # this step's random numbers
    probe: bool = False  # whether to compute the metrics that cost extra passes
    mean_over_processes: Callable[[Tensor], Tensor] = lambda part: part  # from this process's part to the whole batch
    strong_labelled: Tensor | None = None  # [*lead, B, *E], another view of the labelled ones, if the method uses it


@dataclass
class State:
    """Networks by role, the number of steps taken, and a method's other tensors."""

    learners: dict[str, Learner]
    step: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors, flat."""
        flat = {f"memory.{k}": v for k, v in self.memory.items()}
        for role, learner in self.learners.items():
            flat |= {f"{role}.{k}": v for k, v in learner.state_dict().items()}
        return flat

    def load_state_dict(self, state: dict[str, Tensor], step: int) -> None:
        """The inverse of `state_dict`, in place."""
        for role, learner in self.learners.items():
            learner.load_state_dict(
                {k.removeprefix(f"{role}."): v for k, v in state.items() if k.startswith(f"{role}.")}
            )
        for key, tensor in self.memory.items():
            tensor.copy_(state[f"memory.{key}"])
        self.step = step


def new_learner(role: str, build: BuildModel, optim: Optim, steps: int, lead: tuple[int, ...]) -> Learner:
    """The learner of a role, with that role's optimiser."""
    return Learner(build(role), getattr(optim, role), steps, optim.average_decay, lead, optim.average_start)


def dropout_noise(learner: Learner, parts: Sequence[Tensor], draws: Draws, name: str) -> Noise:
    """Uniform numbers [*lead, N, F] of the stream `name`, for a network with dropout on F features; else None.

    If `noise_features` is None, the network draws from PyTorch's own generators, and gets their seed.
    """
    features: int | None = learner.model.noise_features  # type: ignore[assignment]
    if features is None:
        return draws.seed(name)
    counts = [part.shape[len(learner.lead)] for part in parts]
    return draws.uniform(name, (sum(counts), features), counts) if features else None


def logits_of(learner: Learner, parts: Sequence[Tensor], draws: Draws, noise: str) -> Tensor:
    """Training-mode logits [*lead, N, K] of all parts [*lead, N_i, *E], which share their batch statistics.

    `noise` names the stream of the dropout's noise; N is the sum of all N_i.
    """
    x = torch.cat(list(parts), dim=len(learner.lead)) if len(parts) > 1 else parts[0]
    with moved_together(learner.model):
        logits: Tensor = learner.model(x, dropout_noise(learner, parts, draws, noise))
    return logits

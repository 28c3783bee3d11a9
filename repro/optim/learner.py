"""A network with its optimiser state and its weight average."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from repro.models.layers import BatchNorm
from repro.optim.schedules import Value, average_decay, learning_rate
from repro.optim.vectors import clip_norm
from repro.seeding import Step
from repro.settings import AverageStart, Optimiser


def initial_average(model: nn.Module, start: AverageStart) -> dict[str, Tensor]:
    """The average of weights and statistics before the first step, by name.

    The released code starts at 1 every variable with "variance" or "beta" in its name, the others at 0.
    """
    current = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if start is AverageStart.weights:
        return current
    norms = [name for name, module in model.named_modules() if isinstance(module, BatchNorm)]
    ones = {f"{name}.{key}" for name in norms for key in ("bias", "running_variance")}
    return {key: value.fill_(float(key in ones)) for key, value in current.items()}


class Learner:
    """One network in training.

    Args:
        model: examples [*lead, N, ...] to logits [*lead, N, K].
        config: its optimiser.
        total_steps: length of the learning-rate schedule.
        decay: of the average of weights and running statistics; 0 keeps no average.
        lead: leading shape of every parameter: () or (R,) for R stacked networks.
        average_start: what the average holds before the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Optimiser,
        total_steps: int,
        decay: float = 0.0,
        lead: tuple[int, ...] = (),
        average_start: AverageStart = AverageStart.weights,
    ) -> None:
        self.model = model.train()
        self.reduce: Callable[[list[Tensor]], list[Tensor]] = list  # gradients of part of a batch to those of all of it
        self.config, self.total_steps, self.decay, self.lead = config, total_steps, decay, lead
        self.parameters: list[Tensor] = list(model.parameters())
        self.momentum = [torch.zeros_like(p) for p in self.parameters] if config.momentum else []
        exempt = {id(p) for m in model.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
        self._decayed = [i for i, p in enumerate(self.parameters) if id(p) not in exempt]
        self.average = initial_average(model, average_start) if decay else {}

    def learning_rate(self, step: Step) -> Value:
        """The rate of this step."""
        return learning_rate(self.config, step, self.total_steps)

    def gradients(self, loss: Tensor, retain_graph: bool = False) -> list[Tensor]:
        """Gradient of `loss` summed over stacked networks (each network's loss depends on its own weights only).

        Where several processes share a batch, `loss` is of this one's part and the gradient that of their mean.
        """
        found = torch.autograd.grad(loss.sum(), self.parameters, retain_graph=retain_graph, materialize_grads=True)
        return self.reduce(list(found))

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor], step: Step) -> None:
        """One step of Nesterov's method: a <- momentum a + g; w <- w - rate (g + momentum a).

        Weight decay is added to g first, then g is clipped, as in the released code.
        """
        gradients = list(gradients)
        if self.config.weight_decay:
            decayed = [self.parameters[i] for i in self._decayed]
            sums = torch._foreach_add([gradients[i] for i in self._decayed], decayed, alpha=self.config.weight_decay)
            for i, gradient in zip(self._decayed, sums, strict=True):
                gradients[i] = gradient
        if self.config.clip_norm:
            gradients = clip_norm(gradients, self.config.clip_norm, self.lead)
        if self.config.momentum:
            torch._foreach_mul_(self.momentum, self.config.momentum)
            torch._foreach_add_(self.momentum, gradients)
            gradients = list(torch._foreach_add(gradients, self.momentum, alpha=self.config.momentum))
        rate = self.learning_rate(step)
        if isinstance(rate, Tensor):
            torch._foreach_sub_(self.parameters, torch._foreach_mul(gradients, rate))
        else:
            torch._foreach_add_(self.parameters, gradients, alpha=-rate)
        if self.average:
            self._update_average(average_decay(self.decay, step))

    def _update_average(self, decay: Value) -> None:
        state, average = self.model.state_dict(), list(self.average.values())
        current = [state[name] for name in self.average]
        if isinstance(decay, Tensor):
            torch._foreach_add_(average, torch._foreach_mul(torch._foreach_sub(current, average), (1 - decay).float()))
        else:
            torch._foreach_lerp_(average, current, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as one flat dictionary."""
        return (
            {f"model.{k}": v for k, v in self.model.state_dict().items()}
            | {f"momentum.{i}": v for i, v in enumerate(self.momentum)}
            | {f"average.{k}": v for k, v in self.average.items()}
        )

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`, in place.

        Raises:
            KeyError: when an entry is missing.
        """
        for key, tensor in self.state_dict().items():
            tensor.copy_(state[key])

"""Gradient descent of one network: its schedules, momentum and clipping, and the moving average of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from repro.models.layers import NORMS
from repro.seeding import Step
from repro.settings import AverageStart, Optimiser, Schedule


def initial_average(model: nn.Module, start: AverageStart) -> dict[str, Tensor]:
    """The average of weights and statistics before the first step, by name.

    The released code starts variables with "variance" or "beta" in their name at 1, the others at 0.
    """
    current = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if start is AverageStart.weights:
        return current
    norms = [name for name, module in model.named_modules() if isinstance(module, NORMS)]
    ones = {f"{name}.{key}" for name in norms for key in ("bias", "running_variance", "running_var")}
    return {key: value.fill_(float(key in ones)) for key, value in current.items()}


class Learner:
    """One network in training: gradient descent on its parameters that require a gradient.

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
        self.reduce: Callable[[list[Tensor]], list[Tensor]] = list  # from a part of the batch to all of it
        self.config, self.total_steps, self.decay, self.lead = config, total_steps, decay, lead
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.momentum = [torch.zeros_like(p) for p in self.parameters] if config.momentum else []
        exempt = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
        self.decayed = [i for i, p in enumerate(self.parameters) if id(p) not in exempt]
        self.average = initial_average(model, average_start) if decay else {}

    def to(self, device: torch.device) -> None:
        """Moves parameters, momentum and averages to a device."""
        self.model.to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.momentum = [value.to(device) for value in self.momentum]
        self.average = {name: value.to(device) for name, value in self.average.items()}

    def learning_rate(self, step: Step) -> Value:
        """The rate of this step."""
        return learning_rate(self.config, step, self.total_steps)

    def gradients(self, loss: Tensor, retain_graph: bool = False) -> list[Tensor]:
        """Gradient of `loss` summed over stacked networks (each network's loss depends on its own weights only).

        If several processes share a batch, `loss` is that of this one's part, and the gradient that of the mean loss.
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
            decayed = [self.parameters[i] for i in self.decayed]
            sums = torch._foreach_add([gradients[i] for i in self.decayed], decayed, alpha=self.config.weight_decay)
            for i, gradient in zip(self.decayed, sums, strict=True):
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
        state = self.model.state_dict()
        names = [name for name, value in self.average.items() if value.is_floating_point()]
        for name in self.average.keys() - names:  # counts, such as PyTorch's batch norm keeps
            self.average[name].copy_(state[name])
        average, current = [self.average[name] for name in names], [state[name] for name in names]
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
        """The inverse of `state_dict`, in place."""
        for key, tensor in self.state_dict().items():
            tensor.copy_(state[key])


Value = float | Tensor


def learning_rate(config: Optimiser, step: Step, total_steps: int) -> Value:
    """0 for `wait_steps`; then a linear warm-up; then constant, or half a cosine down to 0 at `total_steps`.

    The warm-up reaches the full rate in its last step: rate * (s + 1) / warmup_steps (released code).
    """
    since = _number(step) - config.wait_steps
    value: Value = config.learning_rate
    if config.schedule is Schedule.cosine:  # also computed before it applies, so it must not divide by 0
        span = total_steps - config.warmup_steps - config.wait_steps
        angle = math.pi * (since - config.warmup_steps) / (span or 1)
        value = config.learning_rate * 0.5 * (1 + (angle.cos() if isinstance(angle, Tensor) else math.cos(angle)))
    if config.warmup_steps:
        value = _choose(since < config.warmup_steps, config.learning_rate * (since + 1) / config.warmup_steps, value)
    return _single(_choose(since < 0, 0.0, value) if config.wait_steps else value)


def ramp(step: Step, ramp_steps: int) -> Value:
    """Rises linearly from 0 at step 0 to 1 at `ramp_steps`, then stays."""
    return _single(_smaller(1.0, _number(step) / ramp_steps)) if ramp_steps else 1.0


def average_decay(decay: float, step: Step) -> Value:
    """The decay of the weights' moving average: min(decay, (step + 1) / (step + 10)) (released code)."""
    return _smaller(decay, (_number(step) + 1) / (_number(step) + 10))


def _number(step: Step) -> Value:
    return step.double() if isinstance(step, Tensor) else step


def _single(value: Value) -> Value:
    """A tensor as float32, so that its product with a float32 tensor is not float64."""
    return value.float() if isinstance(value, Tensor) else value


def _smaller(most: float, value: Value) -> Value:
    return value.clamp(max=most) if isinstance(value, Tensor) else min(most, value)


def _choose(condition: bool | Tensor, chosen: Value, other: Value) -> Value:
    return torch.where(condition, chosen, other) if isinstance(condition, Tensor) else chosen if condition else other


def inner_product(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """<a, b> for each of the stacked vectors: [*lead]."""
    return (_flat(a, lead) * _flat(b, lead)).sum(dim=-1)


def norm(a: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Euclidean length of each of the stacked vectors: [*lead]."""
    return _length(_flat(a, lead))


def cosine(a: Sequence[Tensor], b: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """Cosine of the angle between a and b, 0 where either has no length: [*lead]."""
    first, second = _flat(a, lead), _flat(b, lead)
    lengths = _length(first) * _length(second)
    inner = (first * second).sum(dim=-1)
    return torch.where(lengths > 0, inner / lengths.clamp_min(torch.finfo(lengths.dtype).tiny), 0.0)


def _flat(a: Sequence[Tensor], lead: tuple[int, ...]) -> Tensor:
    """All as one tensor [*lead, n], whose sum is a single operation."""
    return torch.cat([tensor.flatten(len(lead)) for tensor in a], dim=-1)


def _length(flat: Tensor) -> Tensor:
    return (flat * flat).sum(dim=-1).sqrt()


def clip_norm(gradients: Sequence[Tensor], bound: float, lead: tuple[int, ...]) -> list[Tensor]:
    """The gradients, scaled down to length `bound` where they are longer; new tensors."""
    scale = bound / norm(gradients, lead).clamp_min(bound)
    return [gradient * scale.reshape((*lead, *[1] * (gradient.dim() - len(lead)))) for gradient in gradients]

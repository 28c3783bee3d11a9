"""Departures from the released code, one at a time, as a careless reimplementation would have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro import optim
from repro.losses import cross_entropy, probabilities
from repro.methods import BatchNormBatch, FeedbackSign, Mpl, PseudoLabel, feedback, mpl
from repro.methods.state import State
from repro.models import networks
from repro.models.layers import BatchNorm, same_convolution
from repro.optim import Learner, average_decay, clip_norm, learning_rate, ramp
from repro.settings import AverageStart, View
from tests.released_step import Setup

Plant = Callable[[pytest.MonkeyPatch, Setup], None]


def configured(change: Callable[[Setup], None]) -> Plant:
    """A departure that is a setting."""
    return lambda _, chosen: change(chosen)


def edited(change: Callable[[State], None]) -> Plant:
    """A departure of the state before the first step."""
    return lambda _, chosen: setattr(chosen, "edit", change)


def patched(target: Any, name: str, value: Any) -> Plant:
    """A departure in one function."""
    return lambda patch, _: patch.setattr(target, name, value)


def both(chosen: Setup, key: str, value: Any) -> None:
    """Sets a field of both optimisers."""
    for optimiser in (chosen.optim.student, chosen.optim.teacher):
        assert getattr(optimiser, key) != value
        setattr(optimiser, key, value)


def unbiased(self: BatchNorm, x: Tensor) -> Tensor:
    """PyTorch's own running variance."""
    statistics = (self.running_mean, self.running_variance) if self.tracking else (None, None)
    rate = 1 - self.decay
    return functional.batch_norm(x, *statistics, self.weight, self.bias, True, rate, self.epsilon)


def symmetric(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """PyTorch's padding, the same on all sides."""
    return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)


def raw_shortcut(self: networks.Block, x: Tensor) -> Tensor:
    """The projection is of the input, not of what batch norm and activation make of it."""
    active = functional.leaky_relu(self.norm_1(x), self.leak)
    hidden = self.norm_2(same_convolution(active, self.convolution_1, self.stride))
    hidden = same_convolution(functional.leaky_relu(hidden, self.leak), self.convolution_2)
    return hidden + (x if self.shortcut is None else same_convolution(x, self.shortcut, self.stride))


def apply(self: Learner, gradients: Sequence[Tensor], step: int, *, nesterov: bool = True, decay_last: bool = False,
          wait: bool = False) -> None:  # fmt: skip
    """`Learner.apply` in plain words, or without Nesterov, or with decay after clipping, or idle while it waits."""
    rate = self.learning_rate(step)
    decay = [self.config.weight_decay if i in self.decayed else 0.0 for i in range(len(gradients))]
    decays = [factor * p.detach() for factor, p in zip(decay, self.parameters, strict=True)]
    given = list(gradients) if decay_last else [g + d for g, d in zip(gradients, decays, strict=True)]
    given = optim.clip_norm(given, self.config.clip_norm, self.lead)
    if decay_last:
        given = [g + d for g, d in zip(given, decays, strict=True)]
    with torch.no_grad():
        for parameter, slot, gradient in zip(self.parameters, self.momentum, given, strict=True):
            if wait and not rate:
                continue
            slot.mul_(self.config.momentum).add_(gradient)
            parameter.sub_(rate * (gradient + self.config.momentum * slot if nesterov else slot))
        self._update_average(average_decay(self.decay, step))


def mask_by_plain_confidence(weak: Tensor, strong: Tensor, temperature: float, threshold: float) -> Tensor:
    """The threshold is on the probability before sharpening."""
    target = probabilities(weak.detach() / temperature)
    loss = -(target * strong.log_softmax(dim=-1)).sum(dim=-1)
    return loss * (probabilities(weak.detach()).amax(dim=-1) >= threshold)


def mean_of_kept(weak: Tensor, strong: Tensor, temperature: float, threshold: float) -> Tensor:
    """The mean is over the examples that pass the threshold."""
    loss = _consistency(weak, strong, temperature, threshold)
    return loss * len(loss) / (loss > 0).sum()


def swapped(learner: Learner, parts: list[Tensor], draws: Any, noise: str) -> Tensor:
    """The student's joint batch has the labelled images first, but is split as before."""
    if noise == "student dropout":
        parts = [*reversed(parts)]
    return _logits_of(learner, parts, draws, noise)


def stale() -> Callable[..., Tensor]:
    """The labelled loss after the step is that before it."""
    known: list[Tensor] = []

    def labelled_loss(*args: Any) -> Tensor:
        known.append(_labelled_loss(*args))
        return known[0]

    return labelled_loss


def baseline_first(h: Tensor, config: Mpl, memory: dict[str, Tensor], _: Any) -> Tensor:
    """The baseline is subtracted before it moves."""
    average = memory["baseline"].clone()
    memory["baseline"].lerp_(h, config.baseline_rate)
    return average - h


def smoothed_feedback(patch: pytest.MonkeyPatch, _: Setup) -> None:
    """Label smoothing in the student's labelled losses too."""
    patch.setattr(feedback, "cross_entropy", lambda logits, labels: cross_entropy(logits, labels, 0.15))


def only_parameters(state: State) -> None:
    """No averages of running statistics."""
    student = state.learners["student"]
    student.average = {key: value for key, value in student.average.items() if "running" not in key}


def each_learner(change: Callable[[Learner], None]) -> Plant:
    """A departure of both learners."""
    return edited(lambda state: [change(learner) for learner in state.learners.values()] and None)


def undecayed_bias(learner: Learner) -> None:
    """No weight decay of the dense layer's bias."""
    index = [name for name, _ in learner.model.named_parameters()].index("bias")
    learner.decayed.remove(index)


_consistency, _logits_of, _labelled_loss = mpl.consistency, mpl.logits_of, feedback.labelled_loss

FAR_INTO_TRAINING: dict[str, Plant] = {
    "leak of 0.1": configured(lambda s: setattr(s.model, "leak", 0.1)),
    "ReLU": configured(lambda s: setattr(s.model, "leak", 0.0)),
    "PyTorch's epsilon": configured(lambda s: setattr(s.model, "norm_epsilon", 1e-5)),
    "PyTorch's decay": configured(lambda s: setattr(s.model, "norm_decay", 0.9)),
    "unbiased variance": patched(BatchNorm, "forward", unbiased),
    "symmetric padding": patched(networks, "same_convolution", symmetric),
    "raw shortcut": patched(networks.Block, "forward", raw_shortcut),
    "batch norm decayed": each_learner(lambda learner: setattr(learner, "decayed", range(len(learner.parameters)))),
    "dense bias not decayed": each_learner(undecayed_bias),
    "no decay": configured(lambda s: both(s, "weight_decay", 0.0)),
    "plain momentum": patched(Learner, "apply", partialmethod(apply, nesterov=False)),
    "average starts at the weights": configured(lambda s: setattr(s.optim, "average_start", AverageStart.weights)),
    "average of parameters only": edited(only_parameters),
    "no wait in the schedule": configured(lambda s: setattr(s.optim.student, "wait_steps", 0)),
    "smoothing in the feedback": smoothed_feedback,
    "no smoothing of soft labels": configured(lambda s: setattr(s.method, "student_label_smoothing", 0.0)),
    "no smoothing for the teacher": configured(lambda s: setattr(s.method.uda, "label_smoothing", 0.0)),
    "no sharpening": configured(lambda s: setattr(s.method.uda, "temperature", 1.0)),
    "threshold before sharpening": patched(mpl, "consistency", mask_by_plain_confidence),
    "mean over kept examples": patched(mpl, "consistency", mean_of_kept),
    "hard labels": configured(lambda s: setattr(s.method, "pseudo_label", PseudoLabel.argmax)),
    "student sees the weak view": configured(lambda s: setattr(s.method, "student_view", View.weak)),
    "old loss on labels alone": configured(lambda s: setattr(s.method, "feedback_batch_norm", BatchNormBatch.matched)),
    "joint batch in another order": patched(mpl, "logits_of", swapped),
    "new loss before the step": lambda patch, _: patch.setattr(feedback, "labelled_loss", stale()),
    "baseline moved last": patched(mpl, "as_entered", baseline_first),
    "old - new": configured(lambda s: setattr(s.method, "feedback_sign", FeedbackSign.old_minus_new)),
}
"""Seen after one step of case A."""

FROM_THE_START: dict[str, tuple[int, Plant]] = {
    "decay after clipping": (1, patched(Learner, "apply", partialmethod(apply, decay_last=True))),
    "no clipping": (1, configured(lambda s: both(s, "clip_norm", 1e9))),
    "clipping of each tensor": (1, patched(optim, "clip_norm", lambda gs, bound, lead: [
        clip_norm([g], bound, lead)[0] for g in gs])),
    "idle while waiting": (2, patched(Learner, "apply", partialmethod(apply, wait=True))),
    "no wait": (1, configured(lambda s: setattr(s.optim.student, "wait_steps", 0))),
    "warm-up a step late": (1, patched(optim, "learning_rate", lambda c, s, n: learning_rate(c, s - 1, n))),
    "ramp a step early": (1, patched(mpl, "ramp", lambda step, steps: ramp(step + 1, steps))),
    "average a step early": (1, patched(optim, "average_decay", lambda d, step: average_decay(d, step + 1))),
    "average of fixed decay": (1, patched(optim, "average_decay", lambda d, _: d)),
}  # fmt: skip
"""Seen in case B, after so many steps."""

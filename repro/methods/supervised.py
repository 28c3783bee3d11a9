"""Supervised learning on the labelled images: plain (the tables' "supervised" rows), RandAugmented, or with Mixup."""

from __future__ import annotations

from torch import Tensor

from repro.augment.views import Mix, apply_mix, draw_mix
from repro.losses import cross_entropy, one_hot, smooth, soft_cross_entropy
from repro.methods import Supervised
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.settings import Optim, View


def init(build: BuildModel, config: Supervised, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """One network, in the role of MPL's teacher so that the two start alike."""
    return State({"teacher": new_learner("teacher", build, optim, steps, lead)})


def step(state: State, batch: Batch, config: Supervised) -> dict[str, Tensor]:
    """One step of gradient descent."""
    learner = state.learners["teacher"]

    inputs = labelled_inputs(batch, config.labelled_view, config.mixup)
    logits = logits_of(learner, [inputs], batch.draws, "teacher dropout")
    loss = labelled_loss_of(logits, batch, config.mixup, config.label_smoothing)
    learner.apply(learner.gradients(loss), state.step)

    state.step += 1
    return {"labelled_loss": loss.detach()}


def labelled_inputs(batch: Batch, view: View, mixup: float) -> Tensor:
    """The labelled examples as a network learns from them, [*lead, B, *E]: a view, mixed by Beta(mixup, mixup)."""
    x = batch.strong_labelled if view is View.strong else batch.labelled
    if x is None:
        raise ValueError("the batch has no strong view of its labelled examples; ask `Batches` for it")
    return apply_mix(x, _mix(batch, mixup)) if mixup else x


def labelled_loss_of(logits: Tensor, batch: Batch, mixup: float, smoothing: float) -> Tensor:
    """Mean cross-entropy, [*lead], of the logits [*lead, B, K] of `labelled_inputs`.

    With `mixup` the targets are mixed by the same draw as the inputs. Smoothing comes after that.
    """
    if not mixup:
        return cross_entropy(logits, batch.labels, smoothing).mean(dim=-1)
    targets = apply_mix(one_hot(batch.labels, logits.shape[-1]).to(logits.dtype), _mix(batch, mixup))
    return soft_cross_entropy(logits, smooth(targets, smoothing)).mean(dim=-1)


def _mix(batch: Batch, a: float) -> Mix:
    return draw_mix(batch.draws, "mixup", a, batch.labels.shape[-1])

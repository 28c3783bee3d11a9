"""Supervised learning on the labelled images, plain (the tables' "supervised" rows), RandAugmented, or with Mixup."""

from __future__ import annotations

from torch import Tensor

from repro.methods import Supervised
from repro.methods.labelled import labelled_inputs, labelled_loss_of
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.settings import Optim


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

"""Supervised learning: cross-entropy on the labelled images (the tables' "supervised" rows)."""

from __future__ import annotations

from torch import Tensor

from repro.config.methods import Supervised, View
from repro.config.schema import Optim
from repro.losses import cross_entropy
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner

COUNTED = "teacher"


def views(config: Supervised) -> frozenset[View]:
    """The views of unlabelled examples that a step looks at. None: it looks at labelled examples only."""
    return frozenset()


def init(build: BuildModel, config: Supervised, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """One network, in the role of MPL's teacher so that the two start alike."""
    return State({"teacher": new_learner("teacher", build, optim, steps, lead)})


def step(state: State, batch: Batch, config: Supervised) -> dict[str, Tensor]:
    """One step of gradient descent."""
    learner = state.learners["teacher"]

    logits = logits_of(learner, [batch.labelled], batch.draws, "teacher dropout")
    loss = cross_entropy(logits, batch.labels, config.label_smoothing).mean(dim=-1)
    learner.apply(learner.gradients(loss), state.step)

    state.step += 1
    return {"labelled_loss": loss.detach()}

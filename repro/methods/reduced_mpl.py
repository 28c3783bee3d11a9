"""Reduced Meta Pseudo Labels: paper, Appendix E. One large network at a time is passed through.

A large teacher T learns as MPL's teacher does, without feedback, for `teacher_steps`. Its predictions on all training
images are then stored, and it is not used again. A perceptron T' over the stored predictions takes its place in
Algorithm 1: it starts as T, labels for the student, and learns from feedback and labels.

Of T the weights stay, fixed, so that it is evaluated as "teacher" to the end. T' needs stored predictions, so it is
not evaluated on images that were not trained on; `pseudo_label_wrong` counts its labels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from repro.config.methods import ReducedMpl, View
from repro.config.schema import Optim
from repro.losses import cross_entropy, probabilities
from repro.methods.feedback import initial_memory
from repro.methods.state import Batch, BuildModel, State, new_learner
from repro.methods.student import feedback_loss, pseudo_label_targets, pseudo_labels_wrong, student_step
from repro.methods.teacher import teacher_logits, teacher_loss, teacher_views
from repro.models.layers import frozen_statistics
from repro.models.reduced_teacher import ReducedTeacher
from repro.optim.learner import Learner
from repro.optim.vectors import norm

COUNTED = "student"

REDUCED = "reduced_teacher"
_STORED = ("labelled", "unlabelled")  # predictions of T, [*lead, N, K]


def views(config: ReducedMpl) -> frozenset[View]:
    """The views of unlabelled examples that a step looks at."""
    return teacher_views(config.mpl) | {config.mpl.student_view}


def init(build: BuildModel, config: ReducedMpl, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """The large teacher, and the student and the perceptron of the steps after it, each with its own whole schedule."""
    left = steps - config.teacher_steps
    teacher = new_learner("teacher", build, optim, config.teacher_steps, lead)
    student = new_learner("student", build, optim, left, lead)
    classes: int = student.model.classes  # type: ignore[assignment]
    reduced = ReducedTeacher(classes, config.hidden, lead).to(student.parameters[0])
    memory = initial_memory(config.mpl, lead, student.parameters[0].device)
    aides = {REDUCED: Learner(reduced, optim.teacher, left, lead=lead)}
    return State({"teacher": teacher, "student": student}, memory=memory, aides=aides)


def step(state: State, batch: Batch, config: ReducedMpl) -> dict[str, Tensor]:
    """One step of the large teacher, or, after its last one, of student and perceptron."""
    if state.step < config.teacher_steps:
        metrics = _teacher_step(state, batch, config)
    else:
        if state.step == config.teacher_steps or not state.stored:
            _exchange(state, batch)
        metrics = _reduced_step(state, batch, config)
    state.step += 1
    return metrics


def _teacher_step(state: State, batch: Batch, config: ReducedMpl) -> dict[str, Tensor]:
    """T learns labels and UDA, or what else `config.mpl` gives a teacher."""
    teacher = state.learners["teacher"]
    loss, metrics = teacher_loss(*teacher_logits(teacher, batch, config.mpl), batch, state.step, config.mpl)
    if loss.requires_grad:
        teacher.apply(teacher.gradients(loss), state.step)
    return metrics


def _exchange(state: State, batch: Batch) -> None:
    """Stores T's predictions on every training example, [*lead, N, K], and starts T'.

    Raises:
        ValueError: for a batch that cannot give all examples.
    """
    if batch.everything is None:
        raise ValueError("the batch does not give all training examples, which Reduced MPL stores predictions of")
    for name, pieces in zip(_STORED, batch.everything(), strict=True):
        state.stored[name] = _predictions(state.learners["teacher"], pieces)
    reduced: ReducedTeacher = state.aides[REDUCED].model  # type: ignore[assignment]
    reduced.start(batch.draws.uniform("init reduced teacher", reduced.inward.shape[-2:]))


@torch.no_grad()
def _predictions(teacher: Learner, pieces: Iterable[Tensor]) -> Tensor:
    """Probabilities of all examples, as the network is evaluated: running statistics, no dropout, last weights."""
    with frozen_statistics(teacher.model):
        teacher.model.eval()
        predicted = [probabilities(teacher.model(piece)) for piece in pieces]
        teacher.model.train()
    return torch.cat(predicted, dim=len(teacher.lead))


def _stored(state: State, name: str, index: Tensor | None) -> Tensor:
    """Logarithms of the stored predictions of a batch, [*lead, n, K].

    Raises:
        ValueError: for a batch that does not say which examples it holds.
    """
    if index is None:
        raise ValueError("the batch does not say which examples it holds, whose stored predictions Reduced MPL needs")
    stored = state.stored[name]
    chosen = stored.gather(-2, index[..., None].expand(*index.shape, stored.shape[-1]))
    return torch.log(chosen.clamp_min(torch.finfo(chosen.dtype).tiny))


def _reduced_step(state: State, batch: Batch, config: ReducedMpl) -> dict[str, Tensor]:
    """Algorithm 1 with T' in place of T; see `mpl.step`."""
    reduced, now = state.aides[REDUCED], state.step - config.teacher_steps
    predictions = [_stored(state, _STORED[0], batch.labelled_index), _stored(state, _STORED[1], batch.unlabelled_index)]
    logits = reduced.model(torch.cat(predictions, dim=-2))
    labelled_logits, pseudo_logits = torch.split(logits, [part.shape[-2] for part in predictions], dim=-2)

    targets = pseudo_label_targets(pseudo_logits.detach(), batch, config.mpl)
    h, metrics = student_step(state, batch, targets, config.mpl, now)

    loss = torch.zeros_like(labelled_logits[..., 0, 0]).detach()
    if config.mpl.teacher_supervised:
        loss = cross_entropy(labelled_logits, batch.labels, config.mpl.uda.label_smoothing).mean(dim=-1)
        metrics["teacher_labelled_loss"] = loss.detach()
    if h is not None:
        mpl_loss = feedback_loss(h, targets, pseudo_logits, config.mpl)
        if batch.probe:
            metrics["feedback_gradient_norm"] = norm(reduced.gradients(mpl_loss, retain_graph=True), reduced.lead)
        loss = loss + mpl_loss
    if loss.requires_grad:
        reduced.apply(reduced.gradients(loss), now)
    return metrics | pseudo_labels_wrong(targets, batch)

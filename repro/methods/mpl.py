"""Meta Pseudo Labels: Pham et al. 2021, arXiv 2003.10580, Algorithm 1, Eqs. 6 to 12, Appendices A to C.

    paper                       here                     shape
    x_l, y_l                    batch.labelled, .labels  [*lead, B, *E], [*lead, B]
    x_u                         batch.weak, .strong      [*lead, U, *E]
    T(x; theta_T)               *_logits of the teacher  [*lead, N, K]
    y^_u ~ T(x_u; theta_T)      targets                  [*lead, U, K], one-hot unless soft
    theta_S, theta_S'           before, student          the student before and after its step
    eta_S                       rate                     a number
    h                           h                        [*lead], or [*lead, U(, K)] for each example (and class)

`lead` is () for one run, (R,) for R runs stacked. Each disputed choice is a field of `Mpl`, by name. Steps 2 and 3 are
written out in `student.py` and `feedback.py`, what the teacher sees and learns in `teacher.py`.
"""

from __future__ import annotations

from torch import Tensor

from repro.methods import Mpl
from repro.methods.feedback import held_scale, initial_memory
from repro.methods.state import Batch, BuildModel, State, new_learner
from repro.methods.student import feedback_loss, pseudo_label_targets, pseudo_labels_wrong, student_step
from repro.methods.teacher import teacher_logits, teacher_loss
from repro.optim.vectors import norm
from repro.settings import Optim, View


def init(build: BuildModel, config: Mpl, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """A teacher and a student that start from different weights, and the memory of past feedback."""
    learners = {role: new_learner(role, build, optim, steps, lead) for role in ("teacher", "student")}
    device = learners["student"].parameters[0].device
    return State(learners, memory=initial_memory(config, lead, device))


def step(state: State, batch: Batch, config: Mpl) -> dict[str, Tensor]:
    """One step of student and teacher; the lines stand in Algorithm 1's order."""
    teacher = state.learners["teacher"]

    # The teacher sees everything once; its loss is complete when the student has answered.
    labelled_logits, weak_logits, strong_logits = teacher_logits(teacher, batch, config)
    pseudo_logits = strong_logits if config.pseudo_label_view is View.strong else weak_logits

    # 1. Pseudo labels y^_u ~ T(x_u; theta_T).
    targets = pseudo_label_targets(pseudo_logits.detach(), batch, config)

    # 2. The student's step theta_S' = theta_S - eta_S grad CE(y^_u, S(x_u; theta_S)).
    # 3. The student's feedback h (Eq. 12, or another form of it).
    h, metrics = student_step(state, batch, targets, config, state.step)

    # 4. The teacher's feedback loss h * CE(y^_u, T(x_u; theta_T)), with the same pseudo labels.
    # 5. Its supervised loss and its UDA loss, or others in their place; then its step on the sum of all.
    loss, teacher_metrics = teacher_loss(labelled_logits, weak_logits, strong_logits, batch, state.step, config)
    if h is not None:
        mpl_loss = feedback_loss(h, targets, pseudo_logits, config)
        if config.feedback_share:
            scale = held_scale(teacher, loss, mpl_loss, config, state.memory, state.step)
            metrics["feedback_scale"], mpl_loss = scale, scale * mpl_loss
        if batch.probe:
            metrics["feedback_gradient_norm"] = norm(teacher.gradients(mpl_loss, retain_graph=True), teacher.lead)
            if loss.requires_grad:
                metrics["other_gradient_norm"] = norm(teacher.gradients(loss, retain_graph=True), teacher.lead)
        loss = loss + mpl_loss
    if loss.requires_grad:
        teacher.apply(teacher.gradients(loss), state.step)

    state.step += 1
    return metrics | teacher_metrics | pseudo_labels_wrong(targets, batch)

"""How good h is along training: is it lost in noise, and does it point where an oracle's would?

"Feedback had no effect" can mean that it was too small, too noisy, or pointed nowhere. Its size is logged while a run
trains (`feedback_gradient_norm` beside `other_gradient_norm`); the other two are measured here, on the weights of each
snapshot. All is to first order in the student's rate (paper, Eq. 12), in which every form of h agrees.

With h[i, k] the feedback that class k would have earned as the pseudo label of example i, p the teacher's distribution,
G the gradient of its feedback loss for one draw of the U pseudo labels (Algorithm 1: one h for the batch):

    E G = -(1/U) grad mean_i sum_k p[i, k] h[i, k]        (Appendix A, h constant)
    signal-to-noise = |E G| / sqrt(E |G|^2 - |E G|^2)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repro.config import Config
from repro.data.sets import Seeds
from repro.engine.device import choose_device
from repro.losses import cross_entropy, probabilities, soft_cross_entropy
from repro.methods import Mpl, mpl
from repro.methods.feedback import labelled_loss, slope_of_log_probabilities
from repro.methods.state import Batch, logits_of
from repro.models.layers import frozen_statistics
from repro.optim import Learner, cosine, norm
from repro.train.batches import Batches
from repro.train.loop import initial_state

BATCHES, DRAWS, ORACLE = 4, 8, 512
"""Batches looked at; draws of the pseudo labels of each; unlabelled examples with their labels that an oracle learns
from, drawn anew for each batch."""


class FeedbackProbe:
    """Measures h of one run of MPL with known classes, or of R stacked ones, on the weights of its snapshots."""

    def __init__(self, config: Config, seeds: Seeds) -> None:
        assert isinstance(config.method, Mpl)  # noqa: S101 - the settings' rules see to it
        self._config = config.method
        device = choose_device()
        self._batches = Batches(config, config.method.views, seeds, device)
        self._streams, self._state = self._batches.streams, initial_state(config, seeds, device)

    def at(self, step: int, networks: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """Means over `BATCHES` batches of this step and the next ones, each [*lead]; NaN where none can be measured.

        "signal_to_noise" is of one batch's feedback gradient over resampled pseudo labels; "signal_to_noise_baseline"
        the same of h less its expectation, the best that a baseline can do. "oracle_cosine" is between the expected
        feedback gradient and that of an oracle, whose h is computed on the true labels of other unlabelled examples;
        "oracle_cosine_drawn" the same of the gradient of one draw of the pseudo labels.
        """
        for role in ("teacher", "student"):
            self._state.learners[role].model.load_state_dict(networks[role])
        found = [self._of(self._batches.at(step + more), step + more) for more in range(BATCHES)]
        return {key: torch.stack([one[key] for one in found]).nanmean(dim=0) for key in found[0]}

    def _of(self, batch: Batch, step: int) -> dict[str, Tensor]:
        teacher, student = self._state.learners["teacher"], self._state.learners["student"]
        lead = teacher.lead
        with frozen_statistics(teacher.model):
            _, weak, strong = mpl.teacher_logits(teacher, batch, self._config)
        logits = strong if self._config.pseudo_label_view == "strong" else weak
        p = probabilities(logits.detach())

        def expected(h: Tensor) -> list[Tensor]:
            """U times E G, where h is [*lead, U, K]."""
            gain = (probabilities(logits) * h).sum(dim=-1).mean(dim=-1)
            return teacher.gradients(-gain, retain_graph=True)

        def h_of(direction: Sequence[Tensor]) -> Tensor:
            """h[i, k] for a rate of 1, [*lead, U, K]."""
            weights = [weight.detach() for weight in student.parameters]
            return -slope_of_log_probabilities(student, weights, direction, inputs, batch.draws)[..., : p.shape[-2], :]

        inputs = mpl.student_inputs(batch, self._config)
        own = student.gradients(labelled_loss(student, batch, with_gradient=True))
        h = h_of(own)
        signal, oracle = expected(h), expected(h_of(self._oracle(student, step)))
        mean_h = (p * h).sum(dim=-1).mean(dim=-1)
        size = norm(signal, lead) / p.shape[-2]
        squares = {"": torch.zeros_like(size), "_baseline": torch.zeros_like(size)}
        drawn_cosine = torch.zeros_like(size)
        for draw in range(DRAWS):
            targets = mpl.sampled(p, self._streams.uniform(f"pseudo label again {draw}", step, (p.shape[-2],)))
            loss = soft_cross_entropy(logits, targets).mean(dim=-1)
            slope = teacher.gradients(loss, retain_graph=True)
            one_h, length = (h * targets).sum(dim=-1).mean(dim=-1), norm(slope, lead)
            squares[""] += (one_h * length) ** 2 / DRAWS
            squares["_baseline"] += ((one_h - mean_h) * length) ** 2 / DRAWS
            drawn_cosine += one_h.sign() * cosine(slope, oracle, lead) / DRAWS
        found = {f"signal_to_noise{which}": _ratio(size, square) for which, square in squares.items()}
        return found | {"oracle_cosine": cosine(signal, oracle, lead), "oracle_cosine_drawn": drawn_cosine}

    def _oracle(self, student: Learner, step: int) -> list[Tensor]:
        """The gradient of the student's loss on true labels of unlabelled examples."""
        count = self._batches.data.hidden_labels.shape[-1]
        index = self._streams.permutation("oracle", step, count)[..., : min(ORACLE, count)]
        batch = self._batches.of(self._batches.order(step)[0], index, step)
        with frozen_statistics(student.model):
            logits = logits_of(student, [batch.weak], batch.draws, "oracle dropout")
        return student.gradients(cross_entropy(logits, batch.hidden_labels).mean(dim=-1))


def _ratio(size: Tensor, square: Tensor) -> Tensor:
    """|E G| / sqrt(E |G|^2 - |E G|^2); NaN where all draws gave the same labels: the rest is rounding."""
    noise = square - size**2
    return torch.where(noise > 1e-6 * size**2, size / noise.clamp_min(0).sqrt(), torch.nan)

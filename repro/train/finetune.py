"""The student's last stage: a few steps on the labelled images alone (paper, section 2 and Appendix C)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from repro.data.sets import Order
from repro.engine.agreement import Pace
from repro.losses import cross_entropy
from repro.optim.learner import Learner
from repro.train.calls import Stopped
from repro.train.finite import not_finite
from repro.train.loop import Trainer
from repro.train.metrics import NotFinite


def finetune(trainer: Trainer, stop: Callable[[], bool] = lambda: False) -> dict[str, Tensor]:
    """Weights of the counted network after plain gradient descent at a fixed rate; the trainer's own stay as they are.

    Starts from the averaged weights where there are any. The network is in evaluation mode: running statistics, no
    dropout. Several processes each compute the same, from the whole batch.

    Raises:
        Stopped: when `stop`, asked after each step, says so; it starts over the next time.
        NotFinite: when a weight has become NaN or infinite.
    """
    config, steps_before = trainer.config.finetune, trainer.config.budget.steps
    source: Learner = trainer.state.learners[trainer.method.COUNTED]
    kept = {k: v.detach().clone() for k, v in source.model.state_dict().items()}
    source.model.load_state_dict(source.average or kept)
    source.model.eval()
    count = trainer.data.labels.shape[-1]
    order = Order(trainer.streams, "finetuning order", count, config.batch)
    pace = Pace(trainer.world)
    for step in range(config.steps):
        index = order.at(step)
        images, labels = trainer.batches.labelled_alone(index, steps_before + step)
        loss = cross_entropy(source.model(images), labels).mean(dim=-1)
        gradients = source.gradients(loss)
        with torch.no_grad():
            torch._foreach_add_(source.parameters, gradients, alpha=-config.learning_rate)
        if any(pace.wanted([stop()], last=step + 1 == config.steps)):
            raise Stopped
    tuned = {k: v.detach().clone().cpu() for k, v in source.model.state_dict().items()}
    source.model.load_state_dict(kept)
    source.model.train()
    bad = not_finite(tuned)
    if bad:
        raise NotFinite(
            f"finetuning made {bad[0]} NaN or infinite; lower finetune.learning_rate = {config.learning_rate}"
        )
    return tuned

"""Table 9 on real images, a few steps of small networks: MPL as a regulariser, and the supervised rows beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from repro.config import Config
from repro.plan import compose
from repro.train.loop import Trainer, finetune
from tests.tiny import CPU, all_weights, assert_same, trained

ROOT = Path(__file__).parent.parent / "experiments"
LABELS = 60

pytestmark = pytest.mark.usefixtures("cifar10_workplace")


def small(name: str, images: int) -> Config:
    """An experiment over 8 steps, with 60 labels among the first `images` records, of which the split drops 5,000."""
    return compose(
        name,
        [f"data.labels={LABELS}", f"data.train_images={images}", "budget.shortened_to=8", "budget.labelled_batch=20",
         "budget.unlabelled_batch=20", "model.depth=10", "model.width=1", "engine.precision=float32",
         "finetune.batch=6", "finetune.steps=2", "engine.channels_last=false", "optim.student.warmup_steps=0",
         "optim.teacher.warmup_steps=0"],
        ROOT,
    )  # fmt: skip


def pixels(images: Tensor) -> set[bytes]:
    """Each image as bytes."""
    return {image.numpy().tobytes() for image in images}


def test_mpl_as_regulariser_trains_on_the_labelled_images_alone() -> None:
    """Unlabelled images are the labelled ones in other batches, seen as weak views; feedback reaches the teacher."""
    trainer = Trainer(small("cifar10_paper_mpl_regulariser", 5000 + LABELS), 0, CPU)

    assert LABELS == len(pixels(trainer.data.unlabelled))
    assert pixels(trainer.data.labelled) == pixels(trainer.data.unlabelled)
    batch = trainer.batch(0, probe=True)
    assert batch.labels.tolist() != batch.hidden_labels.tolist()
    metrics = trainer.method.step(trainer.state, batch, trainer.config.method)
    assert "uda_loss" not in metrics
    assert float(metrics["feedback_gradient_norm"]) > 0
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())
    assert all(bool(torch.isfinite(value).all()) for value in finetune(trainer).values())


def test_supervised_learning_does_not_see_which_images_are_unlabelled() -> None:
    """On the regulariser's data it is the same network, bit for bit, as in its own run; smoothing makes another."""
    own = trained(small("cifar10_paper_supervised", 5600))
    alone = trained(small("cifar10_paper_supervised_alone", 5000 + LABELS))
    smoothed = trained(small("cifar10_paper_supervised_smoothing", 5000 + LABELS))

    assert_same(all_weights(own), all_weights(alone))
    with pytest.raises(AssertionError):
        assert_same(all_weights(alone), all_weights(smoothed))

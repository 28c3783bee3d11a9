"""Training on real images: every arm of the cross-examination for some steps on images of CIFAR-10."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from repro.config import Config
from repro.plan import compose, run_names
from repro.train.loop import Trainer, finetune
from tests.recording import Watch
from tests.tiny import CPU, all_weights, assert_same, trained

ROOT = Path(__file__).parent.parent / "experiments"
RELEASED, PAPER = "cifar10_released_", "cifar10_paper_"
TEACHERS = ("mpl", "mixup", "randaugment", "mpl_pseudo_label", "mpl_mixup", "mpl_randaugment")
ARMS = {name.removeprefix(RELEASED): name for name in run_names(ROOT) if name.startswith(RELEASED)} | {
    f"paper_{arm}": f"{PAPER}{arm}" for arm in TEACHERS
}
"""All of the released setting, and MPL and Table 10's other teachers in the paper's: short name to run."""
STEPS = 8
pytestmark = pytest.mark.usefixtures("cifar10_workplace")


@cache
def settings(arm: str, *changes: str) -> Config:
    """An arm with a small network, over a few steps."""
    steps = STEPS * (2 if arm == "pseudo_label" else 1)
    images = 5600 if arm.startswith("paper_") else 600  # the paper's split drops 5,000
    smaller = ["model.depth=10", "model.width=1", "engine.precision=float32", "engine.channels_last=false",
               "budget.labelled_batch=6", "budget.unlabelled_batch=8", f"data.train_images={images}", "data.labels=60",
               "finetune.batch=6"]  # fmt: skip
    if arm == "mpl" or arm.startswith("paper_mpl"):
        smaller += ["finetune.steps=20", "finetune.learning_rate=1.0e-5"]
    if arm == "paper_mpl_pseudo_label":  # so early no confidence reaches the paper's 0.95
        smaller.append("method.teacher_pseudo_label.threshold=0.3")
    # Wait, warm-up and ramp are longer than released, so that each takes two of so few steps.
    slow = 12_500 if arm in {"paper_mixup", "paper_randaugment"} else 75_000  # of 50,000 steps, else of 300,000 or more
    slower = [f"optim.{key}={slow}" for key in ("student.warmup_steps", "teacher.warmup_steps")]
    slower += [f"optim.student.wait_steps={slow}"] if "mpl" in arm else []
    if arm == "uda" or arm.startswith("mpl"):
        slower.append(f"method.{'' if arm == 'uda' else 'uda.'}ramp_steps=100000")
    few = [f"budget.shortened_to={steps}", "budget.log_every=1", "budget.snapshots=2"]
    return compose(ARMS[arm], [*smaller, *slower, *few, *changes], ROOT)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_without_waiting_and_the_same_twice(arm: str, tmp_path: Path) -> None:
    """Steps are finite, identical when run again, and ask the device for nothing between two rows of the log."""
    config = settings(arm)
    first, second = (Trainer(config, 0, CPU) for _ in range(2))
    first.run(tmp_path / "state")
    with Watch(copies=True) as watch:
        for step in range(config.budget.steps):
            second.method.step(second.state, second.batch(step, probe=True), config.method)

    assert config.budget.steps == first.state.step
    assert_same(all_weights(first), all_weights(second))
    assert "convolution" in watch.names


def seen(arm: str, step: int) -> dict[str, Tensor]:
    """What a step of an arm looks at."""
    trainer = Trainer(settings(arm), 0, CPU)
    batch = trainer.batch(step)
    views = {"labelled": batch.labelled, "labels": batch.labels}
    for view in trainer.config.method.views:
        views |= {view.value: getattr(batch, view.value), "hidden": batch.hidden_labels}
    return views


def test_arms_of_a_seed_see_the_same_batches() -> None:
    """Same labelled images, unlabelled images and views at every step, whatever the method; another step, others."""
    whole = seen("mpl", 3)

    for arm in ARMS:
        if arm == "mpl_labelled_apart":  # its unlabelled images are others
            continue
        same = seen("paper_mpl", 3) if arm.startswith("paper_") else whole  # so are those of the paper's split
        assert_same({key: same[key] for key in seen(arm, 3)}, seen(arm, 3))
    assert not torch.equal(whole["weak"], seen("mpl", 4)["weak"])
    assert not torch.equal(whole["weak"], seen("mpl_labelled_apart", 3)["weak"])


def everything(trainer: Trainer) -> Tensor:
    """All weights of all networks, one vector."""
    learners = trainer.state.learners.values()
    return torch.cat([parameter.detach().flatten() for learner in learners for parameter in learner.parameters])


@pytest.mark.parametrize("arm", ["supervised", "pseudo_label", "mpl", "mpl_released"])
@pytest.mark.parametrize(("change", "bound"), [("channels_last=true", 0.01), ("precision=bfloat16", 0.15)])
def test_fast_settings_take_the_same_steps(change: str, bound: float, arm: str) -> None:
    """How far the weights go, and where, in each of four steps: but for rounding as in plain float32.

    Each step starts from the saved state of the plain one, so that rounding is not amplified from step to step. A fixed
    teacher hands over to its student on the way. A sum in another order differs by about 1e-6; where an image is flat,
    though, whole areas lie on the kink of the activation, and rounding chooses the slope. bfloat16 keeps 3 digits of
    each activation.
    """
    slow = ("engine.precision=float32", "engine.channels_last=false")
    plain, fast = (Trainer(settings(arm, *changes), 0, CPU) for changes in (slow, (*slow, f"engine.{change}")))
    plain.state.step = STEPS - 2 if arm == "pseudo_label" else STEPS // 2 - 1
    for _ in range(4):
        fast.state.load_state_dict(plain.state.state_dict(), plain.state.step)
        before = everything(plain)
        plain.advance()
        fast.advance()

        apart, way = (everything(fast) - everything(plain)).norm(), (everything(plain) - before).norm()
        assert float(apart) <= bound * float(way)
    assert not torch.equal(everything(fast), everything(plain)) or not float(way)


# Table 9: MPL as a regulariser, and the supervised rows beside it


LABELS = 60


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

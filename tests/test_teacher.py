"""Meta Pseudo Labels' teacher besides its feedback: the view of its labels, and pseudo labels of its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from repro.augment import views
from repro.augment.views import Part
from repro.data import Cifar10Data, source_of
from repro.methods import Feedback, Mpl, SelfTraining, Supervised, mpl
from repro.methods.mpl import teacher_logits
from repro.methods.supervised import labelled_inputs
from repro.seeding import Streams
from repro.settings import View
from repro.train.loop import Trainer
from tests.tiny import CPU, TinyNet, settings, tiny_batch, tiny_state, weights

PIXELS = torch.randint(256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
OWN = "strong labelled view"


def test_a_batch_has_the_strong_view_only_where_it_is_learned_from() -> None:
    """Asking for what is not there is refused; the plain labelled view is there in any case, and the same."""
    plain = Trainer(settings("digits", {"name": "supervised"}), 0, CPU).batch(3)
    strong = Trainer(settings("digits", {"name": "mpl", "teacher_labelled_view": "strong"}), 0, CPU).batch(3)

    assert plain.strong_labelled is None
    assert torch.equal(plain.labelled, strong.labelled)
    assert strong.strong_labelled is labelled_inputs(strong, View.strong, 0.0)
    with pytest.raises(ValueError, match="no strong view of its labelled examples"):
        labelled_inputs(plain, View.strong, 0.0)
    assert [View.strong, View.weak, View.weak] == [
        method.learned_view for method in (Supervised(labelled_view=View.strong), Supervised(), Mpl())
    ]


@pytest.mark.parametrize("view", list(View))
def test_the_teacher_s_own_pseudo_labels_by_plain_functions(view: View) -> None:
    """Its confident argmax on the weak view is its label there, held constant; the loss is over all examples."""
    model, batch = TinyNet(1), tiny_batch(4)
    batch = type(batch)(**vars(batch) | {"strong": batch.weak.flip(1)})
    confidence, labels = model(batch.weak).softmax(-1).detach().max(-1)
    threshold = float(confidence.sort().values[2])  # two of four pass
    own = SelfTraining(weight=2.0, threshold=threshold, ramp_steps=4)
    config = Mpl(feedback=Feedback.none, teacher_pseudo_label=own, pseudo_label_view=view)
    losses = functional.cross_entropy(model(batch.weak), labels, reduction="none")
    loss = functional.cross_entropy(model(batch.labelled), batch.labels)
    loss = loss + 2.0 * 3 / 4 * losses[confidence >= threshold].sum() / 4
    state = tiny_state(config)
    state.step = 3  # of a ramp of 4
    before = weights(state, "teacher")

    metrics = mpl.step(state, batch, config)

    assert 0.5 == float(metrics["teacher_mask_rate"])
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for b, a, e in zip(before, weights(state, "teacher"), expected, strict=True):
        torch.testing.assert_close(b - a, e, rtol=0, atol=1e-13)  # float64 rounding


def test_a_teacher_passes_the_views_that_its_losses_need() -> None:
    """One view of the unlabelled examples where one is enough, both where its own labels are made on the other."""
    batch = tiny_batch(4)
    batch = type(batch)(**vars(batch) | {"strong": batch.weak.flip(1)})
    config = Mpl(teacher_pseudo_label=SelfTraining(weight=1.0))
    teacher = tiny_state(config).learners["teacher"]

    _, weak, strong = teacher_logits(teacher, batch, config)
    _, only, same = teacher_logits(teacher, batch, Mpl(pseudo_label_view=View.weak))

    torch.testing.assert_close(weak, teacher.model(batch.weak), rtol=0, atol=1e-14)
    torch.testing.assert_close(strong, teacher.model(batch.strong), rtol=0, atol=1e-14)
    assert only is same
    assert {View.weak, View.strong} == config.views


def test_the_strong_labelled_view_is_randaugment_of_the_labelled_view() -> None:
    """By hand: `apply_strong` on the flipped and cropped labelled images, drawn from streams of its own."""
    data, streams = Cifar10Data(), Streams(2)
    source = source_of(data)
    weak = views.apply_crop(PIXELS, views.draw_crop(streams, "labelled view", 5, 16, data.views), data.views)
    strong = views.apply_strong(weak, views.draw_strong(streams, 5, 16, data.views, OWN), data.views)
    as_unlabelled = views.apply_strong(weak, views.draw_strong(streams, 5, 16, data.views), data.views)

    assert torch.equal(source.to_input(strong), source.strong_labelled_view(PIXELS, Part(streams, 5)))
    assert torch.equal(source.to_input(weak), source.labelled_view(PIXELS, Part(streams, 5)))
    assert not torch.equal(strong, as_unlabelled)

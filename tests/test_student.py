"""What measuring the student's feedback must leave alone, what its loss is made of, and the teacher's other losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from repro.augment import views
from repro.augment.views import Part
from repro.data import Cifar10Data, source_of
from repro.methods import Feedback, Mpl, PseudoLabel, PseudoLabelMethod, SelfTraining, Supervised, mpl
from repro.methods import pseudo_label as fixed
from repro.methods.mpl import teacher_logits
from repro.methods.state import Batch
from repro.methods.supervised import labelled_inputs
from repro.seeding import Streams
from repro.settings import Optim, Optimiser, Schedule, View
from repro.train.loop import Trainer
from tests.tiny import CPU, TinyNet, feedback_only, settings, teacher_gradient, tiny_batch, tiny_state, weights

FORMS = ["finite_difference", "dot_product", "cosine"]


def first_step(
    form: str, steps: int = 1, method: dict[str, Any] | None = None, **changes: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The student, and the metrics, after the first steps on digits, with batch norm and dropout of 0.2."""
    own = {"name": "mpl", "feedback": form, "feedback_weight": 0.0} | (method or {})
    trainer = Trainer(settings("digits", own, **changes), 0, CPU)
    for step in range(steps):
        metrics = trainer.method.step(trainer.state, trainer.batch(step), trainer.config.method)
    return trainer.state.learners["student"].state_dict(), metrics


def test_a_student_that_stays_has_no_feedback() -> None:
    """At rate 0 h is 0 to the bit: both labelled losses have the same images, statistics and dropout."""
    assert 0.0 == float(first_step("finite_difference", optim__student__wait_steps=5)[1]["feedback"])


def test_the_noise_floor_is_what_h_would_be_had_the_student_not_moved() -> None:
    """With the released batch, the loss before the step is of another batch norm than that after it, whatever moved."""
    released = {"feedback_batch_norm": "released"}
    stays = first_step("finite_difference", method=released, optim__student__wait_steps=5)[1]
    moves = first_step("finite_difference", method=released)[1]

    assert abs(float(stays["feedback"])) > 1e-3
    torch.testing.assert_close(moves["noise_floor"], stays["feedback"], rtol=0, atol=1e-6)  # float32 rounding
    assert abs(float(moves["noise_floor"] - moves["feedback"])) > 1e-3


def test_teacher_and_student_have_dropout_of_their_own() -> None:
    """Of no example do the two networks leave out the same features by the same numbers."""
    trainer, seen = Trainer(settings("digits", {"name": "mpl"}), 0, CPU), {}
    for role, learner in trainer.state.learners.items():
        learner.model.register_forward_pre_hook(lambda _, given, role=role: seen.setdefault(role, []).append(given[1]))

    trainer.method.step(trainer.state, trainer.batch(0), trainer.config.method)

    rows = {role: torch.cat(noises) for role, noises in seen.items()}
    assert not bool((rows["teacher"][:, None] == rows["student"][None]).all(dim=-1).any())


def test_h_is_by_the_scheduled_rate() -> None:
    """In the first of two steps of warm-up h is that of half the rate, in every form that multiplies by the rate."""
    for form, label in (("dot_product", "sampled"), ("exact", "soft")):
        method = {"pseudo_label": label}
        warming = first_step(form, method=method, optim__student__warmup_steps=2, optim__student__learning_rate=0.2)[1]
        constant = first_step(form, method=method, optim__student__learning_rate=0.1)[1]
        assert abs(float(constant["feedback"])) > 1e-4
        torch.testing.assert_close(warming["feedback"], constant["feedback"])


def test_labelled_loss_is_that_of_training() -> None:
    """The loss behind h is of the labelled images by themselves, normalised by their own batch, with dropout."""
    trainer, other = (Trainer(settings("digits", {"name": "mpl"}), 0, CPU) for _ in range(2))
    batch, model = trainer.batch(0), other.state.learners["student"].model
    noise = batch.draws.uniform("student labelled dropout", (len(batch.labels), 4))
    expected = functional.cross_entropy(model.train()(batch.labelled, noise), batch.labels).detach()

    metrics = trainer.method.step(trainer.state, trainer.batch(0, probe=True), trainer.config.method)

    torch.testing.assert_close(metrics["student_labelled_loss"], expected)


@pytest.mark.parametrize("form", FORMS)
def test_measuring_feedback_leaves_the_student_alone(form: str) -> None:
    """Weights, momentum and batch-norm statistics after a step are those without any feedback, bit for bit."""
    without, measured = first_step("none")[0], first_step(form)[0]

    assert [] == [key for key, value in without.items() if not torch.equal(value, measured[key])]


@pytest.mark.parametrize("form", [Feedback.dot_product, Feedback.exact])
def test_feedback_weighs_examples_by_their_mean(form: Feedback) -> None:
    """Every unlabelled example twice leaves the teacher's feedback gradient as it was."""
    label = PseudoLabel.soft if form is Feedback.exact else PseudoLabel.argmax
    config, once = feedback_only(feedback=form, pseudo_label=label), tiny_batch(3)
    twice = Batch(**vars(once) | {key: torch.cat([vars(once)[key]] * 2) for key in ("weak", "strong", "hidden_labels")})
    gradients = [teacher_gradient(tiny_state(config), batch, config) for batch in (once, twice)]

    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-4
    for single, double in zip(*gradients, strict=True):
        torch.testing.assert_close(double, single, rtol=0, atol=1e-12)  # float64 rounding


@pytest.mark.parametrize("student_view", list(View))
@pytest.mark.parametrize("labelled", list(View))
@pytest.mark.parametrize("uda", [0.0, 1.0])
def test_views_go_where_they_are_sent(student_view: View, labelled: View, uda: float) -> None:
    """The student learns from its view, with labels of the teacher's; also where UDA looks at both."""
    config = Mpl(pseudo_label=PseudoLabel.soft, pseudo_label_view=labelled, student_view=student_view)
    config.uda.weight = uda
    batch = tiny_batch(4)
    views = {View.weak: batch.weak, View.strong: batch.weak.flip(1)}
    batch = Batch(**vars(batch) | {"strong": views[View.strong]})
    state = tiny_state(config)
    student = state.learners["student"]
    targets = state.learners["teacher"].model(views[labelled]).softmax(-1).detach()
    gradient = student.gradients(functional.cross_entropy(student.model(views[config.student_view]), targets))
    before = weights(state, "student")

    mpl.step(state, batch, config)

    for b, a, g in zip(before, weights(state, "student"), gradient, strict=True):
        torch.testing.assert_close(b - a, 0.1 * g, rtol=0, atol=1e-13)  # float64 rounding


def test_a_fixed_teacher_is_fixed() -> None:
    """Once its steps are over the teacher's weights and batch-norm statistics stay, bit for bit."""
    config = settings("digits", {"name": "pseudo_label", "teacher_steps": 2})
    trainer = Trainer(config, 0, CPU)
    states = []
    for step in range(4):
        fixed.step(trainer.state, trainer.batch(step), trainer.config.method)  # type: ignore[arg-type]
        states.append({k: v.clone() for k, v in trainer.state.learners["teacher"].state_dict().items()})

    assert all(torch.equal(value, states[3][key]) for key, value in states[1].items())
    assert not all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_both_networks_of_fixed_pseudo_labels_have_a_whole_schedule() -> None:
    """Of ten steps the teacher has half a cosine over its four, and the student one over the other six."""
    cosine = Optimiser(learning_rate=1.0, schedule=Schedule.cosine)
    state = fixed.init(
        lambda _: TinyNet(1), PseudoLabelMethod(teacher_steps=4), Optim(student=cosine, teacher=cosine), 10, ()
    )
    rates: dict[str, list[float]] = {"teacher": [], "student": []}
    for role, learner in state.learners.items():
        rate_of = learner.learning_rate
        learner.learning_rate = lambda step, role=role, rate_of=rate_of: (
            rates[role].append(rate_of(step)) or rates[role][-1]
        )

    for _ in range(10):
        fixed.step(state, tiny_batch(4), PseudoLabelMethod(teacher_steps=4))

    for role, steps in (("teacher", 4), ("student", 6)):
        assert rates[role] == pytest.approx([(1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)])


# The teacher's other losses


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

"""The settings of each method, and the module of its step by name. This file needs no torch.

A method's file, `repro.methods.<name>`, has `init(build, config, optim, steps, lead) -> State` and
`step(state, batch, config) -> metrics`, tensors [*lead] on the device. Every disputed choice of Meta Pseudo Labels is a
setting with a name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from repro.settings import (
    MixupStrength,
    Probability,
    Range,
    Share,
    ShareBelowOne,
    Steps,
    StepsAtLeastOne,
    Switch,
    View,
    Weight,
    settings,
)

_UNLABELLED_VIEWS = frozenset({View.weak, View.strong})


class MethodSettings:
    """What the rest of the project asks the settings of any method."""

    networks: ClassVar[tuple[str, ...]] = ("teacher",)
    """The networks that it trains, by role; the accuracy of the last one counts as the method's."""

    name: str

    @property
    def views(self) -> frozenset[View]:
        """The views of unlabelled examples that a step looks at."""
        return _UNLABELLED_VIEWS

    @property
    def learned_view(self) -> View:
        """The view of the labelled examples that the teacher, or the only network, learns from."""
        return View.weak

    @property
    def fixed_teacher_steps(self) -> int:
        """Steps of a teacher that is then fixed; its student starts after them. 0 for no such phase."""
        return 0

    def shortened(self, factor: float) -> Self:
        """The same method for training that is `factor` times as long."""
        return self

    def while_planting(self) -> Self:
        """The method in the first steps of a run that plants wrong labels (`Plant`), the same for all its arms."""
        return self

    def problems(self, config: Any) -> Iterator[str]:
        """Settings that exclude each other or others of a `Config`, each as key, value, remedy."""
        return iter(())

    def measures(self, step: int) -> bool:
        """Whether this step takes additional measurements; such a step is not recorded."""
        return False


class PseudoLabel(StrEnum):
    """How the teacher's prediction becomes the student's target."""

    sampled = "sampled"  # a class drawn from the teacher's distribution (paper, Algorithm 1)
    argmax = "argmax"  # the teacher's most likely class
    soft = "soft"  # the teacher's distribution itself (released code)


class Feedback(StrEnum):
    """The form of h, by which the student teaches the teacher.

    All but `none` are positive when learning the pseudo label lowered the labelled loss.
    """

    dot_product = "dot_product"  # lr * <grad at the new student, grad at the old student> (Eq. 12)
    cosine = "cosine"  # the cosine of the two gradients (Appendix C.3)
    finite_difference = "finite_difference"  # labelled loss before the student's step - after it
    exact = "exact"  # every class of every example, weighted by the teacher's probability: no sampling at all
    shuffled = "shuffled"  # finite_difference of a random earlier step: the right size, no information
    none = "none"  # h = 0


class FeedbackSign(StrEnum):
    """The sign of h as it enters the teacher's loss."""

    old_minus_new = "old_minus_new"  # the paper's derivation: a helpful label becomes more likely
    new_minus_old = "new_minus_old"  # the released code's sign; with hard labels it reverses the derivation


class FeedbackScope(StrEnum):
    """Which pseudo labels share one h."""

    batch = "batch"  # one h for the whole unlabelled batch (paper, Algorithm 1)
    example = "example"  # one h for each pseudo label, to first order


class Baseline(StrEnum):
    """What is subtracted from h."""

    none = "none"  # nothing (Algorithm 1)
    moving_average = "moving_average"  # its moving average (Appendix C.3, released code)


class BatchNormBatch(StrEnum):
    """Which batch normalises the labelled images when the loss *before* the student's step is measured.

    With `released` the student's step and its running statistics come from that joint batch too.
    """

    matched = "matched"  # the labelled batch alone, as for the loss after the step, with the same dropout mask
    released = "released"  # labelled and unlabelled images together: the released code, unlike the loss after


@settings
class Supervised(MethodSettings):
    """Cross-entropy on the labelled images."""

    name: Literal["supervised"] = "supervised"
    label_smoothing: ShareBelowOne = 0.0
    labelled_view: View = View.weak  # of the labelled images; strong: RandAugment, as for unlabelled ones
    mixup: MixupStrength = 0.0  # a of Mixup's Beta(a, a) (Zhang et al. 2018); 0 mixes nothing

    @property
    def views(self) -> frozenset[View]:
        """None: it looks at labelled examples only."""
        return frozenset()

    @property
    def learned_view(self) -> View:
        """As set."""
        return self.labelled_view


@settings
class PseudoLabelMethod(MethodSettings):
    """A teacher trained on labels, then fixed; a student trained on its confident argmax labels (Lee 2013)."""

    name: Literal["pseudo_label"] = "pseudo_label"
    teacher_steps: StepsAtLeastOne = 1000  # the first steps train the teacher, the remaining ones the student
    threshold: Probability = 0.0  # labels below this confidence are not used
    student_labels: Switch = True  # whether the student also learns from the labelled images
    label_smoothing: ShareBelowOne = 0.0

    networks: ClassVar[tuple[str, ...]] = ("teacher", "student")

    @property
    def views(self) -> frozenset[View]:
        """The weak one."""
        return frozenset({View.weak})

    @property
    def fixed_teacher_steps(self) -> int:
        """As set."""
        return self.teacher_steps

    def shortened(self, factor: float) -> Self:
        """Both phases shrink."""
        return replace(self, teacher_steps=max(1, round(self.teacher_steps * factor)))

    def problems(self, config: Any) -> Iterator[str]:
        """The student has steps."""
        if self.teacher_steps >= config.budget.steps:
            yield (f"method.teacher_steps = {self.teacher_steps}: leaves the student none of "
                   f"budget.steps = {config.budget.steps}")  # fmt: skip


@settings
class Uda(MethodSettings):
    """Unsupervised Data Augmentation (Xie et al. 2020): predictions must agree across views."""

    name: Literal["uda"] = "uda"
    weight: Weight = 1.0  # of the unlabelled loss
    ramp_steps: Steps = 0  # the weight rises linearly over these steps
    temperature: Annotated[float, Range(0.001, 1000)] = 1.0  # sharpens the weak view's prediction; < 1 is sharper
    threshold: Annotated[float, Range(0, 2, "above 1 masks everything")] = 0.0  # on the sharpened probability
    label_smoothing: ShareBelowOne = 0.0

    @property
    def views(self) -> frozenset[View]:
        """Both, unless their loss has no weight."""
        return _UNLABELLED_VIEWS if self.weight else frozenset()

    def shortened(self, factor: float) -> Self:
        """Its weight rises over a shorter ramp."""
        return replace(self, ramp_steps=round(self.ramp_steps * factor))


@settings
class FixMatch(MethodSettings):
    """FixMatch (Sohn et al. 2020): the weak view's confident argmax is the strong view's label."""

    name: Literal["fixmatch"] = "fixmatch"
    weight: Weight = 1.0
    threshold: Probability = 0.95
    label_smoothing: ShareBelowOne = 0.0


@settings
class SelfTraining:
    """A network learns its own confident argmax on the unlabelled images, which changes with it (Lee 2013)."""

    weight: Weight = 0.0  # of this loss; 0 leaves it out
    threshold: Probability = 0.95  # labels below this confidence are not used
    ramp_steps: Steps = 0  # the weight rises linearly over these steps


MEASURED_EVERY = 16
"""Steps between two measurements of the norms that `feedback_share` compares."""


@settings
class Mpl(MethodSettings):
    """Meta Pseudo Labels. Defaults follow Algorithm 1 of the paper; each disputed choice is a field."""

    name: Literal["mpl"] = "mpl"
    pseudo_label: PseudoLabel = PseudoLabel.sampled
    feedback: Feedback = Feedback.dot_product
    feedback_sign: FeedbackSign = FeedbackSign.old_minus_new
    feedback_scope: FeedbackScope = FeedbackScope.batch
    feedback_weight: Weight = 1.0  # multiplies h in the teacher's loss
    feedback_share: Annotated[float, Range(0.0001, 100, "0 leaves h as it is", or_zero=True)] = 0.0
    """Above 0: h is scaled so that the norm of its gradient is this share of that of the teacher's other terms."""
    baseline: Baseline = Baseline.none
    baseline_rate: Share = 0.01  # of the moving average (released: 1 - 0.99)
    pseudo_label_view: View = View.strong  # what the teacher labels (released: strong)
    student_view: View = View.strong  # what the student learns from (released: strong)
    feedback_batch_norm: BatchNormBatch = BatchNormBatch.matched
    teacher_supervised: Switch = True  # whether the teacher also learns from the labels
    teacher_labelled_view: View = View.weak  # of the labelled images in the teacher's loss; h sees the weak one
    teacher_mixup: MixupStrength = 0.0  # a of Mixup's Beta(a, a) in the teacher's labelled loss; 0 mixes nothing
    teacher_pseudo_label: SelfTraining = field(default_factory=SelfTraining)
    uda: Uda = field(default_factory=lambda: Uda(weight=0.0))  # the teacher's other losses; weight 0 leaves UDA out
    student_label_smoothing: ShareBelowOne = 0.0  # of the student's loss on pseudo labels
    shuffle_window: Annotated[int, Range(1, 1_000_000)] = 256  # `shuffled` draws from the last so many steps

    networks: ClassVar[tuple[str, ...]] = ("teacher", "student")

    @property
    def teacher_views(self) -> frozenset[View]:
        """The views of unlabelled examples that the teacher passes through."""
        uda = _UNLABELLED_VIEWS if self.uda.weight else frozenset()
        own = {View.weak} if self.teacher_pseudo_label.weight else frozenset()
        return frozenset({self.pseudo_label_view}) | uda | own

    @property
    def views(self) -> frozenset[View]:
        """The teacher's and the student's."""
        return self.teacher_views | {self.student_view}

    @property
    def learned_view(self) -> View:
        """As set for the teacher."""
        return self.teacher_labelled_view

    @property
    def by_example(self) -> bool:
        """Whether h is a forward-mode derivative, with a value for each example."""
        single = self.feedback is Feedback.dot_product and self.feedback_scope is FeedbackScope.example
        return single or self.feedback is Feedback.exact

    def shortened(self, factor: float) -> Self:
        """The weights of the teacher's other losses rise over shorter ramps."""
        own = replace(self.teacher_pseudo_label, ramp_steps=round(self.teacher_pseudo_label.ramp_steps * factor))
        return replace(self, uda=self.uda.shortened(factor), teacher_pseudo_label=own)

    def while_planting(self) -> Self:
        """The teacher learns from labels and by consistency, the student from sampled labels; nothing is fed back."""
        return replace(
            self,
            feedback=Feedback.none,
            feedback_scope=FeedbackScope.batch,
            feedback_share=0.0,
            pseudo_label=PseudoLabel.sampled,
            teacher_supervised=True,
            teacher_mixup=0.0,
        )

    def problems(self, config: Any) -> Iterator[str]:
        """A form of h goes with its labels and its scope."""
        others = self.teacher_supervised or self.uda.weight or self.teacher_pseudo_label.weight
        if self.feedback_share and not others:
            yield (f"method.feedback_share = {self.feedback_share}: is a share of the teacher's other gradients, and "
                   "it has no other loss; set feedback_share to 0")  # fmt: skip
        if self.feedback_share and self.feedback_weight != 1:
            yield (f"method.feedback_weight = {self.feedback_weight}: method.feedback_share = {self.feedback_share} "
                   "decides how large feedback is; set feedback_weight to 1")  # fmt: skip
        if self.pseudo_label is PseudoLabel.soft and self.feedback_scope is FeedbackScope.example:
            yield ("method.feedback_scope = example: is for hard labels; "
                   "with method.pseudo_label = soft use method.feedback = exact")  # fmt: skip
        if self.feedback is Feedback.exact and self.pseudo_label is not PseudoLabel.soft:
            yield (f"method.feedback = exact: weighs all classes, so wants method.pseudo_label = soft, "
                   f"not {self.pseudo_label}")  # fmt: skip
        if self.feedback_scope is FeedbackScope.example and self.feedback not in (Feedback.dot_product, Feedback.none):
            yield (f"method.feedback = {self.feedback}: has no value for each example; "
                   f"method.feedback_scope = example goes with dot_product")  # fmt: skip
        if self.by_example and config.engine.precision != "float32" and config.data.shape != (2,):
            yield (f"engine.precision = {config.engine.precision}: h for each example (method.feedback = "
                   f"{self.feedback}, method.feedback_scope = {self.feedback_scope}) has no derivative in it; "
                   "use float32")  # fmt: skip

    def measures(self, step: int) -> bool:
        """The norms that `feedback_share` compares."""
        return self.feedback_share > 0 and step % MEASURED_EVERY == 0


Method = Annotated[Supervised | PseudoLabelMethod | Uda | FixMatch | Mpl, Field(discriminator="name")]


def method_of(config: MethodSettings) -> Any:
    """The module of a method: its `init` and `step`."""
    return importlib.import_module(f"repro.methods.{config.name}")

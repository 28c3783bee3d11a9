"""The settings of the methods. Every disputed choice of Meta Pseudo Labels is an option with a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
    shuffled = "shuffled"  # finite_difference, but that of a random earlier step: right size, no message
    none = "none"  # h = 0


class FeedbackSign(StrEnum):
    """The sign of h as it enters the teacher's loss."""

    old_minus_new = "old_minus_new"  # the paper's derivation: a helpful label becomes more likely
    new_minus_old = "new_minus_old"  # the released code's sign, with hard labels the reverse of the derivation


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


class View(StrEnum):
    """Which augmented view of the images."""

    weak = "weak"
    strong = "strong"


@dataclass
class Supervised:
    """Cross-entropy on the labelled images."""

    name: str = "supervised"
    label_smoothing: float = 0.0
    labelled_view: View = View.weak  # of the labelled images; strong: RandAugment, as for unlabelled ones
    mixup: float = 0.0  # a of Mixup's Beta(a, a) (Zhang et al. 2018); 0 mixes nothing


@dataclass
class PseudoLabelMethod:
    """A teacher trained on labels, then fixed; a student trained on its confident argmax labels (Lee 2013)."""

    name: str = "pseudo_label"
    teacher_steps: int = 1000  # the first steps train the teacher, the remaining ones the student
    threshold: float = 0.0  # labels below this confidence are not used
    student_labels: bool = True  # whether the student also learns from the labelled images
    label_smoothing: float = 0.0


@dataclass
class Uda:
    """Unsupervised Data Augmentation (Xie et al. 2020): agree with yourself across views."""

    name: str = "uda"
    weight: float = 1.0  # of the unlabelled loss
    ramp_steps: int = 0  # the weight rises linearly over these steps
    temperature: float = 1.0  # sharpens the weak view's prediction; < 1 is sharper
    threshold: float = 0.0  # on the sharpened probability; above 1 masks everything
    label_smoothing: float = 0.0


@dataclass
class FixMatch:
    """FixMatch (Sohn et al. 2020): the weak view's confident argmax is the strong view's label."""

    name: str = "fixmatch"
    weight: float = 1.0
    threshold: float = 0.95
    label_smoothing: float = 0.0


@dataclass
class SelfTraining:
    """A network's own confident argmax on the unlabelled images as its label (Lee 2013), moving with the network."""

    weight: float = 0.0  # of this loss; 0 leaves it out
    threshold: float = 0.95  # labels below this confidence are not used
    ramp_steps: int = 0  # the weight rises linearly over these steps


@dataclass
class Mpl:
    """Meta Pseudo Labels. Defaults follow Algorithm 1 of the paper; each disputed choice is a field."""

    name: str = "mpl"
    pseudo_label: PseudoLabel = PseudoLabel.sampled
    feedback: Feedback = Feedback.dot_product
    feedback_sign: FeedbackSign = FeedbackSign.old_minus_new
    feedback_scope: FeedbackScope = FeedbackScope.batch
    feedback_weight: float = 1.0  # multiplies h in the teacher's loss
    feedback_share: float = 0.0  # > 0: scales h so that its gradient has this share of the norm of the other terms'
    baseline: Baseline = Baseline.none
    baseline_rate: float = 0.01  # of the moving average (released: 1 - 0.99)
    pseudo_label_view: View = View.strong  # what the teacher labels (released: strong)
    student_view: View = View.strong  # what the student learns from (released: strong)
    feedback_batch_norm: BatchNormBatch = BatchNormBatch.matched
    teacher_supervised: bool = True  # whether the teacher also learns from the labels
    teacher_labelled_view: View = View.weak  # of the labelled images in the teacher's loss; h sees the weak one
    teacher_mixup: float = 0.0  # a of Mixup's Beta(a, a) in the teacher's labelled loss; 0 mixes nothing
    teacher_pseudo_label: SelfTraining = field(default_factory=SelfTraining)
    uda: Uda = field(default_factory=lambda: Uda(weight=0.0))  # the teacher's other losses; weight 0 leaves UDA out
    student_label_smoothing: float = 0.0  # of the student's loss on pseudo labels
    shuffle_window: int = 256  # `shuffled` draws from the last so many steps


Method = Supervised | PseudoLabelMethod | Uda | FixMatch | Mpl


def learned_view(method: Method) -> View:
    """The view of the labelled images that the teacher, or the only network, learns from."""
    if isinstance(method, Supervised):
        return method.labelled_view
    return method.teacher_labelled_view if isinstance(method, Mpl) else View.weak

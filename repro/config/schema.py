"""The settings of a run as dataclasses. Each field says its meaning, unit and default rule.

`data`, `model` and `method` are one of several classes, chosen by their `name`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

# ---------------------------------------------------------------- data


class Placement(StrEnum):
    """Where the labelled points of the two moons lie."""

    random = "random"  # drawn from the cluster, as a reader of the paper would assume
    spread = "spread"  # at equal steps along the arc, so that they show the shape of the cluster


@dataclass
class TwoMoonsData:
    """Two interleaving half circles (paper, section 3.1); one fresh data set for each seed."""

    name: str = "two_moons"
    points: int = 2000  # training points, half in each cluster (paper)
    labels: int = 6  # labelled points, half in each cluster (paper)
    test_points: int = 1000  # fresh points of the same distribution, on which accuracy is measured
    noise: float = 0.1  # standard deviation of the isotropic noise; the paper does not give it
    placement: Placement = Placement.random
    jitter: float = 0.15  # standard deviation of the strong view; the paper's toy experiment has no views


@dataclass
class DigitsData:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""

    name: str = "digits"
    labels: int = 50  # labelled images, the same number of each class, drawn anew by each seed
    test_images: int = 597  # held out; the same images for every seed


# ---------------------------------------------------------------- models


class Activation(StrEnum):
    """Hidden activation of the two-moons net."""

    sigmoid = "sigmoid"
    tanh = "tanh"


@dataclass
class MoonsNet:
    """2 -> 8 -> 8 -> 2, fully connected (paper, section 3.1); R nets are trained as one stacked model."""

    name: str = "moons_net"
    width: int = 8  # units in each of the two hidden layers
    activation: Activation = Activation.sigmoid
    initial_range: float = 0.1  # weights and biases start uniform in +-initial_range (paper: 0.1)


@dataclass
class SmallConv:
    """Three 3x3 convolutions with batch norm, mean pool, dropout, dense: for 8x8 digits on a CPU."""

    name: str = "small_conv"
    width: int = 8  # channels of the first convolution; the others have twice as many
    dropout: float = 0.2  # before the dense layer


# ---------------------------------------------------------------- methods


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
    shuffled = "shuffled"  # finite_difference, but that of a randomly chosen earlier step: right size, no message
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
    """Which batch normalises the labelled images when the loss *before* the student's step is measured."""

    matched = "matched"  # the labelled batch alone, as for the loss after the step, with the same dropout mask
    released = "released"  # labelled and unlabelled images together: the released code, unlike the loss after


class View(StrEnum):
    """Which augmented view of the unlabelled images."""

    weak = "weak"
    strong = "strong"


@dataclass
class Supervised:
    """Cross-entropy on the labelled images."""

    name: str = "supervised"
    label_smoothing: float = 0.0


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
class Mpl:
    """Meta Pseudo Labels. Defaults follow Algorithm 1 of the paper; each disputed choice is a field."""

    name: str = "mpl"
    pseudo_label: PseudoLabel = PseudoLabel.sampled
    feedback: Feedback = Feedback.dot_product
    feedback_sign: FeedbackSign = FeedbackSign.old_minus_new
    feedback_scope: FeedbackScope = FeedbackScope.batch
    feedback_weight: float = 1.0  # multiplies h in the teacher's loss
    baseline: Baseline = Baseline.none
    baseline_rate: float = 0.01  # of the moving average (released: 1 - 0.99)
    pseudo_label_view: View = View.strong  # what the teacher labels (released: strong)
    student_view: View = View.strong  # what the student learns from (released: strong)
    feedback_batch_norm: BatchNormBatch = BatchNormBatch.matched
    teacher_supervised: bool = True  # whether the teacher also learns from the labels
    uda: Uda = field(default_factory=lambda: Uda(weight=0.0))  # the teacher's other losses; weight 0 leaves UDA out
    student_label_smoothing: float = 0.0  # of the student's loss on pseudo labels
    shuffle_window: int = 256  # `shuffled` draws from the last so many steps


# ---------------------------------------------------------------- training


class Schedule(StrEnum):
    """Learning rate over the steps, after `wait_steps` at 0 and a linear `warmup_steps`."""

    constant = "constant"
    cosine = "cosine"


@dataclass
class Optimiser:
    """Stochastic gradient descent of one network."""

    learning_rate: float = 0.1
    schedule: Schedule = Schedule.constant
    wait_steps: int = 0
    warmup_steps: int = 0
    momentum: float = 0.0  # Nesterov's
    weight_decay: float = 0.0  # added to the gradient of all but batch-norm parameters
    clip_norm: float = 0.0  # global gradient norm; 0 does not clip


@dataclass
class Optim:
    """Optimisers of both networks; a method with one network uses the one its file names."""

    student: Optimiser = field(default_factory=Optimiser)
    teacher: Optimiser = field(default_factory=Optimiser)
    average_decay: float = 0.0  # of the exponential moving average of the weights; 0 keeps none


@dataclass
class Budget:
    """How long and on what."""

    steps: int = 1000
    labelled_batch: int = 32
    unlabelled_batch: int = 128
    log_every: int = 50  # steps between rows of metrics.csv; probes (noise floor, feedback gradient) run then
    snapshots: int = 20  # weights kept along the way, for the curves
    stack: int = 1  # seeds trained as one stacked model; 1 trains them one by one
    workers: int = 2  # processes, one thread each
    max_minutes: float = 0.0  # save, and exit with status 75, after so long; 0 is no limit
    checkpoint_minutes: float = 5.0  # between saved states
    reduced: str = ""  # what is shorter than the recipe, in words; empty when nothing is


@dataclass
class Finetune:
    """The student's last stage: gradient descent on the labelled images alone (paper, section 2 and Table 8)."""

    steps: int = 0  # 0 leaves it out
    learning_rate: float = 1e-5
    batch: int = 32


@dataclass
class Recipe:
    """What a source prescribes, to be compared with what a run does."""

    name: str = "none"
    source: str = ""
    values: dict[str, object] = field(default_factory=dict)  # dotted key -> prescribed value
    open: dict[str, str] = field(default_factory=dict)  # dotted key -> why the source does not settle it


@dataclass
class Config:
    """Everything that decides a run, but for its seeds."""

    data: TwoMoonsData | DigitsData
    model: MoonsNet | SmallConv
    method: Supervised | PseudoLabelMethod | Uda | FixMatch | Mpl
    optim: Optim
    budget: Budget
    finetune: Finetune
    recipe: Recipe
    title: str = ""  # the arm in a few words, for tables and legends
    data_hash: str = ""  # of the prepared data; filled by `prepare`, checked by `train`


CHOICES: dict[str, dict[str, type]] = {
    "data": {"two_moons": TwoMoonsData, "digits": DigitsData},
    "model": {"moons_net": MoonsNet, "small_conv": SmallConv},
    "method": {
        "supervised": Supervised,
        "pseudo_label": PseudoLabelMethod,
        "uda": Uda,
        "fixmatch": FixMatch,
        "mpl": Mpl,
    },
}

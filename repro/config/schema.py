"""The settings of a run as dataclasses. Each field says its meaning, unit and default rule.

`data`, `model` and `method` are one of several classes, chosen by their `name`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from repro.config.methods import FixMatch, Mpl, PseudoLabelMethod, Supervised, Uda

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

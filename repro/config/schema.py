"""The settings of a run as dataclasses. Each field says its meaning, unit and default rule.

`data`, `model` and `method` are one of several classes, chosen by their `name`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from repro.config.data import DATA, Data
from repro.config.methods import FixMatch, Method, Mpl, PseudoLabelMethod, ReducedMpl, Supervised, Uda
from repro.config.models import Airbench, Model, MoonsNet, ResNet50, SmallConv, WideResNet


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


class AverageStart(StrEnum):
    """What the moving average holds before the first step; it fades within some ten steps of the first of all."""

    weights = "weights"  # the initial weights and statistics
    released = "released"  # 1 for batch-norm shifts and running variances, 0 for all else (released code)


@dataclass
class Optim:
    """Optimisers of both networks; a method with one network uses the one its file names."""

    student: Optimiser = field(default_factory=Optimiser)
    teacher: Optimiser = field(default_factory=Optimiser)
    average_decay: float = 0.0  # of the exponential moving average of the weights; 0 keeps none
    average_start: AverageStart = AverageStart.weights


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
    curve_examples: int = 0  # test and unlabelled examples on which the curves are computed; 0 takes all
    shortened_to: int = 0  # steps to which a recipe is shortened (repro/config/shorten.py); 0 keeps its length
    reduced: str = ""  # what is shorter than the recipe, in words; empty when nothing is


@dataclass
class Finetune:
    """The student's last stage: gradient descent on the labelled images alone (paper, section 2 and Table 8)."""

    steps: int = 0  # 0 leaves it out
    learning_rate: float = 1e-5
    batch: int = 32


class Precision(StrEnum):
    """Of the networks' forward and backward passes; weights, statistics, losses and updates are always float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"  # automatic mixed precision


@dataclass
class Engine:
    """How a step is computed: the settings trade speed against rounding."""

    precision: Precision = Precision.float32
    channels_last: bool = False  # memory format of images; faster for convolutions on most devices
    threads: int = 1  # of each worker process, on a CPU
    readers: int = 2  # threads of each worker process that decode image files while a step is computed
    batch_norm_processes: int = 0  # of those that train together, so many share batch statistics; 0: all of them
    cuda_graph: bool = False  # record the whole step once and replay it: one launch, not thousands; a CPU has none


@dataclass
class Recipe:
    """What a source prescribes, to be compared with what a run does."""

    name: str = "none"
    source: str = ""
    values: dict[str, object] = field(
        default_factory=dict
    )  # dotted key -> prescribed value; null takes back what the recipe that it builds on prescribes
    open: dict[str, str] = field(default_factory=dict)  # dotted key -> why the source does not settle it


@dataclass
class Config:
    """Everything that decides a run, but for its seeds."""

    data: Data
    model: Model
    method: Method
    optim: Optim
    budget: Budget
    finetune: Finetune
    recipe: Recipe
    engine: Engine = field(default_factory=Engine)
    title: str = ""  # the arm in a few words, for tables and legends
    data_hash: str = ""  # of the prepared data; filled by `prepare`, checked by `train`
    planned_seeds: str = ""  # such as 0,1,2; filled by `prepare`, so that a missing seed is noticed


CHOICES: dict[str, dict[str, type]] = {
    "data": DATA,
    "model": {
        "moons_net": MoonsNet,
        "small_conv": SmallConv,
        "wide_resnet": WideResNet,
        "resnet50": ResNet50,
        "airbench": Airbench,
    },
    "method": {
        "supervised": Supervised,
        "pseudo_label": PseudoLabelMethod,
        "uda": Uda,
        "fixmatch": FixMatch,
        "mpl": Mpl,
        "reduced_mpl": ReducedMpl,
    },
}

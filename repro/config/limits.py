"""In what range each number lies. Every number of the schema has an entry; a test holds that.

The upper ends are far above what an experiment wants: beyond them a step overflows float32, memory runs out, or the
value is a slip of the pen. Those that follow from something say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from repro.config.data import Cifar10Data, CropViews, DigitsData, FolderData, ImageViews, SvhnData, TwoMoonsData
from repro.config.methods import FixMatch, Mpl, PseudoLabelMethod, ReducedMpl, SelfTraining, Supervised, Uda
from repro.config.models import Airbench, MoonsNet, ResNet50, SmallConv, WideResNet
from repro.config.schema import Budget, Engine, Finetune, Optim, Optimiser


@dataclass(frozen=True)
class Limits:
    """From `least` to `most`."""

    least: float
    most: float
    below: bool = False  # whether `most` itself is too much
    or_zero: bool = False  # whether 0 is allowed too, for what is switched off
    why: str = ""

    def problem(self, value: float) -> str:
        """What must hold of a number and does not; empty when it is possible."""
        if (self.or_zero and value == 0) or (
            self.least <= value <= self.most and not (self.below and value >= self.most)
        ):
            return ""
        interval = f"[{self.least:,}, {self.most:,}{')' if self.below else ']'}"
        return f"must {'be 0 or ' if self.or_zero else ''}lie in {interval}{', ' if self.why else ''}{self.why}"


_STEPS, _EXAMPLES, _MINUTES = 1_000_000_000, 1_000_000, 1_000_000
_STEP, _STEPS_OR_NONE = Limits(1, _STEPS), Limits(0, _STEPS)
_BATCH, _TIME = Limits(1, _EXAMPLES), Limits(0, _MINUTES)
_RATE = Limits(1e-12, 1000)
_SHARE, _SHARE_BELOW_ONE = Limits(0, 1), Limits(0, 1, below=True)
_PROBABILITY = Limits(0, 1, why="a probability")
_WEIGHT = Limits(0, 1_000_000)
_EPSILON = Limits(1e-8, 1)
_MIXUP = Limits(0.01, 100, or_zero=True, why="0 mixes nothing")
_WITHIN_IMAGE = "the image has 32 pixels"
_POINTS_OF_MOONS = Limits(0, 10, why="the moons are 3 wide")
_PROCESSES = Limits(1, 256)

_RAND_AUGMENT = {
    "layers": Limits(1, 100),
    "magnitude": Limits(0, 30, why="10 is the usual end of the scale"),
    "lowest_rate": _PROBABILITY,
    "highest_rate": _PROBABILITY,
    "fill": Limits(0, 255, why="a pixel value"),
}

LIMITS: dict[type, dict[str, Limits]] = {
    TwoMoonsData: {
        "points": Limits(4, _EXAMPLES),
        "labels": Limits(2, _EXAMPLES),
        "test_points": Limits(1, _EXAMPLES),
        "noise": _POINTS_OF_MOONS,
        "jitter": _POINTS_OF_MOONS,
    },
    DigitsData: {
        "labels": Limits(10, 1797, why="there are 1,797 images"),
        "test_images": Limits(1, 1797, why="there are 1,797 images"),
    },
    Cifar10Data: {
        "labels": Limits(1, 50_000, why="CIFAR-10 has no more"),
        "train_images": Limits(1, 50_000, why="CIFAR-10 has no more"),
        "test_images": Limits(1, 10_000, why="CIFAR-10 has no more"),
    },
    SvhnData: {
        "labels": Limits(1, 73_257, why="SVHN's train has no more"),
        "train_images": Limits(1, 604_388, why="SVHN's train and extra have no more"),
        "test_images": Limits(1, 26_032, why="SVHN has no more"),
    },
    FolderData: {
        "labels": Limits(0, 100_000_000),
        "image_size": Limits(8, 1024),
        "damaged": _SHARE,
        "classes": Limits(2, 65_536, or_zero=True, why="0 is filled by what is found"),
    },
    ImageViews: _RAND_AUGMENT
    | {"cutout": Limits(0, 32, why=_WITHIN_IMAGE), "crop_padding": Limits(0, 31, why=_WITHIN_IMAGE)},
    CropViews: _RAND_AUGMENT
    | {
        "cutout_share": _SHARE,
        "translate_share": _SHARE,
        "smallest_area": Limits(0.0001, 1),
        "widest_ratio": Limits(1, 10),
        "evaluated_share": Limits(0.1, 1),
    },
    MoonsNet: {"width": Limits(1, 4096), "initial_range": Limits(1e-6, 100)},
    SmallConv: {"width": Limits(1, 1024), "dropout": _SHARE_BELOW_ONE},
    WideResNet: {
        "depth": Limits(10, 1000),
        "width": Limits(1, 64),
        "student_dropout": _SHARE_BELOW_ONE,
        "teacher_dropout": _SHARE_BELOW_ONE,
        "leak": _SHARE,
        "norm_decay": _SHARE_BELOW_ONE,
        "norm_epsilon": _EPSILON,
    },
    ResNet50: {
        "width": Limits(1, 1024),
        "student_dropout": _SHARE_BELOW_ONE,
        "teacher_dropout": _SHARE_BELOW_ONE,
        "norm_decay": _SHARE_BELOW_ONE,
        "norm_epsilon": _EPSILON,
    },
    Airbench: {
        "first_width": Limits(24, 1024, why="the stem has 24 channels"),
        "width": Limits(24, 1024),
        "norm_decay": _SHARE_BELOW_ONE,
        "norm_epsilon": _EPSILON,
    },
    Supervised: {"label_smoothing": _SHARE_BELOW_ONE, "mixup": _MIXUP},
    PseudoLabelMethod: {"teacher_steps": _STEP, "threshold": _PROBABILITY, "label_smoothing": _SHARE_BELOW_ONE},
    Uda: {
        "weight": _WEIGHT,
        "ramp_steps": _STEPS_OR_NONE,
        "temperature": Limits(0.001, 1000),
        "threshold": Limits(0, 2, why="above 1 masks everything"),
        "label_smoothing": _SHARE_BELOW_ONE,
    },
    FixMatch: {"weight": _WEIGHT, "threshold": _PROBABILITY, "label_smoothing": _SHARE_BELOW_ONE},
    SelfTraining: {"weight": _WEIGHT, "threshold": _PROBABILITY, "ramp_steps": _STEPS_OR_NONE},
    Mpl: {
        "teacher_mixup": _MIXUP,
        "feedback_weight": _WEIGHT,
        "feedback_share": Limits(0.0001, 100, or_zero=True, why="0 leaves h as it is"),
        "baseline_rate": _SHARE,
        "student_label_smoothing": _SHARE_BELOW_ONE,
        "shuffle_window": Limits(1, 1_000_000),
    },
    ReducedMpl: {"teacher_steps": _STEP, "hidden": Limits(1, 65_536)},
    Optimiser: {
        "learning_rate": _RATE,
        "wait_steps": _STEPS_OR_NONE,
        "warmup_steps": _STEPS_OR_NONE,
        "momentum": _SHARE_BELOW_ONE,
        "weight_decay": Limits(0, 10),
        "clip_norm": Limits(1e-6, 1_000_000, or_zero=True, why="0 does not clip"),
    },
    Optim: {"average_decay": _SHARE_BELOW_ONE},
    Budget: {
        "steps": _STEP,
        "labelled_batch": _BATCH,
        "unlabelled_batch": _BATCH,
        "log_every": _STEP,
        "snapshots": Limits(1, 10_000, why="each keeps all weights"),
        "stack": Limits(1, 10_000),
        "workers": _PROCESSES,
        "max_minutes": _TIME,
        "checkpoint_minutes": _TIME,
        "curve_examples": Limits(0, _EXAMPLES),
        "shortened_to": _STEPS_OR_NONE,
    },
    Finetune: {"steps": _STEPS_OR_NONE, "learning_rate": _RATE, "batch": _BATCH},
    Engine: {
        "threads": _PROCESSES,
        "readers": _PROCESSES,
        "batch_norm_processes": Limits(0, 65_536),
    },
}

"""What the paper and the released code say of CIFAR-10-4K and ImageNet-10%; and how two runs are compared."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from repro.config import Config, as_mapping, departures, lookup
from repro.plan import compose

ROOT = Path(__file__).parent.parent / "experiments"
COLUMNS = ("cifar10_paper_mpl", "cifar10_released_mpl_released", "imagenet_paper_mpl", "imagenet_released_mpl_released")
_TABLE = """
budget.steps                        1,000,000       300,000            500,000             700,000
budget.labelled_batch               128             128                2,048               1,024
budget.unlabelled_batch             128             896                2,048               15,360
optim.student.learning_rate         0.3             0.05               0.8                 0.4
optim.teacher.learning_rate         0.125           0.05               0.5                 0.6
optim.student.schedule              cosine          cosine             cosine              cosine
optim.teacher.schedule              cosine          cosine             cosine              cosine
optim.student.warmup_steps          2,000           5,000              1,000               5,000
optim.teacher.warmup_steps          2,000           5,000              1,000               5,000
optim.student.wait_steps            0               3,000              0                   20,000
optim.teacher.wait_steps            0               0                  0                   0
optim.student.momentum              0.9             0.9                0.9                 0.9
optim.teacher.momentum              0.9             0.9                0.9                 0.9
optim.student.weight_decay          0.0005          0.0005             0.0002              0.0001
optim.teacher.weight_decay          0.0005          0.0005             0.0002              0.0001
method.uda.label_smoothing          0.1             0.15               0.1                 0.1
method.student_label_smoothing      0.1             0.15               0.1                 0.1
model.student_dropout               0.35            0.2                0.1                 0.1
model.teacher_dropout               0.5             0.2                0.1                 0.1
method.uda.weight                   1               8                  16                  20
method.uda.ramp_steps               0               5,000              0                   50,000
method.uda.temperature              0.8             0.7                0.75                0.5
method.uda.threshold                0               0.6                0                   0.6
optim.average_decay                 0               0.995              0                   0.999
optim.average_start                 weights         released           -                   -
optim.student.clip_norm             0               0                  0                   5
optim.teacher.clip_norm             0               0                  0                   5
model.name                          wide_resnet     wide_resnet        resnet50            resnet50
model.depth                         28              28                 -                   -
model.width                         2               2                  64                  64
model.norm_decay                    0.99            0.99               0.99                0.99
model.norm_epsilon                  0.001           0.001              0.001               0.001
model.leak                          0.2             0.2                -                   -
engine.precision                    bfloat16        bfloat16           bfloat16            bfloat16
data.split                          paper           released           -                   -
data.labels                         4,000           4,000              -                   -
data.labelled_in_unlabelled         no              yes                yes                 yes
data.train_images                   50,000          50,000             -                   -
data.test_images                    10,000          10,000             -                   -
finetune.steps                      1,000           0                  2,000               0
finetune.learning_rate              1e-05           1e-05              1e-05                   -
finetune.batch                      512             6                  512                   -
data.views.operations               paper           released           paper               released
data.views.arithmetic               standard        released           standard            released
data.views.layers                   2               2                  2                   2
data.views.magnitude                16              16                 17                  17
data.views.lowest_rate              0.2             0.2                -                   -
data.views.highest_rate             0.8             0.8                -                   -
data.views.cutout                   16              16                 -                   -
data.views.crop_padding             4               4                  -                   -
data.views.fill                     128             128                -                   -
data.views.flip                     yes             yes                -                   -
data.views.recrop                   yes             yes                -                   -
method.pseudo_label                 sampled         soft               sampled             soft
method.feedback                     cosine          finite_difference  cosine              finite_difference
method.feedback_sign                old_minus_new   new_minus_old      old_minus_new       new_minus_old
method.feedback_scope               batch           batch              batch               batch
method.feedback_weight              1               1                  1                   1
method.feedback_batch_norm          matched         released           matched             released
method.baseline                     moving_average  moving_average     moving_average      moving_average
method.baseline_rate                0.01            0.01               0.01                0.01
method.pseudo_label_view            strong          strong             strong              strong
method.student_view                 strong          strong             strong              strong
method.teacher_supervised           yes             yes                yes                 yes
method.teacher_labelled_view        weak            weak               weak                weak
method.teacher_mixup                0               0                  0                   0
method.teacher_pseudo_label.weight  0               0                  0                   0
data.labelled                       -               -                  imagenet_10percent  imagenet_10percent
data.image_size                     -               -                  224                 224
data.classes                        -               -                  1,000               1,000
data.views.cutout_share             -               -                  40/224              40/224
data.views.translate_share          -               -                  100/224             100/224
data.views.smallest_area            -               -                  0.08                0.08
data.views.widest_ratio             -               -                  4/3                 4/3
data.views.evaluated_share          -               -                  224/256             224/256
"""


def _value(cell: str) -> Any:
    try:
        return cell == "yes" if cell in {"yes", "no"} else float(Fraction(cell.replace(",", "")))
    except ValueError:
        return cell


def prescribed(name: str) -> dict[str, Any]:
    """The column of a run in the table, by dotted key.

    Typed from the sources, not from the YAML: the paper (Tables 5 to 8, Appendix C), and the released code (the
    README's commands, with rates for 256 labelled images, and the flags' defaults). - where the key is no setting.
    """
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    cells = {row[0]: row[1 + COLUMNS.index(name)] for row in rows}
    return {key: _value(cell) for key, cell in cells.items() if cell != "-"}


@cache
def composed(name: str) -> Config:
    """The settings of a run; composing takes Hydra a tenth of a second."""
    return compose(name, root=ROOT)


def leaves(mapping: dict[str, Any], path: str = "") -> list[str]:
    """Dotted keys of all settings, those of the recipe aside."""
    return [
        leaf
        for key, value in mapping.items()
        if key != "recipe"
        for leaf in (leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"])
    ]


def values(name: str, keys: Any) -> dict[str, Any]:
    """What a run has at these keys."""
    mapping = as_mapping(composed(name))
    return {key: lookup(mapping, key) for key in keys}


def changed(like: str, arm: str) -> set[str]:
    """The settings in which two runs differ, their titles and recipes aside."""
    base, other = as_mapping(composed(like)), as_mapping(composed(arm))
    keys = {*leaves(base), *leaves(other)} - {"title"}
    return {key for key in keys if lookup(base, key) != lookup(other, key)}


def departing(config: Config) -> list[str]:
    """Where a run departs from its recipe, but for what its source leaves open."""
    return [departure.key for departure in departures(config) if not departure.open]

"""WideResNet and ResNet-50 against the authors' released code: variables, forward passes, running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repro.models import Model, ResNet50, WideResNet
from repro.models.networks import build_model
from repro.seeding import Streams
from tests.released import give_weights, images, in_released_layout, kept, released_name, unpack

RESNET = ResNet50(width=8, student_dropout=0.0)


def student(config: Model, classes: int = 10) -> nn.Module:
    """A student network."""
    return build_model(config, classes, Streams(0), "student")


def test_resnet50_forward() -> None:
    """Logits in training and evaluation, and how running statistics move, of a ResNet-50 an eighth as wide."""
    packed, model, scope = kept("resnet50_forward"), student(RESNET), "model/resnet-50/"
    golden = packed | unpack(packed, "variables")
    give_weights(model, golden, f"var/{scope}")
    x, before = images(golden["input"]), {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        seen = {"eval": model.eval()(x), "train": model.train()(x), "eval_after1": model.eval()(x)}
    pairs = [(value, torch.from_numpy(golden[f"logits_{key}"])) for key, value in seen.items()]
    for key, value in model.state_dict().items():
        if "running" in key:
            now = torch.from_numpy(golden[f"after1/{scope}{released_name(key)}"])
            pairs.append((value - before[key], now - before[key]))

    # two images and last maps of 2x2: eight values a channel, whose small variances amplify rounding
    assert max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs) < 3e-4
    assert 3 + 2 * 53 == len(pairs)


def test_variables_are_the_released_ones() -> None:
    """Each of our weights and statistics is one released variable, of the same shape, and none is left over."""
    for config, packed, prefix, scope in (
        (WideResNet(width=1, student_dropout=0.0), "mpl_step", "state0", "state0/teacher/wrn-28-1"),
        (RESNET, "resnet50_forward", "variables", "var/model/resnet-50"),
    ):
        theirs = {key: list(value.shape) for key, value in unpack(kept(packed), prefix).items() if scope in key}
        assert theirs == {
            f"{scope}/{released_name(key)}": list(in_released_layout(value).shape)
            for key, value in student(config).state_dict().items()
        }


@pytest.mark.parametrize(
    ("config", "classes", "count"),
    [(WideResNet(), 10, 1_472_170), (WideResNet(width=1), 10, 369_498), (ResNet50(), 1000, 25_557_032)],
)
def test_size(config: Model, classes: int, count: int) -> None:
    """Trainable numbers as in the released code."""
    assert count == sum(p.numel() for p in student(config, classes).parameters())

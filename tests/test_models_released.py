"""WideResNet and ResNet-50 against the authors' released code: variables, forward passes, running statistics."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.models import Model, ResNet50, WideResNet
from repro.models.networks import build_model
from repro.seeding import Streams
from tests.released import (
    FULL,
    Arrays,
    full,
    give_weights,
    images,
    in_released_layout,
    keep_forward,
    kept,
    released_name,
    unpack,
)

WRN = WideResNet(width=1, student_dropout=0.0)
RESNET = ResNet50(width=8, student_dropout=0.0)


def student(config: Model, classes: int = 10) -> nn.Module:
    """A student network."""
    return build_model(config, classes, Streams(0), "student")


def forward_golden(name: str) -> Arrays:
    """Input, variables and logits of a forward pass, from what is kept or else from the full files."""
    packed = keep_forward(full(name)) if name == "wrn28_forward" else kept(name)
    return packed | unpack(packed, "variables")


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, in largest values of theirs."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def forward_distances(config: Model, name: str, scope: str) -> dict[str, float]:
    """Logits in training and evaluation, and the change of running statistics, from the released code's."""
    golden, model = forward_golden(name), student(config)
    give_weights(model, golden, f"var/{scope}")
    x, before = images(golden["input"]), {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        seen = {"eval": model.eval()(x), "train": model.train()(x), "eval_after1": model.eval()(x)}
    found = {key: distance(value, torch.from_numpy(golden[f"logits_{key}"])) for key, value in seen.items()}
    for key, value in model.state_dict().items():
        if "running" in key:
            now = torch.from_numpy(golden[f"after1/{scope}{released_name(key)}"])
            found[key] = distance(value - before[key], now - before[key])
    return found


def test_wide_resnet_forward() -> None:
    """Logits and running statistics of WideResNet-28-1 are the released code's."""
    distances = forward_distances(WRN, "wrn28_forward", "model/wrn-28-1/")

    # float32 through 28 layers; in evaluation random statistics let activations, and their rounding, grow
    assert max(distances.values()) < 5e-5
    assert 3 + 2 * 25 == len(distances)


def test_resnet50_forward() -> None:
    """Logits and running statistics of ResNet-50, an eighth as wide, are the released code's."""
    distances = forward_distances(RESNET, "resnet50_forward", "model/resnet-50/")

    # two images and last maps of 2x2: eight values a channel, whose small variances amplify rounding
    assert max(distances.values()) < 3e-4
    assert 3 + 2 * 53 == len(distances)


def zero_padded_pool(x: Tensor, window: int, stride: int) -> Tensor:
    """PyTorch's symmetric pool."""
    return nn.functional.max_pool2d(x, window, stride, padding=1)


def symmetric(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """PyTorch's symmetric padding."""
    return nn.functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)


def stride_first(self: resnet50.Bottleneck, x: Tensor) -> Tensor:
    """The stride on the first 1x1 convolution, as in the paper of 2015."""
    self.reduce.stride, self.spatial.stride = self.spatial.stride, self.reduce.stride
    shortcut = x if self.shortcut is None else self.shortcut(x)
    return torch.relu(shortcut + self.expand(torch.relu(self.spatial(torch.relu(self.reduce(x))))))


@pytest.mark.parametrize(("target", "name", "value"), [
    (resnet50, "same_max_pool", zero_padded_pool), (resnet50, "same_convolution", symmetric),
    (resnet50.Bottleneck, "forward", stride_first),
])  # fmt: skip
def test_resnet50_golden_tells(target: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Symmetric padding of pool or convolutions, or the stride elsewhere, is far outside the tolerance."""
    monkeypatch.setattr(target, name, value)

    assert max(forward_distances(RESNET, "resnet50_forward", "model/resnet-50/").values()) > 3e-2


def shapes(model: nn.Module, scope: str) -> dict[str, tuple[list[int], bool]]:
    """Shape and whether it is trained of each entry of our state, by the released name and layout."""
    trained = {key for key, _ in model.named_parameters()}
    return {
        f"{scope}/{released_name(key)}": (list(in_released_layout(value).shape), key in trained)
        for key, value in model.state_dict().items()
    }


def test_variables_are_the_released_ones() -> None:
    """Each of our weights and statistics is one released variable, of the same shape, and none is left over."""
    for config, packed, prefix, scope in (
        (WRN, "mpl_step", "state0", "state0/teacher/wrn-28-1"),
        (RESNET, "resnet50_forward", "variables", "var/model/resnet-50"),
    ):
        theirs = {key: list(value.shape) for key, value in unpack(kept(packed), prefix).items() if scope in key}
        assert theirs == {key: shape for key, (shape, _) in shapes(student(config), scope).items()}


@pytest.mark.parametrize(("config", "classes", "name", "count"), [
    (WideResNet(), 10, "wrn-28-2", 1_472_170), (WideResNet(width=1), 10, "wrn-28-1", 369_498),
    (ResNet50(), 1000, "resnet-50 (1000 classes)", 25_557_032),
])  # fmt: skip
def test_size(config: Model, classes: int, name: str, count: int) -> None:
    """Trainable numbers as in the released code; all names and shapes too, where its list lies beside the project."""
    model = student(config, classes)

    assert count == sum(p.numel() for p in model.parameters())
    if (FULL / "model_variables.json").is_file():
        listed = json.loads((FULL / "model_variables.json").read_text())[name]["variables"]
        scope = listed[0]["name"].split("/stem")[0]
        assert {v["name"]: (v["shape"], v["trainable"]) for v in listed} == shapes(model, scope)

"""WideResNet and ResNet-50: how they start, drop, differentiate, and stay the same in another memory format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from repro.models import Airbench, Model, ResNet50, SmallConv, WideResNet
from repro.models.layers import BatchNorm, frozen_statistics
from repro.models.networks import build_model, decorrelating_kernels
from repro.seeding import Streams
from tests.released import give_weights, images, in_released_layout, kept, released_name, unpack

SMALLEST = Airbench(first_width=32, width=40)
SMALL = WideResNet(depth=10, width=1, student_dropout=0.0, teacher_dropout=0.5)


def student(config: Model, classes: int = 10) -> nn.Module:
    """A student network."""
    return build_model(config, classes, Streams(0), "student")


def picture(*shape: int) -> Tensor:
    """Normal numbers."""
    return Streams(0).normal("picture", 0, shape)


def ones(model: nn.Module, x: Tensor) -> Tensor:
    """Dropout noise that drops nothing."""
    return torch.ones(len(x), model.noise_features, dtype=x.dtype)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("config", [WideResNet(width=1), ResNet50(width=8), SmallConv(width=16)])
def test_initial_spread(config: Model) -> None:
    """Kernels start normal, variance 2 / (k^2 outputs); dense uniform within 1 / sqrt(classes); norms at 1 and 0."""
    for key, value in student(config).state_dict().items():
        n = value.numel()
        if value.dim() == 4:
            spread = (2 / (value.shape[0] * value.shape[2] ** 2)) ** 0.5
            # five standard errors: 1 / sqrt(2 n) of a standard deviation, 1 / sqrt(n) of a mean
            assert spread == pytest.approx(float(value.std()), rel=5 / (2 * n) ** 0.5), key
            assert abs(float(value.mean())) < 5 * spread / n**0.5, key
        elif value.dim() == 2:
            assert 0.99 * 10**-0.5 < float(value.abs().max()) <= 10**-0.5, key
            assert (1 / 30) ** 0.5 == pytest.approx(float(value.std()), rel=5 * (0.2 / n) ** 0.5), key
        else:
            start = float(key.endswith(("weight", "running_variance")))
            assert torch.equal(torch.full_like(value, start), value), key


@pytest.mark.parametrize("config", [SMALL, ResNet50(width=2)])
def test_no_two_layers_start_alike(config: Model) -> None:
    """Each is drawn under its own name."""
    kernels = [p.detach() for p in student(config).parameters() if p.dim() > 1]
    firsts = [float(kernel.flatten()[0] / kernel.std()) for kernel in kernels]

    assert len(firsts) == len(set(firsts))


@pytest.mark.parametrize("config", [
    WideResNet(depth=10, width=1, student_dropout=0.25, teacher_dropout=0.5),
    ResNet50(width=2, student_dropout=0.25, teacher_dropout=0.5),
])  # fmt: skip
def test_dropout_is_the_roles(config: Model) -> None:
    """Noise between the two rates is dropped for the teacher alone; training without noise is refused."""
    x, kept_by = picture(2, 3, 32, 32), {}
    for role in ("student", "teacher"):
        model = build_model(config, 10, Streams(0), role)
        with frozen_statistics(model):
            kept_by[role] = not torch.equal(
                model.bias.expand(2, 10), model(x, torch.full((2, model.noise_features), 0.4))
            )
        with pytest.raises(ValueError, match="wants uniform noise"):
            model(x)

    assert {"student": True, "teacher": False} == kept_by


@pytest.mark.parametrize(
    "config", [SMALL, ResNet50(width=2, student_dropout=0.0), SMALLEST, replace(SMALLEST, stem_pool=True)]
)
def test_channels_last_gives_the_same(config: Model) -> None:
    """Logits and gradients are the same up to rounding, and activations stay in that format."""
    x, found = picture(4, 3, 32, 32).double(), []
    for memory in (torch.contiguous_format, torch.channels_last):
        model, formats = student(config).double().to(memory_format=memory), []  # type: ignore[call-overload]
        for layer in model.modules():
            if isinstance(layer, BatchNorm):
                layer.register_forward_hook(lambda _m, _x, out, formats=formats, memory=memory: formats.append(
                    out.is_contiguous(memory_format=memory)))  # fmt: skip
        logits = model(x.to(memory_format=memory), ones(model, x))
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        found.append([logits.detach(), *gradients, *model.buffers()])
        assert all(formats)

    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(last, plain, rtol=1e-6, atol=1e-8)  # float64, amplified by norms of 4 values


@pytest.mark.parametrize("config", [SMALL, ResNet50(width=1, student_dropout=0.0), SMALLEST])
def test_gradient_is_the_slope(config: Model) -> None:
    """Backward and forward mode agree with each other and with a central difference along a random direction."""
    model, x = student(config).double(), picture(4, 3, 32, 32).double()
    weights = {key: p.detach() for key, p in model.named_parameters()}
    direction = {key: Streams(1).normal(key, 0, p.shape).double() for key, p in weights.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(model, parameters, (x, ones(model, x)))
        return logits.square().mean()

    with frozen_statistics(model):
        slope = torch.func.jvp(loss, (weights,), (direction,))[1]
        ahead, behind = (loss({k: w + s * direction[k] for k, w in weights.items()}) for s in (1e-8, -1e-8))
    gradients = torch.autograd.grad(loss(dict(model.named_parameters())), list(model.parameters()))
    product = sum((g * d).sum() for g, d in zip(gradients, direction.values(), strict=True))

    torch.testing.assert_close(slope, product, rtol=1e-9, atol=0)  # float64
    assert float(slope) == pytest.approx(
        float((ahead - behind) / 2e-8), rel=1e-4
    )  # a kink of ReLU lies within the step here and there


def test_the_stem_of_airbench_turns_patches_around() -> None:
    """Its twelve filters are orthonormal, and the first of them is the patch's mean grey."""
    kernels = decorrelating_kernels().flatten(1).double()

    torch.testing.assert_close(kernels @ kernels.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close(kernels[0], torch.full((12,), 12**-0.5, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("pooled", [False, True])
def test_airbench_begins_as_the_identity(pooled: bool) -> None:
    """The first channels of each block carry what comes in, pooled; the rest of the first block's are random."""
    model = student(replace(SMALLEST, stem_pool=pooled)).eval()
    kernels = list(model.convolutions)
    x = torch.rand(2, 24, 6, 6)

    for layer, kernel in enumerate(kernels):
        inputs = kernel.shape[1]
        wide = x[:, :1].repeat(1, inputs, 1, 1)
        assert torch.equal(wide, functional.conv2d(wide, kernel[:inputs], padding=1)), layer
    assert 8 == len(kernels[0]) - 24
    assert 1 / (9 * 24) ** 0.5 == pytest.approx(float(kernels[0][24:].detach().abs().max()), rel=0.02)
    assert (2, 10) == tuple(model(torch.rand(2, 3, 32, 32)).shape)


# Against the released code


RESNET = ResNet50(width=8, student_dropout=0.0)


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


@pytest.mark.parametrize(("config", "classes", "count"), [
    (WideResNet(), 10, 1_472_170), (WideResNet(width=1), 10, 369_498), (ResNet50(), 1000, 25_557_032),
])  # fmt: skip
def test_size(config: Model, classes: int, count: int) -> None:
    """Trainable numbers as in the released code."""
    assert count == sum(p.numel() for p in student(config, classes).parameters())

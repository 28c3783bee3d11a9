"""Meta Pseudo Labels as one would first write it in PyTorch, to be timed beside ours.

The released method on WideResNet-28-2 as public re-implementations have it: torch's own layers and optimiser, float32,
views made by Pillow in the workers of a `DataLoader`. It takes the same number of images through the same number of
passes; its random numbers are torch's, so that its losses are its own. Nothing but the benchmark uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torch.utils.flop_counter import FlopCounterMode

from repro.augment import ImageViews
from repro.config import Config
from repro.data import source_of
from repro.data.cifar10 import Cifar10
from repro.engine.device import place
from repro.methods import Mpl, method_of
from repro.methods.state import Batch, State
from repro.models import WideResNet
from repro.models.networks import build_model
from repro.seeding import Draws, Streams
from repro.settings import Precision

_CLASSES = 10


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, leak: float) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = (nn.BatchNorm2d(n, eps=1e-3, momentum=0.01) for n in (inputs, outputs))
        self.convolution_1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.convolution_2 = nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False)
        self.activation = nn.LeakyReLU(leak)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(self.norm_1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        sum_: Tensor = shortcut + self.convolution_2(self.activation(self.norm_2(self.convolution_1(active))))
        return sum_


def network(config: WideResNet) -> nn.Module:
    """A WideResNet of torch's layers, [N, 3, 32, 32] to [N, 10]; as many multiplications as ours."""
    channels, blocks = 16 * config.width, []
    for group, stride in enumerate((1, 2, 2)):
        outputs = 16 * config.width * 2**group
        for block in range((config.depth - 4) // 6):
            blocks.append(_Block(channels, outputs, stride if block == 0 else 1, config.leak))
            channels = outputs
    stem = nn.Conv2d(3, 16 * config.width, 3, padding=1, bias=False)
    head = [nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.LeakyReLU(config.leak), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(stem, *blocks, *head, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, _CLASSES))


class _Images(Dataset[Any]):
    """Images whose views are made one by one, by Pillow."""

    def __init__(self, images: Tensor, labels: Tensor, views: list[Callable[[Any], Tensor]]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.labels, self.views = labels.tolist(), views

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return *(view(self.images[index]) for view in self.views), torch.tensor(self.labels[index])


def _views(views: ImageViews) -> tuple[Callable[[Any], Tensor], Callable[[Any], Tensor]]:
    """Weak and strong, from a Pillow image to float32 [3, 32, 32], by torchvision's transforms."""
    from torchvision import transforms

    weak = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, views.crop_padding, fill=views.fill)]
    tensor = [transforms.ToTensor(), transforms.Normalize(Cifar10.mean, Cifar10.deviation)]
    area = (views.cutout / 32) ** 2
    strong = [transforms.RandAugment(views.layers, int(views.magnitude)), *weak, *tensor,
              transforms.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0))]  # fmt: skip
    return transforms.Compose([*weak, *tensor]), transforms.Compose([*weak, *strong])


def _batches(images: Tensor, labels: Tensor, views: Any, batch: int, steps: int, workers: int) -> Iterator[Any]:
    data = _Images(images, labels, views)
    ahead = 4 * max(1, workers)  # so that workers have to do to the last step
    order = RandomSampler(data, replacement=True, num_samples=(steps + ahead) * batch)
    return iter(DataLoader(data, batch, sampler=order, num_workers=workers))


class PlainTrainer:
    """Teacher and student of MPL on CIFAR-10, their optimisers, and loaders for `steps` steps at most.

    All images, uint8 [N, 3, 32, 32], count as unlabelled, the first half as labelled too, with labels int64 [N].
    `workers` are processes of each loader; 0 makes the views in this one.
    """

    def __init__(
        self, config: Config, images: Tensor, labels: Tensor, steps: int, workers: int, device: torch.device
    ) -> None:
        if not (config.data.shape == (3, 32, 32) and isinstance(config.method, Mpl)
                and isinstance(config.model, WideResNet)):  # fmt: skip
            raise TypeError(f"the plain implementation is of MPL on CIFAR-10 alone, not of {config.title}")
        self._config, self._method, self._device = config, config.method, device
        self.teacher, self.student, self.average = (network(config.model).to(device) for _ in range(3))
        self.average.load_state_dict(self.student.state_dict())
        self._optimisers = [
            torch.optim.SGD(model.parameters(), optim.learning_rate / 100, optim.momentum, weight_decay=5e-4,
                            nesterov=True)
            for model, optim in ((self.teacher, config.optim.teacher), (self.student, config.optim.student))
        ]  # fmt: skip
        weak, strong = _views(config.data.views)  # type: ignore[arg-type,union-attr]
        half, budget = len(images) // 2, config.budget
        self._labelled = _batches(images[:half], labels[:half], [weak], budget.labelled_batch, steps, workers)
        self._unlabelled = _batches(images, labels, [weak, strong], budget.unlabelled_batch, steps, workers)

    def advance(self) -> None:
        """One step of student and teacher, and of the student's average."""
        x_l, y_l = (tensor.to(self._device) for tensor in next(self._labelled))
        weak, strong, _ = (tensor.to(self._device) for tensor in next(self._unlabelled))
        uda, optimisers = self._method.uda, self._optimisers

        logits = self.teacher(torch.cat([x_l, weak, strong]))
        labelled, weakly, strongly = logits.split([len(x_l), len(weak), len(strong)])
        targets = torch.multinomial(strongly.detach().softmax(dim=-1), 1).squeeze(-1)
        soft = (weakly.detach() / uda.temperature).softmax(dim=-1)
        sure = (soft.amax(dim=-1) >= uda.threshold).float()
        consistency = (-(soft * strongly.log_softmax(dim=-1)).sum(dim=-1) * sure).mean()
        teacher_loss = functional.cross_entropy(labelled, y_l, label_smoothing=uda.label_smoothing)
        teacher_loss = teacher_loss + uda.weight * consistency

        with torch.no_grad():
            old = functional.cross_entropy(self.student(x_l), y_l)
        optimisers[1].zero_grad()
        smoothing = self._method.student_label_smoothing
        functional.cross_entropy(self.student(strong), targets, label_smoothing=smoothing).backward()  # type: ignore[no-untyped-call]
        optimisers[1].step()
        with torch.no_grad():
            h = old - functional.cross_entropy(self.student(x_l), y_l)

        optimisers[0].zero_grad()
        (teacher_loss + h * functional.cross_entropy(strongly, targets)).backward()
        optimisers[0].step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(value, 1 - self._config.optim.average_decay)


def step_flops(config: Config) -> float:
    """Floating-point operations of the last step: convolutions and matrix products, forward and backward.

    A multiplication and an addition are two.
    """
    with FlopCounterMode(display=False) as counter:
        _last_step(config, nullcontext())
    return float(counter.get_total_flops())


def step_bytes(config: Config) -> int:
    """What the last step of a run reads and writes, without augmentation."""
    traffic = Traffic()
    _last_step(config, traffic)
    moved: int = traffic.bytes
    return moved


def _last_step(config: Config, watched: AbstractContextManager[object]) -> None:
    """The last step of a run, on tensors without data, in the block `watched`."""
    streams = Streams(0, torch.device("meta"))
    engine = replace(config.engine, precision=Precision.float32)  # there is no mixed precision without data
    classes = source_of(config.data).classes
    state: State = method_of(config.method).init(
        lambda role: _as_float32(place(build_model(config.model, classes, streams, role), engine, streams.device)),
        config.method, config.optim, config.budget.steps, (),
    )  # fmt: skip
    state.step = config.budget.steps - 1
    half = config.engine.precision is Precision.bfloat16
    with _Bfloat16() if half else nullcontext(), watched:
        method_of(config.method).step(state, _empty_batch(config, streams, state.step), config.method)


def _empty_batch(config: Config, streams: Streams, step: int) -> Batch:
    """A batch as a step of training sees it, but without data."""
    b, u, device = config.budget.labelled_batch, config.budget.unlabelled_batch, streams.device
    seen, weak, strong = (torch.zeros(count, *config.data.shape, device=device) for count in (b, u, u))
    labels, hidden = (torch.zeros(count, dtype=torch.int64, device=device) for count in (b, u))
    return Batch(seen, labels, weak, strong, hidden, Draws(streams, step), strong_labelled=seen)


def _as_float32(model: nn.Module) -> nn.Module:
    """The network, whose logits come out as float32 whatever it computes in, as those of a run do."""
    forward = model.forward
    model.forward = lambda *inputs: forward(*inputs).float()
    return model


class _Bfloat16(TorchFunctionMode):
    """Stands in for automatic mixed precision where there are no data: the operations that it makes bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {functional.conv2d, functional.linear}:
            args = [value.bfloat16() if isinstance(value, Tensor) else value for value in args]
        return func(*args, **(kwargs or {}))


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations take and give, while it is entered.

    It is what a device moves that keeps nothing between two operations; what a cache holds, or a compiler fuses, is
    moved less often. Operations that only look at a tensor in another way move nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """There is no compiler here to keep out, and keeping it out would load it."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operation as it is, and what it moves."""
        found = func(*args, **(kwargs or {}))
        taken, given = list(_tensors((args, kwargs))), list(_tensors(found))
        looked_at = {tensor.untyped_storage()._cdata for tensor in taken}  # noqa: SLF001 - a storage has no other name
        views = [tensor for tensor in given if tensor.untyped_storage()._cdata in looked_at]  # noqa: SLF001 - likewise
        written_in_place = func._schema.is_mutable  # noqa: SLF001 - nothing else tells
        if not views or written_in_place:
            self.bytes += sum(tensor.nbytes for tensor in taken + given)
        return found


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))

"""Any `nn.Module` as the methods call their networks, and which ones cannot be: for `repro.library`, to train them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from repro.models.layers import frozen_statistics


class Ordinary(nn.Module):
    """Any module as the methods call it: with the randomness of its pass, and, where told, in a lower precision.

    A network of this package takes its dropout's uniform numbers. Any other draws from generators of PyTorch's, which
    begin at the seed that it is given, and are put back where they were.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.noise_features: int | None = getattr(module, "noise_features", None)
        self.autocast: torch.dtype | None = None  # of a region of its own around each pass

    def forward(self, x: Tensor, noise: Tensor | int | None = None) -> Tensor:
        """Examples [N, *E] to logits [N, K], at least float32."""
        lower = self.autocast is not None
        # No cast of a weight is kept: it would outlive an update in a region of the caller's.
        with torch.autocast(x.device.type, self.autocast, enabled=lower, cache_enabled=False):
            if isinstance(noise, int):
                with seeded(noise, x.device):
                    logits = self.module(x)
            else:
                logits = self.module(x) if noise is None else self.module(x, noise)
        return logits.float() if lower else logits  # type: ignore[no-any-return]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block PyTorch's generators draw from this seed; then they are put back where they were."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def classes_of(networks: dict[str, Ordinary], x: Tensor) -> int:
    """K, from a training pass of each network over x [N, *E] that leaves it as it was; refuses what is no logits."""
    widths = {}
    for role, network in networks.items():
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        features = network.noise_features
        noise = 0 if features is None else torch.ones(len(x), features, dtype=x.dtype, device=x.device)
        with torch.enable_grad(), frozen_statistics(network.train()):
            logits = network(x, noise)
        moved = [name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])]
        for name in moved:
            network.get_buffer(name).copy_(before[name])
        if moved and role == "student":  # the teacher makes one pass a step
            where = moved[0].removeprefix("module.")
            raise ValueError(f"student: a training pass changes the buffer {where}, and a step makes up to three "
                             "passes; use batch norm of torch.nn there, or no running statistics")  # fmt: skip
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ValueError(f"{role} gives {found} for x {list(x.shape)}; needs logits [{len(x)}, K]")
        if not logits.requires_grad or not logits.is_floating_point():
            raise ValueError(f"{role}'s logits, {logits.dtype}, have no gradient; leave out detach, no_grad and argmax "
                             "in its forward pass")  # fmt: skip
        widths[role] = logits.shape[1]
    if widths["teacher"] != widths["student"]:
        raise ValueError(f"teacher gives logits for {widths['teacher']} classes, student for {widths['student']}; make "
                         "their last layers equally wide")  # fmt: skip
    return widths["student"]


def refuse_modules(teacher: nn.Module, student: nn.Module) -> None:
    """Refuses what no step can train."""
    owners: dict[int, str] = {}
    for role, module in (("teacher", teacher), ("student", student)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{role} is a {type(module).__name__}; give a torch.nn.Module")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | torch.jit.ScriptModule):
            raise ValueError(f"{role} is a {type(module).__name__}; give the plain module that it was made of")
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors.values()):
            raise ValueError(f"{role} has lazy layers; pass a batch through it first")
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trained:
            raise ValueError(f"{role} has no parameter that requires a gradient; give it one, or requires_grad_()")
        kinds = {(p.device, p.dtype) for p in trained}
        if len(kinds) > 1 or trained[0].dtype not in {torch.float32, torch.float64}:
            raise ValueError(f"{role} has parameters of {sorted(map(str, kinds))}; put all on one device, in float32: "
                             "precision='bfloat16' is for the passes alone")  # fmt: skip
        for name, tensor in tensors.items():
            if tensor.numel() and owners.setdefault(tensor.data_ptr(), role + "." + name) != role + "." + name:
                raise ValueError(f"{role}.{name} shares its memory with {owners[tensor.data_ptr()]}, and each would be "
                                 "updated on its own; give it a copy: copy.deepcopy")  # fmt: skip

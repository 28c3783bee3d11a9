"""Numbers computed with the authors' released code: where they lie, what is kept of them, which weights they are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KEPT = Path(__file__).parent / "goldens"
Vector = np.ndarray[Any, Any]
Arrays = dict[str, Vector]

_RENAMED = (
    (r"^blocks\.(\d+)\.", lambda match: f"block_{int(match[1]) + 1}."), (r"^norm\.", "head.batch_norm."),
    (r"^dense$", "head.dense.kernel"), (r"^bias$", "head.dense.bias"), (r"norm_(\d)\.", r"conv_3x3_\1.batch_norm."),
    (r"convolution_(\d)$", r"conv_3x3_\1.kernel"), (r"(^stem|shortcut)$", r"\1.kernel"), (r"reduce\.", "conv_1x1_1."),
    (r"spatial\.", "conv_3x3."), (r"expand\.", "conv_1x1_2."), (r"shortcut\.", "residual."),
    (r"\.norm\.", ".batch_norm."), (r"norm\.weight$", "norm.gamma"), (r"norm\.bias$", "norm.beta"),
    (r"running_", "moving_"), (r"(?<!dense)\.kernel$", ".conv2d.kernel"),
)  # fmt: skip


def released_name(key: str) -> str:
    """The released code's name, without its scope, of an entry of our WideResNet's or ResNet-50's state."""
    for pattern, name in _RENAMED:
        key = re.sub(pattern, name, key)
    return key.replace(".", "/")


def to_ours(array: Vector) -> Tensor:
    """Kernels HWIO to OIHW, dense [inputs, outputs] to [outputs, inputs], anything else as it is."""
    tensor = torch.from_numpy(array)
    return tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor.T if tensor.dim() == 2 else tensor


def in_released_layout(tensor: Tensor) -> Tensor:
    """The inverse of `to_ours`."""
    return tensor.permute(2, 3, 1, 0) if tensor.dim() == 4 else tensor.T if tensor.dim() == 2 else tensor


def to_released(tensor: Tensor) -> Vector:
    """Released layout, flat, float64."""
    return in_released_layout(tensor.detach()).double().numpy().ravel()


def images(array: Vector) -> Tensor:
    """NHWC to contiguous NCHW."""
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def give_weights(network: nn.Module, arrays: Arrays, scope: str) -> None:
    """Sets weights and running statistics to the released variables under `scope`."""
    dtype = next(network.parameters()).dtype
    network.load_state_dict({k: to_ours(arrays[scope + released_name(k)]).to(dtype) for k in network.state_dict()})


def evenly(values: Vector, count: int) -> Vector:
    """At most `count` evenly spaced entries of an array, first and last among them, flat."""
    return values.ravel()[np.linspace(0, values.size - 1, min(values.size, count)).astype(int)]


def unpack(packed: Arrays, prefix: str) -> Arrays:
    """float32 arrays that lie as names, shapes (padded with 0) and bytes [4, total], lowest first."""
    flat = packed[f"{prefix}/bytes"].T.copy().view("<f4").ravel()
    shapes = [tuple(int(n) for n in row if n) for row in packed[f"{prefix}/shapes"]]
    pieces = np.split(flat, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    names = packed[f"{prefix}/names"]
    return {str(name): piece.reshape(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}


@cache
def kept(name: str) -> Arrays:
    """All arrays of a file kept with the tests; not to be changed."""
    with np.load(KEPT / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}

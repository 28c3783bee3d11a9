"""Numbers computed with the authors' released code: where they lie, what is kept of them, which weights they are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

KEPT = Path(__file__).parent / "goldens"
FULL = Path(__file__).parents[2] / "shared/goldens"  # the full reference files, where they lie beside the project
Vector = np.ndarray[Any, Any]
Arrays = dict[str, Vector]

ENTRIES = 32  # kept of each variable after a step
_RENAMED = (
    (r"^blocks\.(\d+)\.", lambda match: f"block_{int(match[1]) + 1}."),
    (r"^norm\.", "head.batch_norm."),
    (r"^dense$", "head.dense.kernel"),
    (r"^bias$", "head.dense.bias"),
    (r"norm_(\d)\.", r"conv_3x3_\1.batch_norm."),
    (r"convolution_(\d)$", r"conv_3x3_\1.kernel"),
    (r"(^stem|shortcut)$", r"\1.kernel"),
    (r"reduce\.", "conv_1x1_1."),
    (r"spatial\.", "conv_3x3."),
    (r"expand\.", "conv_1x1_2."),
    (r"shortcut\.", "residual."),
    (r"\.norm\.", ".batch_norm."),
    (r"norm\.weight$", "norm.gamma"),
    (r"norm\.bias$", "norm.beta"),
    (r"running_", "moving_"),
    (r"(?<!dense)\.kernel$", ".conv2d.kernel"),
)


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
    network.load_state_dict(
        {key: to_ours(arrays[scope + released_name(key)]).to(dtype) for key in network.state_dict()}
    )


def evenly(values: Vector, count: int) -> Vector:
    """At most `count` evenly spaced entries of an array, first and last among them, flat."""
    return values.ravel()[np.linspace(0, values.size - 1, min(values.size, count)).astype(int)]


def pack(arrays: Arrays, prefix: str) -> Arrays:
    """float32 arrays as three: names, shapes (padded with 0), bytes [4, total], lowest first, which zips better."""
    shapes = [[*array.shape, *[0] * (4 - array.ndim)] for array in arrays.values()]
    flat = np.concatenate([array.ravel() for array in arrays.values()]).astype("<f4")
    parts = {
        "names": np.array(list(arrays)),
        "shapes": np.array(shapes),
        "bytes": flat.view(np.uint8).reshape(-1, 4).T.copy(),
    }
    return {f"{prefix}/{key}": value for key, value in parts.items()}


def unpack(packed: Arrays, prefix: str) -> Arrays:
    """The inverse of `pack`."""
    flat = packed[f"{prefix}/bytes"].T.copy().view("<f4").ravel()
    shapes = [tuple(int(n) for n in row if n) for row in packed[f"{prefix}/shapes"]]
    pieces = np.split(flat, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    names = packed[f"{prefix}/names"]
    return {str(name): piece.reshape(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}


@cache
def kept(name: str) -> Arrays:
    """All arrays of a file kept with the tests; not to be changed."""
    return _load(KEPT / f"{name}.npz")


@cache
def full(name: str) -> Arrays:
    """All arrays of a full reference file, where it lies beside the project; not to be changed."""
    path = FULL / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the full reference files are not beside the project")
    return _load(path)


def _load(path: Path) -> Arrays:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def keep_forward(full: Arrays) -> Arrays:
    """What is kept of a forward pass: everything, the variables packed."""
    variables = {key: value for key, value in full.items() if key.startswith(("var/", "after1/"))}
    return pack(variables, "variables") | {key: value for key, value in full.items() if key not in variables}


def keep_steps(full: Arrays, entries: int = ENTRIES) -> Arrays:
    """What is kept of the training steps: start and inputs in full, afterwards some entries and norms of each variable.

    `A/` and `B/` hold scalars, logits and `summary` [steps, variables, 5] (l2, sum, largest, first, last) by step.
    """
    names = [str(name) for name in full["summary2/names"]]
    kept = pack({key: value for key, value in full.items() if key.startswith("state0/") and "wrn" in key}, "state0")
    kept |= {key: value for key, value in full.items() if key.startswith("data")}
    kept["names"] = np.array(names)
    for state in ("state1", "state3"):
        after = [evenly(full[f"{state}/{name}"], entries) for name in names]
        kept[f"entries/{state}"] = np.concatenate(after).astype("<f4")
        kept["counts"] = np.array([len(values) for values in after])
    for case, prefix, steps in (("A", "", range(1, 4)), ("B", "B/", range(1, 7))):
        tags = [key.removeprefix(f"{prefix}step1/") for key in full if key.startswith(f"{prefix}step1/")]
        kept |= {f"{case}/{tag}": np.stack([full[f"{prefix}step{step}/{tag}"] for step in steps]) for tag in tags}
        rows = [full.get(f"f64/{prefix}summary{step}/values", _summary(full, f"state{step}", names)) for step in steps]
        kept[f"{case}/summary"] = np.stack(rows).astype("<f4")
    return kept


def _summary(full: Arrays, state: str, names: list[str]) -> Vector:
    """[variables, 5]: l2 norm, sum, largest absolute, first and last entry."""
    if f"{state}/{names[0]}" not in full:
        return np.zeros((0, 5))
    values = [full[f"{state}/{name}"].astype(np.float64).ravel() for name in names]
    return np.array([[np.sqrt(v @ v), v.sum(), np.abs(v).max(), v[0], v[-1]] for v in values])

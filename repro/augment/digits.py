"""Views of 8x8 digits: shifts by whole pixels (weak), or a rotation, a shear and a shift (strong). No flips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from repro.seeding import Shard, Step, Streams


@dataclass(frozen=True)
class Geometry:
    """One affine map for each of N images."""

    shift: Tensor  # float32 [N, 2]: pixels right and down
    degrees: Tensor  # float32 [N]: anticlockwise as seen
    shear: Tensor  # float32 [N]: pixels of horizontal shift per pixel of height

    def rows(self, shard: Shard) -> Geometry:
        """Those of a part of the images."""
        return Geometry(shard.rows(self.shift), shard.rows(self.degrees), shard.rows(self.shear))


def draw_weak(streams: Streams, name: str, step: Step, count: int) -> Geometry:
    """Shifts of -1, 0 or 1 pixel in each direction, uniformly, from the stream `name`."""
    shift = streams.integers(name, step, 3, (count, 2)).to(torch.float32) - 1
    return Geometry(shift, torch.zeros_like(shift[:, 0]), torch.zeros_like(shift[:, 0]))


def draw_strong(streams: Streams, step: Step, count: int, name: str = "strong view") -> Geometry:
    """Shifts of up to 1.5 pixels, rotations of up to 30 degrees, shears of up to 0.3, from the stream `name`."""
    unit = streams.uniform(name, step, (count, 4)) * 2 - 1
    return Geometry(unit[:, :2] * 1.5, unit[:, 2] * 30, unit[:, 3] * 0.3)


def apply(images: Tensor, geometry: Geometry) -> Tensor:
    """Moves images [N, C, H, W] float32 about their centre; bilinear, and 0 (paper) comes in from outside."""
    radians = torch.deg2rad(geometry.degrees)
    cos, sin = radians.cos(), radians.sin()
    height, width = images.shape[-2:]
    # affine_grid wants the map from output to input in coordinates from -1 to 1, x to the right and y down.
    right, down = geometry.shift[:, 0] * 2 / width, geometry.shift[:, 1] * 2 / height
    top = torch.stack([cos, -sin + geometry.shear * cos, -right], dim=-1)
    bottom = torch.stack([sin, cos + geometry.shear * sin, -down], dim=-1)
    inverse = torch.stack([top, bottom], dim=1).to(images.dtype)
    grid = functional.affine_grid(inverse, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

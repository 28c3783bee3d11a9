"""Two small data sets that need no files: the paper's two moons, and scikit-learn's digits; each with its views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from repro.augment.views import Part
from repro.data import DigitsData, Placement, TwoMoonsData
from repro.data.sets import HeldOutSet, Seeds, Source, TrainingSet, balanced, fingerprint
from repro.seeding import Drawn, Step, Streams


class TwoMoons(Source[TwoMoonsData]):
    """Two interleaving half circles (section 3.1), drawn afresh for each seed.

    The points are computed in float64 and rounded to 4 decimals, so that their hash is the same on every machine.
    Weak view and labelled view of a point are the point itself; the strong view is jittered.
    """

    classes = 2
    stacks = True

    def training_set(self, seeds: Seeds) -> TrainingSet:
        """`labels` labelled points, half in each moon, and the other `points - labels` unlabelled."""
        config, streams = self.config, Streams(seeds)
        points, classes = _moons(streams, "moons", config.points, config.noise)
        if config.placement is Placement.spread:
            angle = (torch.arange(config.labels, dtype=torch.float64) // 2 + 0.5) / (config.labels // 2) * math.pi
            jitter = streams.normal("label noise", 0, (config.labels, 2)).to(torch.float64) * config.noise
            points = torch.cat([_on_arc(angle) + jitter, points[..., config.labels :, :]], dim=-2)
        points = _rounded(points)
        index = torch.arange(config.points).expand(*streams.lead, config.points)
        chosen, rest = (slice(None, config.labels), slice(config.labels, None))
        return TrainingSet(
            labelled=points[..., chosen, :],
            labels=classes[..., chosen],
            unlabelled=points[..., rest, :],
            hidden_labels=classes[..., rest],
            labelled_indices=index[..., chosen],
            unlabelled_indices=index[..., rest],
        )

    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """`test_points` fresh points of the same distribution."""
        points, classes = _moons(Streams(seeds), "test moons", self.config.test_points, self.config.noise)
        return HeldOutSet(_rounded(points), classes)

    def to_input(self, examples: Tensor) -> Tensor:
        """As they are."""
        return examples

    def weak(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """As they are."""
        return examples

    def strong(self, examples: Tensor, weak: Tensor, part: Part, name: str) -> Tensor:
        """Jittered."""
        offsets = draw_jitter(part.streams, part.step, part.count(examples), self.config.jitter, name)
        return examples + part.shard.rows(offsets, len(part.streams.lead))


def draw_jitter(streams: Streams, step: Step, count: int, jitter: float, name: str = "strong view") -> Tensor:
    """Offsets of standard deviation `jitter` for `count` points, float32 [*lead, count, 2], from the stream `name`."""
    return streams.normal(name, step, (count, 2)) * jitter


def _moons(streams: Streams, name: str, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """`count` points and classes in turn 0, 1, 0, 1, ...; the angle along the arc is uniform in [0, pi]."""
    angle = streams.uniform(f"{name} angle", 0, (count,)).to(torch.float64) * math.pi
    jitter = streams.normal(f"{name} noise", 0, (count, 2)).to(torch.float64) * noise
    return _on_arc(angle) + jitter, (torch.arange(count) % 2).expand(*streams.lead, count)


def _on_arc(angle: Tensor) -> Tensor:
    """Noise-free points [..., n, 2] at angles [..., n] of the two arcs in turn."""
    upper = torch.stack([angle.cos(), angle.sin()], dim=-1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=-1)
    is_upper = (torch.arange(angle.shape[-1]) % 2 == 0)[:, None]
    return torch.where(is_upper, upper, lower)


def _rounded(points: Tensor) -> Tensor:
    return points.round(decimals=4).to(torch.float32)


class Digits(Source[DigitsData]):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (grey levels 0 to 16).

    Views are shifts by whole pixels (weak), or a rotation, a shear and a shift (strong). No flips.
    """

    SHA256 = "683b7a14f32684aae036ad4efa68c409c9fc82ecabaf99d2be9b1d9e3b026ac3"
    """`fingerprint(images, labels)` of the published data set."""
    GREY_LEVELS = 16
    classes = 10

    def training_set(self, seeds: int) -> TrainingSet:
        """`labels / 10` labelled images of each class, drawn by the seed; all other training images are unlabelled."""
        images, labels = load_digits()
        available = _fixed_order(labels)[self.config.test_images :]
        labelled = available[balanced(labels[available], self.config.labels, self.classes, seeds)]
        shuffled = available[Streams(seeds).permutation("split", 0, len(available))]
        rest = shuffled[~torch.isin(shuffled, labelled)]
        return TrainingSet(images[labelled], labels[labelled], images[rest], labels[rest], labelled, rest)

    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """The `test_images` images that no seed trains on."""
        images, labels = load_digits()
        held_out = _fixed_order(labels)[: self.config.test_images]
        return HeldOutSet(images[held_out], labels[held_out])

    def to_input(self, examples: Tensor) -> Tensor:
        """Grey levels as 0 to 1."""
        return examples.float() / self.GREY_LEVELS

    def weak(self, examples: Tensor, part: Part, name: str) -> Tensor:
        """Shifted by a pixel."""
        shifts = draw_shifts(part.streams, part.step, part.count(examples), name)
        return move(examples.float(), shifts.rows(part.shard))

    def strong(self, examples: Tensor, weak: Tensor, part: Part, name: str) -> Tensor:
        """Moved from where they stood."""
        motions = draw_motions(part.streams, part.step, part.count(examples), name)
        return move(examples.float(), motions.rows(part.shard))


def load_digits() -> tuple[Tensor, Tensor]:
    """All images, uint8 [1797, 1, 8, 8], and labels, int64 [1797]; others than the published are refused."""
    images, labels = _from_scikit_learn()
    if fingerprint(images, labels) != Digits.SHA256:
        raise ValueError("digits from scikit-learn are not the published ones (hash differs); install the version of "
                         "requirements.lock")  # fmt: skip
    return images, labels


@lru_cache(maxsize=1)
def _from_scikit_learn() -> tuple[Tensor, Tensor]:
    from sklearn import datasets

    bunch = datasets.load_digits()
    return torch.from_numpy(bunch.images.astype(np.uint8))[:, None], torch.from_numpy(bunch.target.astype(np.int64))


def _fixed_order(labels: Tensor) -> Tensor:
    """One permutation, the same for every seed, whose first images are held out."""
    return Streams(0).permutation("digits test set", 0, len(labels))


@dataclass(frozen=True)
class Motion(Drawn):
    """One affine map for each of N images."""

    shift: Tensor  # float32 [N, 2]: pixels right and down
    degrees: Tensor  # float32 [N]: anticlockwise as seen
    shear: Tensor  # float32 [N]: pixels of horizontal shift per pixel of height


def draw_shifts(streams: Streams, step: Step, count: int, name: str = "weak view") -> Motion:
    """Shifts of -1, 0 or 1 pixel in each direction, uniformly, from the stream `name`."""
    shift = streams.integers(name, step, 3, (count, 2)).to(torch.float32) - 1
    return Motion(shift, torch.zeros_like(shift[:, 0]), torch.zeros_like(shift[:, 0]))


def draw_motions(streams: Streams, step: Step, count: int, name: str = "strong view") -> Motion:
    """Shifts of up to 1.5 pixels, rotations of up to 30 degrees, shears of up to 0.3, from the stream `name`."""
    unit = streams.uniform(name, step, (count, 4)) * 2 - 1
    return Motion(unit[:, :2] * 1.5, unit[:, 2] * 30, unit[:, 3] * 0.3)


def move(images: Tensor, motion: Motion) -> Tensor:
    """Moves images [N, C, H, W] float32 about their centre; bilinear, and 0 (paper) comes in from outside."""
    radians = torch.deg2rad(motion.degrees)
    cos, sin = radians.cos(), radians.sin()
    height, width = images.shape[-2:]
    # affine_grid wants the map from output to input in coordinates from -1 to 1, x to the right and y down.
    right, down = motion.shift[:, 0] * 2 / width, motion.shift[:, 1] * 2 / height
    top = torch.stack([cos, -sin + motion.shear * cos, -right], dim=-1)
    bottom = torch.stack([sin, cos + motion.shear * sin, -down], dim=-1)
    inverse = torch.stack([top, bottom], dim=1).to(images.dtype)
    grid = functional.affine_grid(inverse, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

"""The batch of a step, with its views: a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from repro.augment.views import Part, draw_boxes
from repro.config import Config
from repro.data import source_of
from repro.data.images import ImageFiles
from repro.data.sets import Examples, Order
from repro.engine.distributed import ALONE, World
from repro.methods.state import Batch
from repro.seeding import Draws, Shard, Step, Streams
from repro.settings import ConfigError, Flip, Plant, View

_AHEAD = 2  # steps whose image files are read while a step is computed


class Batches:
    """The training data of one seed, or of R seeds stacked, in batches.

    `views` are those of the unlabelled examples that the method looks at. Examples in memory are kept on `device`, and
    views made there; the host draws which files a step reads. The processes of `world` share every batch equally.
    """

    def __init__(
        self, config: Config, views: frozenset[View], seeds: int | Sequence[int], device: torch.device,
        world: World = ALONE,
    ) -> None:  # fmt: skip
        self.streams = Streams(seeds, device)
        self._source = source_of(config.data)
        self.data = self._source.training_set(seeds).to(device)
        self._config, self._views, self._world, lead = config, views, world, len(self.streams.lead)
        self._rows = torch.arange(self.streams.lead[0], device=device)[:, None] if lead else None
        self._in_files = isinstance(self.data.unlabelled, ImageFiles)
        self._host = Streams(seeds) if self._in_files else self.streams
        budget, count = config.budget, self.data.unlabelled.shape[lead]
        unlabelled_batch = min(budget.unlabelled_batch, count)
        self._labelled = Order(self._host, "labelled order", self.data.labels.shape[lead], budget.labelled_batch)
        self._unlabelled = Order(self._host, "unlabelled order", count, unlabelled_batch)
        refuse_to_share(config, world.size, unlabelled_batch)
        self.hidden_labels_are_known = bool((self.data.hidden_labels >= 0).all())
        self._planted = planted_labels(config.plant, self.data.labels, self._source.classes, self._host)
        self._reading: dict[tuple[str, int], Callable[[], Tensor]] = {}

    def at(self, step: int, probe: bool = False) -> Batch:
        """This process's part of the batch of a step; `probe` asks for the metrics that cost extra passes."""
        return self.of(*self.order(step), step, probe)

    def order(self, step: int) -> tuple[Tensor, Tensor]:
        """Which labelled and unlabelled examples a step sees, int64 [*lead, B] and [*lead, U] of the whole batch."""
        return self._labelled.at(step), self._unlabelled.at(step)

    def of(
        self, labelled: Tensor, unlabelled: Tensor, step: Step, probe: bool = False, planting: bool | None = None
    ) -> Batch:
        """Like `at`, for the examples that `order` gives; with a tensor as `step`, `planting` must be said."""
        shard = self._world.shard
        x_l = self._examples(self.data.labelled, labelled, "labelled view", step, shard)
        x_u = self._examples(self.data.unlabelled, unlabelled, "weak view", step, shard)
        if self._in_files and isinstance(step, int):
            self._read_ahead(step)
        source, wanted = self._source, self._config.method.learned_view is View.strong
        part = Part(self.streams, step, shard, self._world.whole)
        weak, strong = source.unlabelled_views(x_u, self._views, part)
        planting = planting if isinstance(step, Tensor) else step < self._config.plant.steps
        return Batch(
            labelled=source.labelled_view(x_l, part),
            labels=self.pick(self._planted if planting else self.data.labels, shard.rows(labelled, -1)),
            weak=weak,
            strong=strong,
            hidden_labels=self.pick(self.data.hidden_labels, shard.rows(unlabelled, -1)).clamp_min(0),
            draws=Draws(self.streams, step, shard),
            probe=probe,
            mean_over_processes=self._world.mean,
            strong_labelled=source.strong_labelled_view(x_l, part) if wanted else None,
        )

    def labelled_alone(self, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The training view and the labels of the labelled examples `index`, int64 [*lead, n]."""
        self._reading.clear()  # begun for the next step, where training ends before its planned end
        examples = self._examples(self.data.labelled, index, "labelled view", step, Shard())
        return self._source.labelled_view(examples, Part(self.streams, step)), self.pick(self.data.labels, index)

    def pick(self, tensor: Tensor, index: Tensor) -> Tensor:
        """Entries `index` [*lead, n] of tensor [*lead, N, ...]."""
        lead = len(self.streams.lead)
        if index.shape[-1] == tensor.shape[lead]:
            return tensor  # `Order` gives a batch of all examples in their order
        index = index.to(tensor.device)
        return tensor[(self._rows, index)] if lead else tensor[index]

    def _examples(self, examples: Examples, index: Tensor, view: str, step: Step, shard: Shard) -> Tensor:
        """This process's part of the examples `index`, on the device; images in files are cropped at random."""
        if not isinstance(examples, ImageFiles):
            return self.pick(examples, shard.rows(index, -1))
        if view == "weak view" and not self._views:
            return torch.empty(len(shard.rows(index)), 0)  # nobody looks at them
        assert isinstance(step, int)  # noqa: S101 - no step that reads files is recorded
        reading = self._reading.pop((view, step), None) or self._start_reading(examples, index, view, step, shard)
        images = reading()
        on_gpu = self.streams.device.type == "cuda"
        return images.pin_memory().to(self.streams.device, non_blocking=True) if on_gpu else images

    def _start_reading(
        self, files: ImageFiles, index: Tensor, view: str, step: int, shard: Shard
    ) -> Callable[[], Tensor]:
        """Draws boxes for the whole batch, and starts reading this process's part of it."""
        some = files[index]
        boxes = torch.from_numpy(draw_boxes(self._host, view, step, some.sides, some.views))
        part = files[shard.rows(index)]
        return part.start_reading(shard.rows(boxes).numpy(), self._config.engine.readers)

    def _read_ahead(self, step: int) -> None:
        """Starts reading the files of the next steps."""
        sources = [("labelled view", self.data.labelled, self._labelled)]
        if self._views:
            sources.append(("weak view", self.data.unlabelled, self._unlabelled))
        wanted = range(step + 1, min(step + 1 + _AHEAD, self._config.budget.steps))
        shard = self._world.shard
        for later in wanted:
            for view, files, order in sources:
                if isinstance(files, ImageFiles) and (view, later) not in self._reading:
                    self._reading[view, later] = self._start_reading(files, order.at(later), view, later, shard)
        self._reading = {key: reading for key, reading in self._reading.items() if key[1] in wanted}


PAIR = (3, 5)
"""The classes that `Flip.pair` exchanges: of CIFAR-10, cats and dogs."""


def planted_labels(plant: Plant, labels: Tensor, classes: int, streams: Streams) -> Tensor:
    """The labels int64 [*lead, B] during planting: some or all of those given are changed to another class."""
    if not plant.steps:
        return labels
    if plant.flip is Flip.all:
        return (labels + 1) % classes
    if plant.flip is Flip.pair:
        if classes <= max(PAIR):
            raise ConfigError(f"plant.flip = pair: exchanges classes {PAIR[0]} and {PAIR[1]}, and there are {classes} "
                              "classes; use all or random")  # fmt: skip
        first, second = PAIR
        return torch.where(labels == first, second, torch.where(labels == second, first, labels))
    count = labels.shape[-1]
    chosen = streams.permutation("planted labels", 0, count) < round(plant.share * count)
    other = (labels.cpu() + 1 + streams.integers("planted classes", 0, classes - 1, (count,)).cpu()) % classes
    return torch.where(chosen.cpu(), other, labels.cpu()).to(labels.device)


def refuse_to_share(config: Config, processes: int, unlabelled_batch: int) -> None:
    """Refuses what several processes cannot do: unequal parts, mixing whole batches, recorded or compiled steps."""
    if processes == 1:
        return
    for name, examples in {"labelled": config.budget.labelled_batch, "unlabelled": unlabelled_batch}.items():
        if examples % processes:
            raise ConfigError(
                f"budget.{name}_batch = {getattr(config.budget, f'{name}_batch')}: {processes} processes cannot share "
                f"{examples} examples equally; set a multiple of {processes}, or start another number of processes"
            )
    for key in ("method.mixup", "method.teacher_mixup", "engine.cuda_graph", "engine.compile", "engine.fastest"):
        part, name = key.split(".")
        if value := getattr(getattr(config, part), name, 0):
            raise ConfigError(f"{key} = {value}: is for one process, not for {processes}; take it out of the settings, "
                              "or start one process")  # fmt: skip

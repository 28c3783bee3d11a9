"""The batch of a step, with its views: a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from repro.augment.crops import draw_boxes
from repro.augment.views import as_evaluated, labelled_view, strong_labelled_view, unlabelled_views
from repro.config.data import FolderData
from repro.config.methods import View, learned_view
from repro.config.schema import Config
from repro.data.image_files import ImageFiles
from repro.data.sets import Examples
from repro.data.training import training_set
from repro.methods.state import Batch
from repro.seeding import Draws, Order, Streams

_AHEAD = 2  # steps whose image files are read while a step is computed
_PIECE = 512  # examples that are handed over at once, where all are wanted


class Batches:
    """The training data of one seed, or of R seeds stacked, in batches.

    Args:
        config: the settings of data, batch sizes, and readers.
        views: of the unlabelled examples that the method looks at.
        seeds: one seed, or R seeds.
        device: where examples in memory lie and views are made; which files a step reads is drawn on the host.
    """

    def __init__(
        self, config: Config, views: frozenset[View], seeds: int | Sequence[int], device: torch.device
    ) -> None:
        self.streams = Streams(seeds, device)
        self.data = training_set(config.data, seeds).to(device)
        self._config, self._views, lead = config, views, len(self.streams.lead)
        self._rows = torch.arange(self.streams.lead[0], device=device)[:, None] if lead else None
        self._in_files = isinstance(self.data.unlabelled, ImageFiles)
        self._host = Streams(seeds) if self._in_files else self.streams
        budget, count = config.budget, self.data.unlabelled.shape[lead]
        self._labelled = Order(self._host, "labelled order", self.data.labels.shape[lead], budget.labelled_batch)
        self._unlabelled = Order(self._host, "unlabelled order", count, min(budget.unlabelled_batch, count))
        self.hidden_labels_are_known = bool((self.data.hidden_labels >= 0).all())
        self._reading: dict[tuple[str, int], Callable[[], Tensor]] = {}

    def at(self, step: int, probe: bool = False) -> Batch:
        """The batch of a step; `probe` asks for the metrics that cost extra passes."""
        labelled, unlabelled = self._labelled.at(step), self._unlabelled.at(step)
        x_l = self._examples(self.data.labelled, labelled, "labelled view", step)
        x_u = self._examples(self.data.unlabelled, unlabelled, "weak view", step)
        if self._in_files:
            self._read_ahead(step)
        settings, is_strong = self._config.data, learned_view(self._config.method) is View.strong
        weak, strong = unlabelled_views(x_u, settings, self._views, self.streams, step)
        return Batch(
            labelled=labelled_view(x_l, settings, self.streams, step),
            labels=self.pick(self.data.labels, labelled),
            weak=weak,
            strong=strong,
            hidden_labels=self.pick(self.data.hidden_labels, unlabelled).clamp_min(0),
            draws=Draws(self.streams, step),
            probe=probe,
            strong_labelled=strong_labelled_view(x_l, settings, self.streams, step) if is_strong else None,
            labelled_index=labelled.to(self.streams.device),
            unlabelled_index=unlabelled.to(self.streams.device),
            everything=self.everything,
        )

    def everything(self) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """All labelled and all unlabelled examples, as networks are evaluated on them, in pieces."""
        return self._pieces(self.data.labelled), self._pieces(self.data.unlabelled)

    def _pieces(self, examples: Examples) -> Iterator[Tensor]:
        if isinstance(examples, ImageFiles):
            parts: Iterable[Examples] = (examples[at : at + _PIECE] for at in range(0, len(examples), _PIECE))
        else:
            parts = torch.split(examples, _PIECE, dim=len(self.streams.lead))
        for part in parts:
            yield as_evaluated(part, self._config.data, self._config.engine.readers).to(self.streams.device)

    def labelled_alone(self, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The view trained on and the labels of any labelled examples, by int64 [*lead, n]."""
        examples = self._examples(self.data.labelled, index, "labelled view", step)
        return labelled_view(examples, self._config.data, self.streams, step), self.pick(self.data.labels, index)

    def pick(self, tensor: Tensor, index: Tensor) -> Tensor:
        """Entries `index` [*lead, n] of tensor [*lead, N, ...]."""
        lead = len(self.streams.lead)
        if index.shape[-1] == tensor.shape[lead]:
            return tensor  # `Order` gives a batch of all examples in their order
        index = index.to(tensor.device)
        return tensor[(self._rows, index)] if lead else tensor[index]

    def _examples(self, examples: Examples, index: Tensor, view: str, step: int) -> Tensor:
        """Examples `index`; those in files cropped at random, on the device."""
        if not isinstance(examples, ImageFiles):
            return self.pick(examples, index)
        if view == "weak view" and not self._views:
            return torch.empty(len(index), 0)  # nobody looks at them
        reading = self._reading.pop((view, step), None) or self._start_reading(examples, index, view, step)
        images = reading()
        on_gpu = self.streams.device.type == "cuda"
        return images.pin_memory().to(self.streams.device, non_blocking=True) if on_gpu else images

    def _start_reading(self, files: ImageFiles, index: Tensor, view: str, step: int) -> Callable[[], Tensor]:
        data = self._config.data
        assert isinstance(data, FolderData)  # noqa: S101 - only a folder has files
        chosen = files[index]
        boxes = draw_boxes(self._host, view, step, chosen.sides, data.views)
        return chosen.start_reading(boxes, self._config.engine.readers)

    def _read_ahead(self, step: int) -> None:
        """Begins to read what the next steps will ask for."""
        sources = [("labelled view", self.data.labelled, self._labelled)]
        if self._views:
            sources.append(("weak view", self.data.unlabelled, self._unlabelled))
        wanted = range(step + 1, min(step + 1 + _AHEAD, self._config.budget.steps))
        for later in wanted:
            for view, files, order in sources:
                if isinstance(files, ImageFiles) and (view, later) not in self._reading:
                    self._reading[(view, later)] = self._start_reading(files, order.at(later), view, later)
        self._reading = {key: reading for key, reading in self._reading.items() if key[1] in wanted}

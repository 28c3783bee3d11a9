"""What to change where memory does not suffice, in the order in which it costs least: values that would fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from repro.config.check import check
from repro.config.schema import Config
from repro.engine.device import choose_device
from repro.train.memory import bytes_needed

_CHUNKS = (2, 4, 8)
_HALVINGS = 6

Change = tuple[str, Config]
"""Settings as on a command line, and the run with them."""


def fitting(config: Config, processes: int, side_by_side: int, room: int) -> str:
    """A remedy for a run that needs more than `room` bytes, in that order: what changes nothing first.

    Fewer seeds at once, recomputation and chunks are named where each is enough, else together; then smaller batches.

    Args:
        config: of the run.
        processes: that train at once.
        side_by_side: trainings in each of them.
        room: bytes for all.
    """
    alone = _fewer(config, processes, side_by_side, room)
    for family in (_recompute(config), _unrecorded(config), _chunks(config)):
        alone += _first_that_fits(family, processes, side_by_side, room)
    options = alone or _together(config, processes, side_by_side, room)
    options += _first_that_fits(_smaller(config), processes, side_by_side, room)
    return f"set {', or '.join(options)}" if options else "no setting makes it fit; take a smaller network"


def _fewer(config: Config, processes: int, side_by_side: int, room: int) -> list[str]:
    """Fewer trainings in each process, then fewer processes, where those that are planned are too many."""
    one = bytes_needed(config)
    more = bytes_needed(config, 2) - one if side_by_side > 1 else one
    in_each = 1 + (room // processes - one) // more
    if in_each >= side_by_side or room < one:
        return []
    said = [f"engine.side_by_side={max(1, in_each)}"] if side_by_side > 1 else []
    return [" ".join([*said, *([] if in_each > 0 else [f"budget.workers={room // one}"])])]


def _first_that_fits(changes: Iterable[Change], processes: int, side_by_side: int, room: int) -> list[str]:
    for said, changed in changes:
        need = bytes_needed(changed, side_by_side)
        if processes * need <= room:
            return [f"{said} ({size(need)}{' each' if processes > 1 else ''})"]
    return []


def _together(config: Config, processes: int, side_by_side: int, room: int) -> list[str]:
    said = ["engine.side_by_side=1"] if side_by_side > 1 else []
    said += ["budget.workers=1"] if processes > 1 else []
    for change in (_recompute, _unrecorded):
        for name, changed in change(config):
            said, config = [*said, name], changed
    found = _first_that_fits([("", config), *_chunks(config)], 1, 1, room)
    return [" ".join([*said, found[0]]).replace("  ", " ")] if found else []


def _unrecorded(config: Config) -> Iterator[Change]:
    if config.engine.cuda_graph and choose_device().type == "cuda":
        yield from _possible(
            "engine.cuda_graph=false", replace(config, engine=replace(config.engine, cuda_graph=False))
        )


def _recompute(config: Config) -> Iterator[Change]:
    if not config.engine.recompute:
        yield from _possible("engine.recompute=true", replace(config, engine=replace(config.engine, recompute=True)))


def _chunks(config: Config) -> Iterator[Change]:
    for count in _CHUNKS:
        if count > config.engine.micro_batches:
            changed = replace(config, engine=replace(config.engine, micro_batches=count))
            yield from _possible(f"engine.micro_batches={count}", changed)


def _smaller(config: Config) -> Iterator[Change]:
    budget = config.budget
    for halving in range(1, _HALVINGS + 1):
        labelled, unlabelled = budget.labelled_batch >> halving, budget.unlabelled_batch >> halving
        finetuned = max(1, config.finetune.batch >> halving)
        said = f"budget.labelled_batch={labelled} budget.unlabelled_batch={unlabelled}"
        said += f" finetune.batch={finetuned}" if config.finetune.steps else ""
        changed = replace(
            config,
            budget=replace(budget, labelled_batch=labelled, unlabelled_batch=unlabelled),
            finetune=replace(config.finetune, batch=finetuned),
        )
        yield from _possible(said, changed)


def _possible(said: str, changed: Config) -> Iterator[Change]:
    if not check(changed):
        yield said, changed


def names_of_settings(config: Config) -> str:
    """The same settings with the values that did not suffice, for when memory has run out: a remedy."""
    budget, engine = config.budget, config.engine
    said = [f"lower budget.workers = {budget.workers}"] if budget.workers > 1 and choose_device().type == "cpu" else []
    said += [f"lower engine.side_by_side = {engine.side_by_side}"] if engine.side_by_side > 1 else []
    said += ["set engine.recompute=true"] if [*_recompute(config)] else []
    said += ["set engine.cuda_graph=false"] if [*_unrecorded(config)] else []
    said += [f"raise engine.micro_batches = {engine.micro_batches}"] if [*_chunks(config)] else []
    said += [f"lower budget.stack = {budget.stack}"] if budget.stack > 1 else []
    batches = f"budget.labelled_batch = {budget.labelled_batch}, budget.unlabelled_batch = {budget.unlabelled_batch}"
    return ", or ".join([*said, f"take smaller batches ({batches})"])


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"

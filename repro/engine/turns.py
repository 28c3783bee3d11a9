"""Several trainings in one process, a step of each in turn: for a GPU that one of them leaves half idle.

On a GPU each has a stream of its own, so that its kernels run beside the others', and the host gives one the next step
while the device is at another's. What each computes is what it would compute alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TypeVar

import torch

Value = TypeVar("Value")

Chunks = dict[int, list[int]]
"""Seeds that are trained as one model, by their number among all of the run."""


def groups_of(chunks: Sequence[list[int]], side_by_side: int) -> list[Chunks]:
    """Which chunks of seeds one process trains in turns, in their order."""
    numbered = list(enumerate(chunks))
    return [dict(numbered[i : i + side_by_side]) for i in range(0, len(numbered), side_by_side)]


def in_turns(
    tasks: Sequence[Generator[None, None, Value]],
    device: torch.device,
    failed: Callable[[Exception], None] = lambda _: None,
) -> list[Value]:
    """What the tasks return. Each goes on to its next pause, then the next one does, until all have ended.

    Args:
        tasks: that pause after every step, and wait for nobody else.
        device: that they compute on.
        failed: told of an error as soon as one of them raises it, to have the others end.

    Raises:
        Exception: the first that a task raised, when all the others have ended.
    """
    own = _streams(len(tasks), device)
    results: dict[int, Value] = {}
    errors: list[Exception] = []
    going = dict(enumerate(tasks))
    while going:
        for number, task in list(going.items()):
            try:
                with own[number]():
                    next(task)
            except StopIteration as end:
                results[number] = end.value
                del going[number]
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
                del going[number], task
                _let_go(error)
                failed(error)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(tasks))]


def _let_go(error: Exception) -> None:
    """Of all that the code that raised it held: where memory ran out, the others need that to save."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__context__


def to_its_end(task: Generator[None, None, Value]) -> Value:
    """What one task returns that pauses for nobody.

    Raises:
        Exception: what it raises.
    """
    while True:
        try:
            next(task)
        except StopIteration as end:
            value: Value = end.value
            return value


def abreast(steps: Sequence[Callable[[], object]], device: torch.device) -> Callable[[], None]:
    """These steps as one: what a round of `in_turns` does."""
    own = _streams(len(steps), device)

    def step() -> None:
        for stream, one in zip(own, steps, strict=True):
            with stream():
                one()

    return step


def _streams(count: int, device: torch.device) -> list[Callable[[], AbstractContextManager[object]]]:
    """One for each of several trainings on a GPU; a single one, or those on a CPU, take what is there."""
    if device.type != "cuda" or count == 1:
        return [nullcontext] * count
    return [partial(torch.cuda.stream, _stream(number)) for number in range(count)]


@cache
def _stream(number: int) -> torch.cuda.Stream:
    """That of the trainings in this place, one after another: libraries keep memory for each stream that there was."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]

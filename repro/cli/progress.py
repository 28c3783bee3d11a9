"""Progress of several worker processes as one bar, or as plain lines where no one watches a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

from tqdm import tqdm

_LINES = 20  # the last ones, by which the time left is judged


class Progress:
    """Steps done of `total`.

    Args:
        label: what is being done.
        total: steps in all.
        interval: seconds between plain lines.
    """

    def __init__(self, label: str, total: int, interval: float = 15.0) -> None:
        self._label, self._total, self._interval = label, total, interval
        self._started = self._last = time.monotonic()
        self._done = 0
        self._lines: deque[tuple[float, int]] = deque(maxlen=_LINES)  # when each was written, and what was done by then
        self._bar = tqdm(total=total, desc=label, unit="step") if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            of = "" if self._done >= self._total else f" of {self._total}"
            print(f"{self._label}: {self._done}{of} steps after {time.monotonic() - self._started:.0f} s", flush=True)

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)

    def show(self, done: int) -> None:
        """`done` steps of the total are done."""
        self._done = min(done, self._total)
        if self._bar is not None:
            self._bar.update(min(done, self._total) - self._bar.n)
        elif time.monotonic() - self._last >= self._interval:
            self._last = time.monotonic()
            print(f"{self._label}: {done}/{self._total} steps{self._left(done)}", flush=True)

    def _left(self, done: int) -> str:
        """How long it will take, by the last lines: what came before may be of another day, or of another pace."""
        self._lines.append((self._last, done))
        begun, before = self._lines[0]
        if done == before:
            return ""
        return f", about {(self._last - begun) * (self._total - done) / (done - before):.0f} s left"

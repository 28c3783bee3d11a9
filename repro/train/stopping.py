"""How a training is stopped and watched: signals, flags that workers look at, exit statuses, a line of progress."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import RawArray, connection
from types import FrameType
from typing import Any, Self

from tqdm import tqdm

EXIT_OUT_OF_TIME = 75  # EX_TEMPFAIL: the state is saved; run the same command again
EXIT_STOPPED = 85  # by SIGTERM or SIGHUP; the state is saved; batch systems are told to restart on this status
EXIT_INTERRUPTED = 130  # by Ctrl-C; the state is saved too

_STATUS = {signal.SIGTERM: EXIT_STOPPED, signal.SIGHUP: EXIT_STOPPED, signal.SIGUSR2: EXIT_OUT_OF_TIME,
           signal.SIGINT: EXIT_INTERRUPTED}  # fmt: skip
"""Batch systems are asked to send SIGUSR2 a little before a job's time is over."""

_ONE_WISH = 2.0
"""Seconds in which further signals count as the first: batch systems signal the main process, then all."""


@dataclass(frozen=True)
class Flags:
    """Two shared bytes that are only ever raised. So they need no lock, which a killed process might hold for ever."""

    shared: Any = field(default_factory=lambda: RawArray("b", 2))

    def stop(self) -> None:
        """Workers save and stop after this step."""
        self.shared[0] = 1

    def end(self) -> None:
        """Workers save, stop and end, which no idle worker of a broken pool would do otherwise."""
        self.shared[0] = self.shared[1] = 1

    @property
    def stops(self) -> bool:
        """Whether to save and stop."""
        return bool(self.shared[0])

    @property
    def ends(self) -> bool:
        """Whether to end when idle."""
        return bool(self.shared[1])


class Stopping:
    """Within the block, signals raise the flag that workers look at after each step; a second one, later, ends all."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._before: dict[int, Any] = {}
        self._first = math.inf
        self.status = 0  # the exit status that the first signal asks for
        self.name = ""  # of that signal

    def __enter__(self) -> Self:
        heard = [number for number in _STATUS if signal.getsignal(number) is not signal.SIG_IGN]  # as of nohup
        self._before = {number: signal.signal(number, self._raise) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _: FrameType | None) -> None:
        if time.monotonic() > self._first + _ONE_WISH:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self.status:
            self._first = time.monotonic()
            self.status, self.name = _STATUS[signal.Signals(number)], signal.Signals(number).name
        self._flags.stop()

    @staticmethod
    @contextlib.contextmanager
    def held_back() -> Iterator[None]:
        """Workers that start within the block get signals only after they have called `in_worker`."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STATUS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @staticmethod
    def in_worker(flags: Flags) -> None:
        """A worker raises the flag too, since batch systems signal every process; it leaves Ctrl-C to its parent."""
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda *_: flags.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STATUS)


def die_with_parent(or_when: Callable[[], bool] = lambda: False) -> None:
    """Ends this worker with its parent, so that no two processes write one state, or when `or_when`, asked often."""
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        while not connection.wait([parent.sentinel], timeout=0.5) and not or_when():
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_INTERVAL = 15.0  # seconds between plain lines
_LINES = 20  # the last ones, from which the time left is estimated


class Progress(contextlib.AbstractContextManager["Progress", None]):
    """Shows the steps done of `total`, which is a guess if training gets as many steps as fit before it `ends`.

    It is `silent` where another process of this training shows them.
    """

    def __init__(self, label: str, total: int, ends: float = math.inf, silent: bool = False) -> None:
        self._label, self._total, self._ends, self._silent = label, total, ends, silent
        self._started = self._last = time.monotonic()
        self._done = 0
        self._lines: deque[tuple[float, int]] = deque(maxlen=_LINES)  # when each was written, and what was done by then
        self._bar = None
        if sys.stderr.isatty() and not silent:
            timed = None if math.isinf(ends) else "{desc}: {n} steps, {elapsed} gone{postfix}"
            self._bar = tqdm(total=total, desc=label, unit="step", bar_format=timed)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            of = "" if self._done >= self._total or self._ends < math.inf else f" of {self._total}"
            self.say(f"{self._label}: {self._done}{of} steps after {time.monotonic() - self._started:.0f} s")

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(line)
        elif not self._silent:
            print(line, flush=True)

    def show(self, done: int) -> None:
        """`done` steps of the total are done."""
        self._done = done = done if self._ends < math.inf else min(done, self._total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if time.monotonic() - self._last >= 1:
                self._last = time.monotonic()
                self._bar.set_postfix_str(self._left(done)[2:] if self._ends < math.inf else "")
        elif time.monotonic() - self._last >= _INTERVAL:
            self._last = time.monotonic()
            of = "" if self._ends < math.inf else f"/{self._total}"
            self.say(f"{self._label}: {done}{of} steps{self._left(done)}")

    def _left(self, done: int) -> str:
        """The time left, from the last lines: earlier steps may come from a checkpoint, or had another speed."""
        if self._ends < math.inf:
            left = self._ends - self._last
            return f", {left:.0f} s left" if left > 0 else ", the last one under way"
        self._lines.append((self._last, done))
        begun, before = self._lines[0]
        if done == before:
            return ""
        return f", about {(self._last - begun) * (self._total - done) / (done - before):.0f} s left"

"""How training ends before its time: a signal raises a flag, workers save and stop, and the exit status says why."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_OUT_OF_TIME = 75  # EX_TEMPFAIL: the state is saved, run the same command again
EXIT_STOPPED = 85  # by SIGTERM or SIGHUP; the state is saved: a status that batch systems are told to start again on
EXIT_INTERRUPTED = 130  # by Ctrl-C; the state is saved too

_STATUS = {signal.SIGTERM: EXIT_STOPPED, signal.SIGHUP: EXIT_STOPPED, signal.SIGINT: EXIT_INTERRUPTED}

_ONE_WISH = 2.0
"""Seconds in which further signals are the same wish: batch systems signal the main process and then all."""


@dataclass(frozen=True)
class Flags:
    """Two shared bytes, each of which is only ever raised: so that nobody waits for a lock whose holder was killed."""

    shared: Any  # [save and stop; and end, since the pool is broken and nothing else will end an idle worker]

    def stop(self) -> None:
        """Workers save and stop after this step."""
        self.shared[0] = 1

    def end(self) -> None:
        """Workers save, stop and end."""
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
    """Within the block, SIGTERM, SIGHUP and Ctrl-C raise the flag instead of ending the process.

    A second one, some seconds later, ends it at once. What `nohup` ignores stays ignored.

    Args:
        flags: that workers look at after each step.
    """

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._before: dict[int, Any] = {}
        self._first = math.inf
        self.status = 0  # the exit status that the first signal asks for
        self.name = ""  # of that signal

    def __enter__(self) -> Self:
        heard = [number for number in _STATUS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._raise) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Workers that start within the block get the signals only once they listen, in `in_worker`."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STATUS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @staticmethod
    def in_worker(flags: Flags) -> None:
        """Batch systems signal every process of a job: a worker then raises the flag too; Ctrl-C is its parent's."""
        signal.signal(signal.SIGTERM, lambda *_: flags.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STATUS)


def die_with_parent(or_when: Callable[[], bool] = lambda: False) -> None:
    """Ends this worker as soon as its parent is gone, however it went, so that no two processes write one state.

    Args:
        or_when: asked twice a second; ends the worker too.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("only a worker process has a parent to die with")

    def watch() -> None:
        while not wait([parent.sentinel], timeout=0.5) and not or_when():
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

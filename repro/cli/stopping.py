"""How training ends before its time: a signal raises a flag, workers save and stop, and the exit status says why."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_OUT_OF_TIME = 75  # EX_TEMPFAIL: the state is saved, run the same command again
EXIT_STOPPED = 85  # by SIGTERM; the state is saved: a status that batch systems are told to start again on
EXIT_INTERRUPTED = 130  # by Ctrl-C; the state is saved too

GO_ON, SAVE_AND_STOP, SAVE_AND_END = 0, 1, 2
"""Values of the flag; the last one is for workers whose pool is broken, so that nothing else will end them."""

_STATUS = {signal.SIGTERM: EXIT_STOPPED, signal.SIGINT: EXIT_INTERRUPTED}


class Stopping:
    """Within the block, SIGTERM and Ctrl-C raise the flag instead of ending the process; a second one ends it at once.

    Args:
        flag: a shared value, `GO_ON` or another, that workers look at after each step.
    """

    def __init__(self, flag: Any) -> None:
        self._flag = flag
        self._before: dict[int, Any] = {}
        self.status = 0  # the exit status that the first signal asks for
        self.name = ""  # of that signal

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._raise) for number in _STATUS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _: FrameType | None) -> None:
        if self.status:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.status, self.name = _STATUS[signal.Signals(number)], signal.Signals(number).name
        self._flag.value = SAVE_AND_STOP

    @staticmethod
    @contextlib.contextmanager
    def held_back() -> Iterator[None]:
        """Workers that start within the block get both signals only once they listen, in `in_worker`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _STATUS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STATUS)

    @staticmethod
    def in_worker(flag: Any) -> None:
        """Batch systems signal every process of a job: a worker then raises the flag too; Ctrl-C is its parent's."""

        def up(_: int, __: FrameType | None) -> None:
            flag.value = max(flag.value, SAVE_AND_STOP)

        signal.signal(signal.SIGTERM, up)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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

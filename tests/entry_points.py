"""Calls of `repro <verb>` as a user's shell makes them, but forked: a new Python would load PyTorch for each.

They are forked from a process that has loaded everything and done nothing, for a process that has once computed with
several threads has no child that can.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess

from repro.__main__ import main

ROOT = Path(__file__).parent.parent
LOADED = ["hydra", "repro.train.prepare", "repro.train.launch", "repro.evaluate.evaluate", "repro.verify.rules",
          "repro.report.pages", "repro.fit.command", "matplotlib.figure", __name__]  # fmt: skip


@cache
def clean_processes() -> ForkServerContext:
    """Whose processes are forked from one that has loaded the verbs and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()
    return context


def call(place: Path, *words: str, spoil: Callable[[], None] | None = None) -> CompletedProcess[str]:
    """`python -m repro <words>` in `place`, every warning an error; its status and what it printed.

    Args:
        place: the working directory.
        words: the verb and its arguments.
        spoil: called first in the new process, to which it is sent by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, log) for log in ("out", "err")]
        process = clean_processes().Process(target=_call, args=(place, words, logs, spoil))
        process.start()
        process.join(240)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        return CompletedProcess(words, process.exitcode, *(log.read_text() for log in logs))


def _call(place: Path, words: tuple[str, ...], logs: list[Path], spoil: Callable[[], None] | None) -> None:
    os.setsid()
    os.chdir(place)
    for descriptor, log in enumerate(logs, start=1):
        os.dup2(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY), descriptor)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`torch.jit")
    if spoil:
        spoil()
    main(list(words))

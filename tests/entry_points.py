"""Calls of the entry points as a user's shell makes them, but forked: a new Python would load PyTorch for each.

They are forked from a process that has loaded everything and done nothing, for a process that has once computed with
several threads has no child that can.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess

from repro.cli.entry import run

ROOT = Path(__file__).parent.parent


@cache
def clean_processes() -> ForkServerContext:
    """Whose processes are forked from one that has loaded the entry points and done nothing."""
    context = multiprocessing.get_context("forkserver")
    names = sorted(path.stem for path in (ROOT / "repro/cli").glob("*.py"))
    context.set_forkserver_preload([f"repro.cli.{name}" for name in names if name != "__init__"] + [__name__])
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()
    return context


def call(place: Path, name: str, *arguments: str, spoil: Callable[[], None] | None = None) -> CompletedProcess[str]:
    """`python -m repro.cli.<name> <arguments>` in `place`, every warning an error; its status and what it printed.

    Args:
        place: the working directory.
        name: of the entry point.
        arguments: on its command line.
        spoil: called first in the new process, to which it is sent by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, log) for log in ("out", "err")]
        process = clean_processes().Process(target=_call, args=(place, name, arguments, logs, spoil))
        process.start()
        process.join(240)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        return CompletedProcess([name, *arguments], process.exitcode, *(log.read_text() for log in logs))


def _call(
    place: Path, name: str, arguments: tuple[str, ...], logs: list[Path], spoil: Callable[[], None] | None
) -> None:
    os.setsid()
    os.chdir(place)
    for descriptor, log in enumerate(logs, start=1):
        os.dup2(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY), descriptor)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`torch.jit")
    sys.argv = [name, *arguments]
    if spoil:
        spoil()
    run(importlib.import_module(f"repro.cli.{name}").main)

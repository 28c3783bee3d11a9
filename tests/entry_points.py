"""Calls of the entry points as a user's shell makes them, but forked: a new Python would load PyTorch for each."""

from __future__ import annotations

import importlib
import signal
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from tests.survival.workplace import start


def call(place: Path, name: str, *arguments: str, spoil: Callable[[], None] = lambda: None) -> CompletedProcess[str]:
    """`python -m repro.cli.<name> <arguments>` in `place`, every warning an error; its status and what it printed.

    Args:
        place: the working directory.
        name: of the entry point.
        arguments: on its command line.
        spoil: called first in the new process.
    """

    def begin() -> None:
        warnings.resetwarnings()
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "`torch.jit")
        spoil()

    main = importlib.import_module(f"repro.cli.{name}").main
    with tempfile.TemporaryDirectory() as logs:
        out, err = Path(logs, "out"), Path(logs, "err")
        process = start(place, main, *arguments, spoil=begin, logs=(str(out), str(err)))
        status = process.wait(240)
        if status is None:
            process.send_all(signal.SIGKILL)
            status = -signal.SIGKILL
        return CompletedProcess([name, *arguments], status, out.read_text(), err.read_text())

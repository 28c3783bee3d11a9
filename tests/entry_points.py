"""Calls of `repro <verb>` as a user's shell makes them, but forked: a new Python would load PyTorch for each.

They are forked from a process that has loaded everything and done nothing, for a process that has once computed with
several threads has no child that can.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

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


def ran(place: Path, *words: str, spoil: Callable[[], None] | None = None) -> str:
    """What it printed where it ends well, without a word of complaint."""
    done = call(place, *words, spoil=spoil)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    return done.stdout


def trained(place: Path, runs: Mapping[str, Mapping[str, Any]], spoil: Callable[[], None] | None = None) -> str:
    """Plans these runs (seeds and overrides of each), prepares and trains them; what training printed."""
    (place / "params.yaml").write_text(yaml.safe_dump({"runs": {name: {**run} for name, run in runs.items()}}))
    ran(place, "prepare", spoil=spoil)
    return "".join(ran(place, "train", name, "--seeds", run["seeds"], spoil=spoil) for name, run in runs.items())


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


def python(*words: str, cwd: Path = ROOT, root: Path = ROOT, **environment: str) -> CompletedProcess[str]:
    """`python <words>` with the project's code in `root`; its status and what it printed."""
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, *words], cwd=cwd, env=os.environ | {"PYTHONPATH": str(root)} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def started(place: Path, *words: str, **how: Any) -> subprocess.Popen[str]:
    """The same in `place`, in the background."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *words], cwd=place, env=environment, text=True, **how)  # noqa: S603

"""A GPU's view of every kind of step, without one: nothing forbidden, no wait, and no more operations than budgeted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.settings import read_yaml
from tests.gpu import standin

BUDGET = read_yaml(Path(__file__).with_name("budget.yaml"))
RUNS = [*BUDGET["recorded"], *BUDGET["taken"]]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standin")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, built anew."""
    if why := standin.missing():
        pytest.skip(f"no stand-in for a GPU here: {why}")
    return standin.build(tmp_path_factory.mktemp("standin"))


def under(library: Path, *command: str) -> str:
    """What Python prints there."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-W", "ignore", *command], env=standin.environment(library), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def asked(library: Path) -> dict[str, Any]:
    """By run, what its step asks of the device."""
    lines = map(json.loads, under(library, "-m", "tests.gpu.standin", *RUNS).splitlines())
    return {line.pop("run"): line for line in lines}


@pytest.mark.parametrize("run", RUNS)
def test_the_host_never_waits_and_nothing_is_elsewhere(run: str, asked: dict[str, Any]) -> None:
    """A step taken as always: no copy from or to the host, no wait, no tensor that is not on the device."""
    found = asked[run]

    assert not found["taken"].keys() & {"waits", "copies from the host", "copies to the host"}
    assert found["elsewhere"] == []
    assert found["search for NaN"]["kernels"] + found["search for NaN"]["copies"] <= BUDGET["search for NaN"]


@pytest.mark.parametrize("run", BUDGET["recorded"])
def test_a_recorded_step_is_allowed_and_within_its_budget(run: str, asked: dict[str, Any]) -> None:
    """Nothing that CUDA forbids in a recording, nothing beside it, and as many operations as `budget.yaml` says."""
    found = asked[run]

    assert found["faults"] == []
    assert not found["replayed"].keys() & {"waits", "copies from the host", "copies to the host"}
    if torch.__version__.partition("+")[0] == BUDGET["torch"]:
        operations, most = sum(found["recorded"].values()), BUDGET["recorded"][run]
        assert operations <= most
        assert operations == most, f"a step of {run} is {operations} operations now: lower it in tests/gpu/budget.yaml"


FORBIDDEN = """
import ctypes, os, torch
watch = ctypes.CDLL(os.environ["LD_PRELOAD"])
watch.standin_faults.restype = ctypes.c_char_p
x, other = torch.ones(3, device="cuda"), torch.cuda.Stream()
def beside():
    with torch.cuda.stream(other):
        x.add_(1)
for ask in (beside, torch.cuda.synchronize):
    watch.standin_reset()
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            ask()
    except RuntimeError:
        pass
    print(watch.standin_faults().decode().splitlines()[0])
"""


def test_what_is_forbidden_is_seen(library: Path) -> None:
    """A kernel on another stream, and a wait for all of the device, each planted in a recording."""
    assert under(library, "-c", FORBIDDEN).splitlines() == [
        "a kernel beside the recording stream",
        "cudaDeviceSynchronize while a stream records",
    ]

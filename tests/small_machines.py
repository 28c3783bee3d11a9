"""What the settings for small machines save and cost, measured on this machine beside what training says it needs.

    python -m tests.small_machines            all cases, each in a process of its own: a few minutes
    python -m tests.small_machines digits     those whose name begins so

Noise stands in for the images. Memory: how far the resident set of a fresh process grows beyond what it was before the
trainer was built, at its peak. Time: what the second step takes of the processor, all threads together, which other
work on the machine changes little. Both steps have the probes of a logged one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro.config.compose import compose
from repro.config.schema import Config
from repro.data import cifar10
from repro.engine.device import set_up_process
from repro.train import cost, memory
from repro.train.finite import copy_of
from repro.train.loop import Trainer

ROOT = Path(__file__).parent.parent
_IMAGES = ["budget.labelled_batch=16", "budget.unlabelled_batch=112", "engine.channels_last=true", "engine.threads=2",
           "engine.precision=float32", "budget.log_every=1", "finetune.steps=0"]  # fmt: skip
_MODES = {
    "as it is": [],
    "recompute": ["engine.recompute=true"],
    "2 chunks": ["engine.micro_batches=2"],
    "4 chunks": ["engine.micro_batches=4"],
    "8 chunks": ["engine.micro_batches=8"],
    "4 chunks, recompute": ["engine.micro_batches=4", "engine.recompute=true"],
    "bfloat16": ["engine.precision=bfloat16"],
    "a quarter of the batch": ["budget.labelled_batch=4", "budget.unlabelled_batch=28"],
}
CASES: dict[str, tuple[str, int, list[str]]] = {
    **{f"WRN-28-2, 16 + 112: {name}": ("cifar10_released_mpl", 32, _IMAGES + more) for name, more in _MODES.items()},
    **{f"ResNet-50 of width 16, 64 pixels, 16 + 48: {name}": (
        "cifar10_released_mpl", 64,
        [*_IMAGES, "model=resnet50", "model.width=16", "budget.unlabelled_batch=48", "data.train_images=5000",
         *_MODES[name]],
       ) for name in ("as it is", "recompute", "4 chunks")},
    "WRN-28-2, 16 + 112: UDA": ("cifar10_released_uda", 32, _IMAGES),
    "digits, MPL": ("digits_mpl", 8, ["budget.log_every=1"]),
}  # fmt: skip
"""Name to experiment, side of its images in pixels, and overrides."""


def main() -> None:
    """Prints a table."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    set_up_process()
    print(f"{'':55} {'measured':>9} {'estimated':>9} {'ratio':>6} {'s a step':>9}")
    for name in CASES:
        if name.startswith(wanted):
            found, expected = measured(name), estimated(name)
            print(f"{name:55} {found['bytes'] / 2**20:5.0f} MiB {expected / 2**20:5.0f} MiB "
                  f"{found['bytes'] / expected:6.2f} {found['seconds']:9.2f}", flush=True)  # fmt: skip


def estimated(name: str) -> int:
    """Bytes that training says it needs."""
    config = _config(name)
    with pytest.MonkeyPatch.context() as patch:
        _images_of_this_size(patch, CASES[name][1])
        return memory.bytes_needed(config)


def measured(name: str) -> Mapping[str, Any]:
    """Bytes and seconds, of a process of its own."""
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.small_machines", "--child", name], cwd=ROOT, capture_output=True, text=True,
        check=True, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},  # threads that spin would count as work
    )  # fmt: skip
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def _child(name: str) -> None:
    config = _config(name)
    set_up_process(config.engine.threads)
    with pytest.MonkeyPatch.context() as patch:
        _images_of_this_size(patch, CASES[name][1])
        before = _kib("VmRSS")
        trainer = Trainer(config, 0, torch.device("cpu"))
        good = copy_of(trainer.state, trainer.window)
        trainer.advance()
        begun = time.process_time()
        trainer.advance()
        seconds = time.process_time() - begun
        assert good.step == 0
    print(json.dumps({"bytes": 1024 * (_kib("VmHWM") - before), "seconds": seconds}))


def _config(name: str) -> Config:
    experiment, _, overrides = CASES[name]
    return compose(experiment, overrides, ROOT / "experiments")


def _images_of_this_size(patch: pytest.MonkeyPatch, pixels: int) -> None:
    """Noise in place of CIFAR-10, in images of so many pixels a side."""

    @cache
    def load() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(
            256, (cifar10.IMAGES["train"], 3, pixels, pixels), generator=generator, dtype=torch.uint8
        )
        return images, torch.arange(cifar10.IMAGES["train"]) % 10

    patch.setattr(cifar10.Cifar10, "read", load)
    if pixels > 32:  # as many bytes as an activation or two, not as all of them
        patch.setitem(cifar10.IMAGES, "train", 5000)
        for module in (cost, memory):
            patch.setattr(module, "example_shape", lambda _: (3, pixels, pixels))


def _kib(key: str) -> int:
    """Of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
    else:
        main()

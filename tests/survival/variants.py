"""The arms that stand for all, and the machines that this one can stand in for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arm:
    """A real experiment, whole or shortened."""

    name: str
    title: str
    experiment: str
    data: str
    seeds: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """Another machine, or other settings that should not matter."""

    says: str
    environment: tuple[tuple[str, str], ...] = ()
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()  # of the arms for which it means something; empty: all
    needs: str = ""  # a processor flag

    def takes(self, arm: Arm) -> bool:
        """Whether the arm is trained under this variant."""
        return not self.data or arm.data in self.data


_SMOKE = (
    "budget.shortened_to=60", "budget.labelled_batch=16", "budget.unlabelled_batch=16", "budget.log_every=10000",
    "budget.snapshots=2", "data.labels=400", "data.train_images=4000", "data.test_images=1000", "model.depth=10",
    "model.width=1", "engine.precision=float32", "engine.channels_last=false", "method.uda.ramp_steps=100000",
)  # fmt: skip

ARMS = (
    Arm("digits_mpl", "digits, MPL, all 600 steps", "digits_mpl", "digits", "0"),
    Arm("digits_uda", "digits, UDA, all 600 steps", "digits_uda", "digits", "0"),
    Arm("moons_tuned_mpl", "two moons, MPL, 400 of 4,000 steps, 100 data sets", "moons_tuned_mpl", "two_moons", "0-99",
        ("budget.shortened_to=400",)),
    Arm("cifar10_mpl", "CIFAR-10, MPL, WideResNet-10-1, 60 steps", "cifar10_released_mpl", "cifar10", "0", _SMOKE),
)  # fmt: skip

_PATIENT = (("OMP_WAIT_POLICY", "PASSIVE"),)  # threads that wait by spinning would make a busy machine crawl

VARIANTS = (
    Variant("as it is"),
    Variant("the same again"),
    Variant("PyTorch's kernels without AVX2", (("ATEN_CPU_CAPABILITY", "default"),)),
    Variant("PyTorch's kernels with AVX-512", (("ATEN_CPU_CAPABILITY", "avx512"),), needs="avx512f"),
    Variant("oneDNN's convolutions with SSE4.1 only", (("ONEDNN_MAX_CPU_ISA", "SSE41"),)),
    Variant("MKL's matrix products in compatible mode", (("MKL_CBWR", "COMPATIBLE"),)),
    Variant("an old processor: these three together", (
        ("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "SSE41"), ("MKL_CBWR", "COMPATIBLE"))),
    Variant("2 threads", _PATIENT, ("engine.threads=2",)),
    Variant("4 threads", _PATIENT, ("engine.threads=4",)),
    Variant("1 worker process instead of 2", overrides=("budget.workers=1",), data=("two_moons",)),
    Variant("25 data sets in a stack instead of 50", overrides=("budget.stack=25",), data=("two_moons",)),
    Variant("10 data sets in a stack instead of 50", overrides=("budget.stack=10",), data=("two_moons",)),
)  # fmt: skip


def missing(variant: Variant) -> str:
    """Why this processor cannot stand in for the variant; empty where it can."""
    try:
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
        ).split()
    except (OSError, StopIteration):
        flags = []
    return f"this processor has no {variant.needs}" if variant.needs and variant.needs not in flags else ""

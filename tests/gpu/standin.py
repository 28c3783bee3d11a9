"""Every arm's step as a GPU is given it, where there is none: PyTorch's own host code on a stand-in (`runtime.c`).

    python -m tests.gpu.standin [run[,override ...] ...]    under the stand-in; without runs, every arm

It prints one line of JSON for each run: what a step asks of the device, taken and recorded. `build` makes the stand-in
with gcc, from the headers and libraries of the installed PyTorch; `environment` preloads it under another process:

    python -c 'from tests.gpu import standin; print(standin.build(standin.Path("/tmp")))'
    LD_PRELOAD=/tmp/libstandin.so python -m tests.gpu.standin cifar10_paper_mpl
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = ("kernels", "library calls", "copies", "fills", "copies from the host", "copies to the host", "waits")
_WANTED = re.compile(r"\bU (_{0,2}cu(?:da|blas|blasLt|dnn)?[A-Z]\w*)")
_COMPUTES = re.compile(
    r"cu(blas|dnn)(?!.*(Get|Set|Create|Destroy)).*(gemm|gemv|dot|Forward|Backward|Execute)", re.IGNORECASE
)
_NVCC = "".join(f"#define {word}\n" for word in (
    "__host__", "__device__", "__global__", "__cdecl", "__import__", "__export__", "CUDARTAPI", "CUDARTAPI_CDECL",
    "__annotate__(a)", "__location__(a)", "__device_builtin__", "__device_builtin_texture_type__", "__cudart_builtin__",
    "__device_builtin_surface_type__", "__forceinline__ inline", "__specialization_static static",
    "__align__(n) __attribute__((aligned(n)))", "__builtin_align__(n) __align__(n)",
))  # fmt: skip
"""In place of nvcc's own header, which no wheel of the runtime holds."""


def missing() -> str:
    """Why it cannot be built here, in a sentence; empty where it can."""
    import torch

    tools = [tool for tool in ("gcc", "nm") if not shutil.which(tool)]
    if tools:
        return f"{' and '.join(tools)} not found"
    if torch.version.cuda is None or not _headers():
        return "PyTorch here is no CUDA build with the runtime's headers"
    return "" if sys.platform == "linux" else "the stand-in is for Linux"


def _headers() -> list[Path]:
    found = importlib.util.find_spec("nvidia")
    places = map(Path, found.submodule_search_locations or []) if found else ()
    return [path.parent for place in places for path in place.glob("*/include/cuda_runtime_api.h")]


def build(folder: Path) -> Path:
    """The library, in this folder; by its name inside, it is the driver's that PyTorch opens too."""
    import torch

    libraries = (Path(torch.__file__).parent / "lib").glob("lib*.so")
    wanted = {name for path in libraries for name in _WANTED.findall(_run("nm", "-D", "--undefined-only", str(path)))}
    (folder / "crt").mkdir()
    (folder / "crt/host_defines.h").write_text(_NVCC)
    flags = [
        "-O1",
        "-w",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        f"-I{folder}",
        *(f"-I{p}" for p in _headers()),
    ]
    source, made = str(HERE / "runtime.c"), folder / "libstandin.so"
    _run("gcc", *flags, source, "-o", str(made))
    own = {line.split()[-1].split("@")[0] for line in _run("nm", "-D", "--defined-only", str(made)).splitlines()}
    rest = [f"int {name}() {{ return {'standin_library()' if _COMPUTES.match(name) else 0}; }}"
            for name in sorted(wanted - own)]  # fmt: skip
    (folder / "rest.c").write_text("int standin_library(void);\n" + "\n".join(rest) + "\n")
    _run("gcc", *flags, source, str(folder / "rest.c"), "-o", str(made))
    return made


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words


def environment(library: Path) -> dict[str, str]:
    """Of a process that finds the stand-in for a GPU."""
    return {**os.environ, "LD_PRELOAD": str(library), "CUDA_VISIBLE_DEVICES": "0"}


def every_run() -> list[str]:
    """All arms of both recipes on CIFAR-10, with ten layers; MPL with its 28 too."""
    from repro.plan import comparisons

    arms = [run for setting in ("cifar10_paper", "cifar10_released") for run in comparisons()[setting].runs.values()]
    return ["cifar10_paper_mpl", "cifar10_released_mpl", *(f"{run},model.depth=10" for run in arms)]


def main(runs: Sequence[str]) -> None:
    """A line of JSON for each run, and one for the search for NaN."""
    import torch

    from repro.data.cifar10 import Cifar10
    from repro.engine.device import set_up_process
    from repro.plan import compose

    images = torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8)
    Cifar10.read = lambda *_: (images, torch.arange(50_000) % 10)  # type: ignore[method-assign]
    set_up_process()
    watch = ctypes.CDLL(os.environ["LD_PRELOAD"])
    watch.standin_faults.restype, watch.standin_count.restype = ctypes.c_char_p, ctypes.c_long
    for run in runs or every_run():
        name, *overrides = run.split(",")
        print(json.dumps({"run": run} | _asked(compose(name, overrides), watch)), flush=True)


def _asked(config: Any, watch: Any) -> dict[str, Any]:
    """Of a step in the middle of training, that logs nothing: what it asks of the device."""
    import torch

    from repro.train.loop import Trainer, not_finite

    def counted(call: Any) -> list[dict[str, int]]:
        watch.standin_reset()
        call()
        return [{kind: count for i, kind in enumerate(KINDS) if (count := watch.standin_count(recorded, i))}
                for recorded in (0, 1)]  # fmt: skip

    def begun(engine: Any) -> Trainer:
        trainer = Trainer(replace(config, engine=engine), 0, torch.device("cuda"))
        trainer.state.step = config.budget.steps // 2 + 3
        for _ in range(3):
            trainer.advance()
        return trainer

    trainer = begun(config.engine)
    found: dict[str, Any] = {"taken": counted(trainer.advance)[0]}
    with _devices() as seen:
        trainer.advance()
    found["elsewhere"] = sorted(seen.elsewhere)
    found["search for NaN"] = counted(lambda: not_finite(trainer.state.state_dict()))[0]
    del trainer
    if not config.method.fixed_teacher_steps:
        trainer = begun(replace(config.engine, cuda_graph=True))
        found["beside"], found["recorded"] = counted(trainer.advance)
        found["faults"] = watch.standin_faults().decode().splitlines()
        found["replayed"] = counted(trainer.advance)[0]
    return found


def _devices() -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Devices(TorchDispatchMode):
        """Operations that meet a tensor which is not on the device."""

        def __init__(self) -> None:
            super().__init__()
            self.elsewhere: set[str] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
            if any(tensor.device.type != "cuda" and tensor.numel() for tensor in tensors):
                self.elsewhere.add(str(func))
            return found

    return Devices()


if __name__ == "__main__":
    main(sys.argv[1:])

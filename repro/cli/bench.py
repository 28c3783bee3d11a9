"""Times one step in several ways, a plain implementation with Pillow workers among them, and keeps what it finds.

    python -m repro.cli.bench                                          a step of the released recipe
    python -m repro.cli.bench cifar10_paper_mpl budget.unlabelled_batch=112 --steps 20

On a CPU batches are 16 + 112 images unless the overrides say otherwise. Leaves a file of the device, the experiment and
the batches in results/bench/, and results/bench/README.md with the tables of all. The plain implementation draws hard
labels and takes h as the old minus the new loss, whatever the experiment does: of MPL on CIFAR-10, those that do the
same compare best.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from repro.bench.ceilings import measure_ceilings
from repro.bench.measure import WAYS, Timing, Way, measure
from repro.bench.traffic import step_bytes
from repro.cli.entry import run
from repro.cli.environment import environment, source_hashes
from repro.config.compose import compose
from repro.config.methods import Mpl
from repro.config.read import ConfigError
from repro.config.schema import Config
from repro.data import source_of
from repro.engine.device import choose_device, set_up_process
from repro.records.bench import write_bench
from repro.bench.page import section
from repro.train.cost import step_flops

_STEPS = {"cpu": 6, "cuda": 100}
_ON_A_CPU = ["budget.labelled_batch=16", "budget.unlabelled_batch=112"]


def main() -> None:
    """Measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", default="cifar10_released_mpl")
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--steps", type=int, help="timed in each round (default: 6; on a GPU 100)")
    parser.add_argument("--rounds", type=int, default=2, help="of all ways (default: 2)")
    parser.add_argument("--uncompiled", action="store_true", help="leaves out the compiled ways, which take minutes")
    arguments = parser.parse_args()
    device, cores = choose_device(), os.cpu_count() or 1
    steps = arguments.steps or _STEPS[device.type]
    left_out = {"compiled": arguments.uncompiled, "recorded": device.type == "cpu"}
    ways = tuple(way for way in WAYS if not any(getattr(way, kind) and out for kind, out in left_out.items()))
    smaller = _ON_A_CPU if device.type == "cpu" else []
    config = compose(arguments.experiment, [*smaller, f"engine.threads={cores}", *arguments.overrides])
    if not (config.data.shape == (3, 32, 32) and isinstance(config.method, Mpl)):
        raise ConfigError(
            f"{arguments.experiment}: the plain implementation is of MPL on CIFAR-10; name such an experiment"
        )
    source_of(config.data).prepare()
    print(f"{arguments.experiment}: {len(ways)} ways, {arguments.rounds} times, each for {steps} steps", flush=True)
    timings = measure(config, steps, partial(print, flush=True), arguments.rounds, ways)
    set_up_process(config.engine.threads)  # not before: processes were started that must not inherit them
    moved = {
        alike: step_bytes(replace(config, engine=way.engine(config.engine)))
        for alike, way in {_alike(timing.way): timing.way for timing in timings}.items()
    }
    record = {
        "step": _step(arguments.experiment, config, timings),
        "environment": environment(device, [], source_hashes()),
        "ceilings": asdict(measure_ceilings(device)),
        "ways": [_way(timing, moved[_alike(timing.way)]) for timing in timings],
    }
    path = write_bench(record)
    print("\n" + "\n".join(section(record)))
    print(f"\n{path}, {path.parent}/README.md")


def _step(experiment: str, config: Config, timings: list[Timing]) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "title": f"{config.title} on {config.model.name}",
        "labelled": config.budget.labelled_batch,
        "unlabelled": config.budget.unlabelled_batch,
        "timed": timings[0].steps,
        "flops": step_flops(config, config.budget.steps - 1),
    }


def _alike(way: Way) -> tuple[object, ...]:
    """Equal for ways whose operations take and give the same tensors."""
    return way.precision, way.channels_last


def _way(timing: Timing, moved: int) -> dict[str, Any]:
    way = timing.way
    return {
        "name": way.name,
        "plain": way.plain,
        "precision": way.precision.value,
        "seconds": round(timing.second, 5),
        "fastest": round(min(timing.seconds), 5),
        "all_seconds": [round(second, 5) for second in timing.seconds],
        "peak_bytes": timing.peak_bytes,
        "bytes": moved,  # by our operations
        "parts": {name: round(second, 5) for name, second in timing.parts.items()},
    }


if __name__ == "__main__":
    run(main)

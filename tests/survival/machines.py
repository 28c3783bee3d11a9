"""How far do two machines agree? Trains real arms as other processors, thread counts and stacks would, and compares.

    python -m tests.survival.machines [-j 2]

Each variant is one fresh process with the kernels and the arithmetic of an older processor, or with other settings, and
trains, evaluates and hashes its data by the project's own commands. It is held against the first, bit for bit. The same
command twice must give the same bits: else nothing is written and the exit status is 1. Writes results/determinism.json
and the table in REPRODUCE.md; five minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from repro.config import as_mapping
from repro.data import source_of
from repro.data.cifar10 import BATCHES
from repro.files import write_whole
from repro.plan import compose, parse_seeds
from repro.seeding import seeds_listed
from repro.train.job import environment
from tests.survival.compare import Trained, between, load, table, with_table
from tests.survival.variants import ARMS, VARIANTS, Arm, Variant, missing

ROOT = Path(__file__).parents[2]
OUT, PROTOCOL = ROOT / "results/determinism.json", ROOT / "REPRODUCE.md"
CIFAR10 = Path("artifacts/data/cifar10")

_CHILD = """
import json, sys
import torch
from pathlib import Path
from repro.cli import train
from repro.config.read import read_config
from repro.data import source_of
from repro.engine.device import set_up_process
from repro.evaluate.predict import Predictor
from repro.train.checkpoint import load_results

for name, seeds in json.loads(sys.argv[1]):
    sys.argv = ["train", name, "--seeds", seeds]
    set_up_process()  # one thread here: OpenMP's threads would not survive the fork of the workers
    assert train.main() == 0
    set_up_process()  # as evaluation has it
    found = []
    for result in load_results(train.RUNS / name):
        config, stack = read_config(result.config), result.seeds if result.stacked else result.seeds[0]
        networks = list(result.snapshots)[-1]["networks"] | ({"finetuned": result.finetuned} if result.finetuned else {})
        test, predictor = source_of(config.data).held_out_set(stack), Predictor(config, stack)
        found.append({
            "weights": networks if result.stacked else {k: {n: t[None] for n, t in v.items()} for k, v in networks.items()},
            "rows": result.rows,
            "predictions": torch.from_numpy(predictor.classes(networks[result.counted], test.examples)),
            "labels": test.labels if result.stacked else test.labels[None],
            "hash": config.data_hash + source_of(config.data).held_out_hash(result.seeds),
        })
    torch.save(found, Path(f"{name}.found.pt"))
"""  # noqa: E501


def settle(arm: Arm, variant: Variant, folder: Path) -> None:
    """Leaves what `prepare` would: the settings of an arm, with the hash of the data as this process draws them."""
    seeds = parse_seeds(arm.seeds)
    config = compose(arm.experiment, (*arm.overrides, *variant.overrides), ROOT / "experiments")
    settled = replace(config, data_hash=source_of(config.data).training_hash(seeds), planned_seeds=seeds_listed(seeds))
    path = folder / f"artifacts/configs/{arm.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(as_mapping(settled), sort_keys=False))


def train(arms: Sequence[Arm], variant: Variant, folder: Path) -> dict[str, Trained]:
    """What a fresh process, set up as `variant` says, trains in a folder that `settle` filled.

    Raises:
        RuntimeError: when it does not train, or draws other data: `train` compares them by hash.
    """
    # A GPU is another machine altogether; and what the caller has set must not reach the first variant.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ATEN_", "MKL_", "ONEDNN_", "OMP_"))}
    done = subprocess.run(  # noqa: S603 - the project's own code
        [sys.executable, "-c", _CHILD, json.dumps([(arm.name, arm.seeds) for arm in arms])],
        cwd=folder, env=kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | dict(variant.environment),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{variant.says} does not train: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return {arm.name: load(folder / f"{arm.name}.found.pt") for arm in arms}


def measure(arms: Sequence[Arm], variants: Sequence[Variant], jobs: int, above: Path) -> list[dict[str, Any]]:
    """One entry for each variant and arm: how it differs from the first variant."""
    folders = {variant.says: above / str(number) for number, variant in enumerate(variants)}
    taken = {variant.says: [arm for arm in arms if variant.takes(arm)] for variant in variants}
    prepared = above / CIFAR10
    for variant in variants:
        link = folders[variant.says] / CIFAR10
        link.parent.mkdir(parents=True)
        if prepared.is_dir():
            link.symlink_to(prepared)
        os.chdir(folders[variant.says])  # where the data are looked for
        for arm in taken[variant.says]:
            settle(arm, variant, folders[variant.says])

    def trained(variant: Variant) -> dict[str, Trained]:
        started = time.monotonic()
        found = train(taken[variant.says], variant, folders[variant.says])
        print(f"trained in {time.monotonic() - started:.0f} s: {variant.says}", flush=True)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        found = dict(zip((variant.says for variant in variants), pool.map(trained, variants), strict=True))
    first = found[variants[0].says]
    return [
        {
            "variant": variant.says,
            "set": dict(variant.environment) | {"overrides": list(variant.overrides)},
            "arm": name,
        }
        | between(first[name], other)
        for variant in variants[1:]
        for name, other in found[variant.says].items()
    ]


def main() -> None:
    """Trains every variant, compares, writes the measurement and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="variants trained side by side (default: 2)")
    jobs = parser.parse_args().jobs
    with_cifar10 = (ROOT / "datasets" / BATCHES).is_dir()
    arms = [arm for arm in ARMS if with_cifar10 or arm.data != "cifar10"]
    left_out = [f"{variant.says}: {reason}" for variant in VARIANTS if (reason := missing(variant))]
    left_out += [f"{arm.title}: no {BATCHES} in datasets/" for arm in ARMS if arm not in arms]
    with tempfile.TemporaryDirectory(prefix="machines-") as above:
        if with_cifar10:
            (Path(above) / CIFAR10).parent.mkdir(parents=True)
            (Path(above) / CIFAR10).symlink_to(ROOT / "datasets")
        found = measure(arms, [variant for variant in VARIANTS if not missing(variant)], jobs, Path(above))
        os.chdir(ROOT)
    broken = [
        f"{one['arm']} ({one['variant']})"
        for one in found
        if one["variant"] == VARIANTS[1].says and not one["identical"]
    ]
    if broken:
        sys.exit(f"error: two runs of the same command differ: {', '.join(broken)}; find what they do not take from "
                 "(seed, stream, step), such as a global generator or the order of a set")  # fmt: skip
    facts = {
        key: value for key, value in environment(torch.device("cpu"), 0).items() if key not in {"seconds", "threads"}
    }
    facts["kernels"] = torch.backends.cpu.get_cpu_capability()
    content = {
        "environment": facts,
        "arms": {arm.name: {"title": arm.title, "overrides": list(arm.overrides), "seeds": arm.seeds} for arm in arms},
        "left_out": left_out,
        "compared": found,
    }
    write_whole(OUT, (json.dumps(content, indent=1) + "\n").encode())
    write_whole(PROTOCOL, with_table(PROTOCOL.read_text(), table(content)).encode())
    print(f"{OUT.relative_to(ROOT)}: {sum(one['identical'] for one in found)} of {len(found)} are the same bits")


if __name__ == "__main__":
    main()

"""Keeps a trained network with the results: results/weights/<run>-seed-<n>-<network>.safetensors, in half precision.

    python -m repro.cli.export <run> [--seed 0] [--network student_average]

Reads artifacts/runs/<run>/, where training leaves its weights. `python -m repro.cli.recompute <file>` then computes the
network's test accuracy from the file, wherever the test images are.
"""

from __future__ import annotations

import argparse

from repro.cli.entry import run
from repro.cli.evaluate import TRAINED
from repro.cli.lock import only_writer
from repro.engine.device import set_up_process
from repro.evaluate.evaluate import counted_network
from repro.files import restore_folder
from repro.records.weights import KeptWeights, write_weights
from repro.train.checkpoint import Result, load_results
from repro.train.storage import Damaged, OtherFormat


def main() -> None:
    """Reads, halves, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a trained run")
    parser.add_argument("--seed", type=int, default=0, help="one of its seeds (default: 0)")
    parser.add_argument("--network", help="such as teacher_average (default: the one whose accuracy counts)")
    arguments = parser.parse_args()
    set_up_process()
    with only_writer(f"{arguments.run}.weights", f"what is trained of {arguments.run}"):
        restore_folder(TRAINED / arguments.run)
        try:
            results = load_results(TRAINED / arguments.run)
            kept = _kept(arguments.run, results, arguments.seed, arguments.network)
        except (Damaged, OtherFormat) as error:
            again = f"dvc repro --force --single-item train@{arguments.run}"
            raise ValueError(f"{error}; train it again: {again}") from error
    path = write_weights(kept)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; its accuracy: python -m repro.cli.recompute {path}")


def _kept(name: str, results: list[Result], seed: int, network: str | None) -> KeptWeights:
    seeds = [seed for result in results for seed in result.seeds]
    if seed not in seeds:
        raise ValueError(f"{name} has no seed {seed}; --seed takes one of {', '.join(map(str, seeds))}")
    result = next(result for result in results if seed in result.seeds)
    if result.stacked:
        raise ValueError(f"{name}: its seeds are one stacked model; only networks trained one by one can be kept")
    networks = result.networks()
    wanted = network or counted_network(result.counted, networks)
    if wanted not in networks:
        raise ValueError(f"{name} has no network {wanted}; --network takes one of {', '.join(sorted(networks))}")
    revision = str(result.environment["revision"])
    return KeptWeights(name, seed, wanted, result.config, revision, networks[wanted])


if __name__ == "__main__":
    run(main)

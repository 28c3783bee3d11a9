"""Does the early alarm flag planted faults and spare honest seeds? Trains the start of a recorded run, many times.

    python -m tests.faults.alarm [-j 2]

Every fault of faults.yaml that lies in what trains is planted in a copy; three seeds that are not recorded train there,
and their logs are held against the recorded seeds' bands, seed by seed and as a mean. Writes results/alarm.json, which
the report shows. Faults that leave the log of this run as it is, to the last bit, cannot be seen in it and are listed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from repro.cli.environment import environment, source_hashes
from repro.config.compose import compose
from repro.files import write_whole
from repro.train.alarm import Bands, bands_for
from tests.faults.run import FAULTS, ROOT, Fault, copy_tracked, planted_copy, read_faults

RUN = "digits_mpl"
SEEDS = (1000, 1001, 1002)
HONEST = tuple(range(2000, 2060))
TRAINS = ("augment", "data", "engine", "losses", "methods", "models", "optim", "seeding", "train")
OUT = ROOT / "results/alarm.json"

_TRAIN = """
import json, sys
import torch
from repro.config.compose import compose
from repro.train.loop import Trainer
torch.set_num_threads(1)
config, logs = compose(sys.argv[1], ()), []
for seed in map(int, sys.argv[3].split(",")):
    trainer = Trainer(config, seed, torch.device("cpu"))
    while trainer.state.step < int(sys.argv[2]):
        trainer.advance()
    logs.append(trainer.rows)
print(json.dumps(logs))
"""

Log = list[dict[str, float]]


def logs_of(folder: Path, steps: int, seeds: Sequence[int]) -> list[Log] | str:
    """The logs of these seeds, trained by the code in a folder; the error's last line where it cannot train."""
    done = subprocess.run(  # noqa: S603 - the project's own code
        [sys.executable, "-c", _TRAIN, RUN, str(steps), ",".join(map(str, seeds))],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    found: list[Log] = json.loads(done.stdout.splitlines()[-1])
    return found


def flagged(bands: Bands, logs: Sequence[Log]) -> dict[str, Any]:
    """How many seeds raise an alarm, whether their mean does, and the first alarm of all."""
    single = [bands.outside(log) for log in logs]
    mean = bands.outside(*logs)
    first = next((alarms[0] for alarms in [*single, mean] if alarms), "")
    return {"seeds": sum(bool(alarms) for alarms in single), "mean": bool(mean), "first": first}


def of_fault(fault: Fault, clean: Path, bands: Bands, honest: Sequence[Log]) -> dict[str, Any]:
    """What the alarm says of a fault: `changed` is False where the log stays as it is to the last bit."""
    with planted_copy(fault, clean) as folder:
        logs = logs_of(folder, max(bands.rows), SEEDS)
    print(f"{fault.id}: {logs if isinstance(logs, str) else flagged(bands, logs)}", flush=True)
    about = {"id": fault.id, "says": fault.says}
    if isinstance(logs, str):
        return about | {"changed": True, "seeds": len(SEEDS), "mean": True, "first": f"it stops: {logs}"}
    return about | {"changed": logs != honest} | flagged(bands, logs)


def main() -> None:
    """Trains clean and faulty copies and writes the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="copies trained side by side (default: 2)")
    jobs = parser.parse_args().jobs
    bands = bands_for(compose(RUN, ()), ROOT / "results/bands.json")
    if bands is None:
        sys.exit(f"error: no band of {RUN} in results/bands.json; write it with: make verify")
    faults = [fault for fault in read_faults(FAULTS) if Path(fault.file).with_suffix("").parts[1] in TRAINS]
    with tempfile.TemporaryDirectory(prefix="faults-") as above, ThreadPoolExecutor(jobs) as pool:
        clean = Path(above) / "project"
        copy_tracked(ROOT, clean)
        many, few = logs_of(clean, max(bands.rows), HONEST), logs_of(clean, max(bands.rows), SEEDS)
        if isinstance(many, str) or isinstance(few, str):
            sys.exit(f"error: the unchanged code does not train: {many if isinstance(many, str) else few}")
        triples = [many[i : i + 3] for i in range(0, len(many), 3)]
        content = {
            "run": RUN,
            "steps": max(bands.rows),
            "recorded_seeds": bands.seeds,
            "band": bands.digest(),
            "environment": {
                k: v for k, v in environment(torch.device("cpu"), [], source_hashes()).items() if k != "seconds"
            },
            "honest": {
                "seeds": len(many),
                "seeds_flagged": sum(bool(bands.outside(log)) for log in many),
                "means": len(triples),
                "means_flagged": sum(bool(bands.outside(*logs)) for logs in triples),
                "triples_flagged": sum(any(flagged(bands, logs).values()) for logs in triples),
                "same_seeds": flagged(bands, few),
            },
            "faults": list(pool.map(lambda fault: of_fault(fault, clean, bands, few), faults)),
        }
    write_whole(OUT, (json.dumps(content, indent=1) + "\n").encode())
    print(f"{OUT.relative_to(ROOT)}: {content['honest']}")


if __name__ == "__main__":
    main()

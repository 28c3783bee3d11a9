"""Several methods on the same folder, labels and start, seed by seed: `repro fit images/ --compare uda mpl`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repro.fit.saved import Classifier
from repro.settings import ConfigError, parse_seeds
from repro.trial import paired_in_words
from repro.verify.statistics import mean_interval


def compare(given: argparse.Namespace, fit: Callable[[argparse.Namespace], int]) -> int:
    """Fits each method with each seed, which draws labels and start, and prints accuracies and paired differences.

    Each fit has the minutes that are asked for. What is finished stays; a fit that stopped gives its exit status.
    """
    methods = list(dict.fromkeys(given.compare))
    if len(methods) < 2:
        raise ConfigError(f"--compare = {methods[0]}: wants two methods or more, such as: --compare probe uda mpl")
    if given.method or given.seed is not None:
        raise ConfigError("--compare: names the methods, and --seeds the seeds; leave --method and --seed out")
    out, seeds = given.out or Path("models") / given.images.resolve().name, list(parse_seeds(given.seeds or "0-2"))
    percent: dict[str, dict[int, float]] = {method: {} for method in methods}
    minutes: dict[str, list[float]] = {method: [] for method in methods}
    for seed in seeds:
        for method in methods:
            place = out / f"{method}-{seed}"
            changed = {"compare": [], "method": method, "seed": seed, "out": place, "begun": time.monotonic()}
            status = fit(argparse.Namespace(**vars(given) | changed))
            if status:
                return status
            facts = Classifier.load(place).facts
            if method not in facts["each"]:
                raise ConfigError(f"{place}: has neither test images nor labels to set aside, so nothing compares; "
                                  "name a folder of --test images")  # fmt: skip
            right, count = facts["each"][method]
            percent[method][seed] = 100 * right / count
            minutes[method].append(facts["minutes"])
    print(f"\n{out}: {len(seeds)} seeds, {count:,} {'test images' if facts['on'] == 'test' else 'images set aside'}")
    for method in methods:
        values = list(percent[method].values())
        mean, low, high = mean_interval(values)
        interval = f", 95 % interval {low:.1f} to {high:.1f}" if math.isfinite(low) else ""
        print(f"{method:12} {mean:5.1f} %{interval}, {float(np.mean(minutes[method])):.1f} minutes")
    for method in methods[1:]:
        print(f"{method} minus {methods[0]}, {paired_in_words(percent[method], percent[methods[0]])}")
    return 0

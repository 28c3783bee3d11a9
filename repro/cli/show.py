"""Prints an experiment as it would run: its settings and its departures from the recipe it names.

python -m repro.cli.show                              all experiments
python -m repro.cli.show <experiment> [key=value ...]
"""

from __future__ import annotations

import argparse

import yaml

from repro.cli.entry import run
from repro.config import as_mapping, departures
from repro.plan import compose, experiments


def main() -> None:
    """Prints; writes nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?")
    parser.add_argument("overrides", nargs="*", help="such as method.feedback=none")
    arguments = parser.parse_args()
    if not arguments.experiment:
        for name in experiments():
            print(f"{name:40} {compose(name).title}")
        return
    config = compose(arguments.experiment, arguments.overrides)
    print(yaml.safe_dump(as_mapping(config), sort_keys=False), end="")
    for departure in departures(config):
        kind = "open" if departure.open else "departs"
        print(f"# {kind}: {departure.key} = {departure.here}; {config.recipe.name}: {departure.prescribed}")


if __name__ == "__main__":
    run(main)

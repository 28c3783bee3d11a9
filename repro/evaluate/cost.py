"""How much an evaluation has to do."""

from __future__ import annotations

from repro.config.schema import Config
from repro.data import source_of
from repro.data.sets import Seeds
from repro.train.kept import late_steps, snapshot_steps


def passes_of_evaluation(config: Config, seeds: Seeds, networks: int, unlabelled: int) -> int:
    """How many times an example passes through one of `networks` networks, when a run is evaluated.

    Args:
        config: the run's settings.
        seeds: one seed, or R seeds stacked, which pass together.
        networks: that a snapshot holds, averages among them.
        unlabelled: examples that a run learns from, whose pseudo labels are compared with their classes.
    """
    budget = config.budget
    test, drawn, labelled = _examples(config, seeds, unlabelled)
    snapshots, late = len(snapshot_steps(budget.steps, budget.snapshots)) + 1, len(late_steps(budget.steps))
    finetuned = 1 if config.finetune.steps else 0
    return snapshots * (networks * drawn + labelled) + late * drawn + (networks + finetuned) * test


def files_read(config: Config, seeds: Seeds, unlabelled: int) -> int:
    """How many examples an evaluation reads: those of the curves once, where memory holds them, and all test ones.

    Args:
        config: the run's settings.
        seeds: as above.
        unlabelled: as above.
    """
    return sum(_examples(config, seeds, unlabelled))


def _examples(config: Config, seeds: Seeds, unlabelled: int) -> tuple[int, int, int]:
    """Test examples, and those of the curves: of the test set, and unlabelled ones."""
    test, most = source_of(config.data).held_out_set(seeds).labels.shape[-1], config.budget.curve_examples
    return test, min(test, most or test), min(unlabelled, most or unlabelled)

"""Opens test data. Only `repro.evaluate` may import this module; a test holds that."""

from __future__ import annotations

from collections.abc import Sequence

from repro.config.data import Data, TwoMoonsData
from repro.data import digits, two_moons
from repro.data.sets import HeldOutSet, Seeds, fingerprint


def held_out_set(config: Data, seeds: Seeds) -> HeldOutSet:
    """Test data of one seed, or of several stacked (each two-moons seed has its own; the digits' are the same)."""
    return two_moons.held_out_set(config, seeds) if isinstance(config, TwoMoonsData) else digits.held_out_set(config)


def held_out_hash(config: Data, seeds: Sequence[int]) -> str:
    """SHA-256 over the test examples and labels of every seed, in order."""
    return fingerprint(*(tensor for seed in seeds for tensor in vars(held_out_set(config, seed)).values()))

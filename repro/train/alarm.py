"""Early alarm: does a run's log leave, in its first percents, the band in which recorded seeds of the same run lay?

The bands are built by `repro.verify.bands` from recorded runs and lie in results/bands.json; here they are only read
and compared, so that a machine that trains needs nothing else for it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.config.read import decisive
from repro.config.schema import Config
from repro.files import readable_json

BANDS = Path("results/bands.json")

_CONSTANT = 1e-5  # a quantity that was the same for all seeds may differ by so much, as rounding does


@dataclass(frozen=True)
class Expected:
    """Where recorded seeds put one metric at one step."""

    mean: float  # of the logarithms where `log`
    deviation: float  # standard deviation over seeds, n - 1; 0 where all seeds agree
    log: bool  # the metric is positive for every seed, and its logarithm is compared

    def bounds(self, half_widths: float) -> tuple[float, float]:
        """The band, in the metric's own unit, `half_widths` standard deviations to each side."""
        half = half_widths * self.deviation if self.deviation else _CONSTANT * max(1.0, abs(self.mean))
        low, high = self.mean - half, self.mean + half
        return (math.exp(low), math.exp(high)) if self.log else (low, high)


@dataclass(frozen=True)
class Bands:
    """Of one run: what its first rows look like, over recorded seeds."""

    settings: str  # digest of the settings that the seeds shared
    seeds: int  # how many
    quantile: float  # of Student's t, corrected for the number of comparisons in one run
    rows: dict[int, dict[str, Expected]]  # step -> metric -> what is expected

    def digest(self) -> str:
        """Of what the band holds, to tell whether a rate was measured with this one."""
        return hashlib.sha256(bands_as_text({"": self}).encode()).hexdigest()[:16]

    def outside(self, *logs: Sequence[Mapping[str, float]]) -> list[str]:
        """What in the log of a new run lies outside, in words, the earliest first; empty when nothing does.

        Args:
            logs: of one seed, or of several whose mean is compared; rows of other steps are not looked at.
        """
        half_widths = self.quantile * math.sqrt(1 / len(logs) + 1 / self.seeds)
        found = []
        for rows in zip(*logs, strict=True):
            row = rows[0]
            for metric, expected in self.rows.get(int(row["step"]), {}).items():
                low, high = expected.bounds(half_widths)
                value = _mean([row.get(metric, math.nan) for row in rows], expected.log)
                if not low <= value <= high:
                    found.append(
                        f"{metric} = {value:.4g} at step {int(row['step'])} is outside [{low:.4g}, {high:.4g}], "
                        f"where {self.seeds} recorded seeds put it"
                    )
        return found


def _mean(values: Sequence[float], log: bool) -> float:
    """On the scale of the band: of the logarithms where it is one of logarithms."""
    if not log:
        return math.fsum(values) / len(values)
    if not min(values) > 0:
        return min(values)
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def settings_digest(config: Config) -> str:
    """What must agree for a band to apply: the settings that decide the training, but for data drawn by seed."""
    settings = decisive(config)
    for key in ("data_hash", "planned_seeds", "recipe", "engine"):
        del settings[key]
    if config.engine.micro_batches > 1:  # batch norm over chunks is another training
        settings["micro_batches"] = config.engine.micro_batches
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_bands(path: Path = BANDS) -> dict[str, Bands]:
    """Bands by run; empty when there is no file.

    Raises:
        ValueError: when the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return {name: _bands(entry) for name, entry in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); write it again: make verify") from error


def bands_as_text(bands: Mapping[str, Bands]) -> str:
    """The JSON that `read_bands` reads."""
    content = {
        name: {
            "settings": found.settings,
            "seeds": found.seeds,
            "quantile": round(found.quantile, 4),
            "rows": {
                str(step): {metric: _numbers(expected) for metric, expected in row.items()}
                for step, row in found.rows.items()
            },
        }
        for name, found in bands.items()
    }
    return readable_json(content) + "\n"


def _numbers(expected: Expected) -> list[float | bool]:
    return [float(f"{expected.mean:.6g}"), float(f"{expected.deviation:.4g}"), expected.log]


def _bands(entry: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> Bands:
    content = dict(entry)
    rows = {
        int(step): {metric: Expected(float(m), float(d), bool(log)) for metric, (m, d, log) in metrics.items()}
        for step, metrics in content.pop("rows").items()
    }
    return Bands(**content, rows=rows)  # type: ignore[arg-type]


def bands_for(config: Config, path: Path = BANDS) -> Bands | None:
    """The bands of most seeds for these settings, under whatever name they were recorded; None where there are none."""
    digest = settings_digest(config)
    fitting = [bands for bands in read_bands(path).values() if bands.settings == digest]
    return max(fitting, key=lambda bands: bands.seeds, default=None)

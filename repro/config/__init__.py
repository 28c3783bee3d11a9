"""The dataclass schema behind the YAML, its checks, composition and departures from a recipe."""

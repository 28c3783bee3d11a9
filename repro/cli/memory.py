"""What a run needs of memory beside what there is: said before it starts, refused where it can never fit."""

from __future__ import annotations

from repro.config.read import ConfigError
from repro.config.schema import Config
from repro.engine.device import choose_device
from repro.engine.memory import memory_of
from repro.train.memory import bytes_needed
from repro.train.remedies import fitting, size


def say_what_is_needed(name: str, config: Config, processes: int) -> None:
    """One line before a run starts in so many processes, with what to change where that is more than is free.

    Raises:
        ConfigError: when it is more than the whole machine, or the share of it that may be used, has.
    """
    need, there = bytes_needed(config), memory_of(choose_device())
    said = f"{name}: needs about {size(need)}" + (f" in each of {processes} processes" if processes > 1 else "")
    if there is None:
        print(said)
    elif processes * need <= there.free:
        print(f"{said}, {size(there.free)} are free")
    elif processes * need <= there.total:
        print(f"WARNING {said}, and only {size(there.free)} are free; {fitting(config, processes, there.free)}")
    else:
        raise ConfigError(f"{said}, and there are {size(there.total)}; {fitting(config, processes, there.total)}")

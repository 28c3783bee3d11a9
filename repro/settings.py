"""What a setting is: its type, default and range stand in one line, and everything wrong is refused in one sentence.

The settings of data sets, their views and networks stand in the settings.py of their rooms, those of methods in the
__init__; here are those that all runs have.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args

import yaml
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from repro.files import read_whole

T = TypeVar("T")
_MOST_SEEDS = 10_000
_MOST_BYTES, _MOST_DIGITS = 1 << 20, 1000
"""Of a YAML file, and of a number in it: more is no mistake of a person, and could fill memory."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and the remedy."""


# Types


@dataclass_transform(field_specifiers=(field,))
def settings(cls: type[T]) -> type[T]:
    """Makes a class of settings: a dataclass that takes no other keys and checks its values when it is made."""
    made: Any = pydantic_dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)
    return made  # type: ignore[no-any-return]


Text = Annotated[str, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True)
class Range:
    """Of a number: from `least` to `most`, or 0 for what is switched off.

    Beyond the upper ends a step overflows float32, memory runs out, or the value is a slip of the pen.
    """

    least: float
    most: float
    why: str = ""
    or_zero: bool = False  # whether 0 is allowed too
    below: bool = False  # whether `most` itself is too much

    def __get_pydantic_core_schema__(self, kind: type[Any], _: Any) -> CoreSchema:
        """Strict: true is no number, and no text is one. NaN and infinity lie in no range."""
        schema: CoreSchema = core_schema.int_schema(strict=True)
        if kind is float:
            schema = core_schema.float_schema(strict=True, allow_inf_nan=True)
        return core_schema.no_info_after_validator_function(self.checked, schema)

    def checked(self, value: float) -> float:
        """The same number; ValueError, without key and value, where it lies outside."""
        inside = self.least <= value <= self.most and not (self.below and value >= self.most)
        if not inside and not (self.or_zero and value == 0):
            interval = f"[{self.least:,}, {self.most:,}{')' if self.below else ']'}"
            why = f", {self.why}" if self.why else ""
            raise ValueError(f"must {'be 0 or ' if self.or_zero else ''}lie in {interval}{why}")
        return value + 0 if value == 0 else value  # -0.0 is 0.0: the same setting has one text and one digest


Steps = Annotated[int, Range(0, 1_000_000_000)]
StepsAtLeastOne = Annotated[int, Range(1, 1_000_000_000)]
Batch = Annotated[int, Range(1, 1_000_000)]
Processes = Annotated[int, Range(1, 256)]
Minutes = Annotated[float, Range(0, 1_000_000)]
Rate = Annotated[float, Range(1e-12, 1000)]
Weight = Annotated[float, Range(0, 1_000_000)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
Probability = Annotated[float, Range(0, 1, why="a probability")]
Epsilon = Annotated[float, Range(1e-8, 1)]
MixupStrength = Annotated[float, Range(0.01, 100, or_zero=True, why="0 mixes nothing")]


# What all runs have


class View(StrEnum):
    """Which augmented view of the images."""

    weak = "weak"
    strong = "strong"


class Schedule(StrEnum):
    """Learning rate over the steps, after `wait_steps` at 0 and a linear `warmup_steps`."""

    constant = "constant"
    cosine = "cosine"


@settings
class Optimiser:
    """Stochastic gradient descent of one network."""

    learning_rate: Rate = 0.1
    schedule: Schedule = Schedule.constant
    wait_steps: Steps = 0
    warmup_steps: Steps = 0
    momentum: ShareBelowOne = 0.0  # Nesterov's
    weight_decay: Annotated[float, Range(0, 10)] = 0.0  # added to the gradient of all but batch-norm parameters
    clip_norm: Annotated[float, Range(1e-6, 1_000_000, or_zero=True, why="0 does not clip")] = 0.0  # of all gradients


class AverageStart(StrEnum):
    """What the moving average holds before the first step; it fades within some ten steps of the first of all."""

    weights = "weights"  # the initial weights and statistics
    released = "released"  # 1 for batch-norm shifts and running variances, 0 for all else (released code)


@settings
class Optim:
    """Optimisers of both networks; a method with one network uses the one its file names."""

    student: Optimiser = field(default_factory=Optimiser)
    teacher: Optimiser = field(default_factory=Optimiser)
    average_decay: ShareBelowOne = 0.0  # of the exponential moving average of the weights; 0 keeps none
    average_start: AverageStart = AverageStart.weights


@settings
class Budget:
    """How long and on what."""

    steps: StepsAtLeastOne = 1000
    labelled_batch: Batch = 32
    unlabelled_batch: Batch = 128
    log_every: StepsAtLeastOne = 50  # steps between rows of metrics.csv; probes (noise floor, gradient norms) run then
    snapshots: Annotated[int, Range(0, 10_000, why="each keeps all weights")] = 20  # for the curves; besides the last
    late: Annotated[int, Range(1, 1000)] = 20  # last checkpoints of the network that counts, for their median
    stack: Annotated[int, Range(1, 10_000)] = 1  # seeds trained as one stacked model; 1 trains them one by one
    workers: Processes = 2  # processes, one thread each
    max_minutes: Minutes = 0.0  # save, and exit with status 75, after so long; 0 is no limit
    checkpoint_minutes: Minutes = 5.0  # between saved states
    curve_examples: Annotated[int, Range(0, 1_000_000)] = 0  # test and unlabelled examples of the curves; 0 takes all
    probe_feedback: Switch = False  # measure at each snapshot how noisy h is, and its angle to an oracle's
    shortened_to: Steps = 0  # steps to which a recipe is shortened (repro/plan.py); 0 keeps its length
    reduced: Text = ""  # what is shorter than the recipe, in words; empty when nothing is


@settings
class Finetune:
    """The student's last stage: gradient descent on the labelled images alone (paper, section 2 and Table 8)."""

    steps: Steps = 0  # 0 leaves it out
    learning_rate: Rate = 1e-5
    batch: Batch = 32


class Flip(StrEnum):
    """Which labels are wrong while wrong labels are planted."""

    all = "all"  # every one: class k becomes k + 1, the last one the first
    pair = "pair"  # those of classes 3 and 5 (of CIFAR-10, cats and dogs), exchanged
    random = "random"  # a share of them, each another class at random


@settings
class Plant:
    """Confirmation bias planted: labels are wrong in the first steps, in which nothing is fed back, and then true."""

    steps: Steps = 0  # with wrong labels; 0 plants nothing
    flip: Flip = Flip.random
    share: Share = 0.4  # of the labels, where they are flipped at random


class Precision(StrEnum):
    """Of the networks' forward and backward passes; weights, statistics, losses and updates are always float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"  # automatic mixed precision


@settings
class Engine:
    """How a step is computed: the settings trade speed against rounding."""

    precision: Precision = Precision.float32
    channels_last: Switch = False  # memory format of images; faster for convolutions on most devices
    threads: Processes = 1  # of each worker process, on a CPU
    readers: Processes = 2  # threads of each worker process that decode image files while a step is computed
    batch_norm_processes: Annotated[int, Range(0, 65_536)] = 0  # so many share batch statistics; 0: all that train
    cuda_graph: Switch = False  # record the whole step once and replay it: one launch, not thousands; a CPU has none
    compile: Switch = False  # networks by PyTorch's compiler, within recorded steps too; on a CPU they stay as they are
    fastest: Switch = False  # choose these two at the start of a run: the fastest of those that compute the same


@settings
class Recipe:
    """What a source prescribes, to be compared with what a run does."""

    name: Text = "none"
    source: Text = ""
    values: dict[Text, Any] = field(default_factory=dict)
    """Dotted key -> prescribed value; null takes back what the recipe that it builds on prescribes."""
    open: dict[Text, Text] = field(default_factory=dict)
    """Dotted key -> why the source does not settle it."""


# Reading


def closest(word: str, known: Sequence[str]) -> str:
    """The remedy for a misspelt word: the nearest known one, else the first ones in alphabetical order."""
    near = difflib.get_close_matches(word, known, n=1)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known)[:_LISTED])}{more}"


_LISTED = 40  # names in a sentence


def validated(kind: type[T], mapping: Any, where: str = "") -> T:
    """The settings of class `kind` that a mapping says; ConfigError, with `where` before each key, for all wrong."""
    try:
        for problem in _endless(mapping):
            raise ConfigError(f"{where}{problem}")
        found: T = kind.__pydantic_validator__.validate_python(mapping)  # type: ignore[attr-defined]
    except ValidationError as error:
        problems = [in_words(detail, mapping, kind) for detail in error.errors(include_url=False)]
        raise ConfigError("; ".join(f"{where}{problem}" for problem in dict.fromkeys(problems))) from None
    except RecursionError:
        raise ConfigError(f"{where or 'the settings'}: are nested too deeply; write them anew") from None
    return found


def _endless(value: Any, key: str = "") -> Iterator[str]:
    """Numbers of more than 4,300 digits, which Python does not even print."""
    if isinstance(value, int) and value.bit_length() > 10_000:
        yield f"{key or 'a key'} is a whole number of {value.bit_length():,} bits; write a smaller one"
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _endless(name, key)
            yield from _endless(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for part in value:
            yield from _endless(part, key)


_WANTED = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "text"}
_GIVEN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}


def in_words(detail: ErrorDetails, mapping: Any, kind_of_all: Any) -> str:  # noqa: PLR0911 - one for each kind
    """One of pydantic's errors as a sentence with key, value and remedy."""
    key, kind, value, context = _key(detail["loc"], mapping), detail["type"], detail["input"], detail.get("ctx", {})
    if kind in {"unexpected_keyword_argument", "extra_forbidden"}:
        known = sorted({one for kind in _kinds_at(kind_of_all, detail["loc"][:-1]) for one in kind.__pydantic_fields__})
        return f"{key} is not a setting; {closest(str(detail['loc'][-1]), known)}"
    if kind == "value_error":
        said = str(context["error"])
        return f"{key} = {short(value)}: {said}" if key and said.startswith("must ") else said
    if kind == "float_type" and type(value) is int:
        return f"{key} = {short(value)}: is too large for a number; write a smaller one"
    if kind in _WANTED:
        hint = " (YAML reads 1e-5 as text: write 1.0e-5)" if kind == "float_type" and isinstance(value, str) else ""
        given = _GIVEN.get(type(value), f"a {type(value).__name__}")
        return f"{key} = {short(value)}: wants {_WANTED[kind]}, not {given}{hint}"
    if kind in {"enum", "literal_error"}:
        choices = [str(choice).strip("'") for choice in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"{key} = {short(value)} is unknown; {closest(short(value), choices)}"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:  # a section whose `name` or `kind` says which one it is
        which = context["discriminator"].strip("'")
        tags = [getattr(one, which) for one in _kinds_at(kind_of_all, detail["loc"])]
        return f"{key}.{which} = {short(value.get(which))} is unknown; {closest(short(value.get(which)), tags)}"
    if kind in {"dataclass_type", "dict_type", "model_attributes_type", "mapping_type"}:
        return f"{key or 'configuration'} = {short(value)}: wants a mapping of settings"
    if kind in {"missing", "missing_argument"}:
        return f"{key} is missing; add it"
    return f"{key} = {short(value)}: {detail['msg'].lower()}"


def _key(loc: tuple[int | str, ...], mapping: Any) -> str:
    """The dotted key of an error: pydantic names the chosen member of a union too, which is no part of the key."""
    parts: list[str] = []
    here = mapping
    for part in loc:
        if isinstance(here, Mapping) and part not in here and part in (here.get("name"), here.get("kind")):
            continue
        parts.append(str(part))
        here = here.get(part) if isinstance(here, Mapping) else None
    return ".".join(part for part in parts if part != "[key]")


def _kinds_at(kind: Any, loc: Sequence[int | str]) -> list[Any]:
    """The classes of settings that a place may hold; `loc` also names the chosen members of unions."""
    for part in loc:
        chosen = [one for one in get_args(kind) if part in (getattr(one, "name", None), getattr(one, "kind", None))]
        if chosen:
            kind = chosen[0]
        elif str(part) in getattr(kind, "__pydantic_fields__", {}):
            kind = kind.__pydantic_fields__[str(part)].annotation
    return [one for one in get_args(kind) or (kind,) if hasattr(one, "__pydantic_fields__")]


def short(value: Any) -> str:
    """A value as it is quoted: not all of it where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def parse_seeds(text: str | int) -> tuple[int, ...]:
    """`3`, `0-4` or `0-4,10` to seeds in ascending order; ConfigError for anything else, or a seed given twice."""
    seeds: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f"seeds = {text!r}: wants a list such as 0-4 or 0,2,5 of seeds below {10**9:,}")
        first, last = int(match[1]), int(match[2] or match[1])
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise ConfigError(f"seeds = {text!r}: are more than {_MOST_SEEDS:,}; name fewer")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds = {text!r}: names a seed twice")
    return tuple(sorted(seeds))


_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*|[0-9]*\.[0-9]*([eE][-+]?[0-9]+)?|\.(inf|nan))", re.IGNORECASE)


class _UniqueKeys(Composer, CParser, SafeConstructor, Resolver):
    """Refuses a key that stands twice in one mapping, references to lists and mappings, numbers that are not decimal.

    The C library reads the text, five times as fast as Python; PyYAML's own composer puts it together.
    """

    def __init__(self, text: bytes) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"{key.value} stands there twice, keep one"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(self._decimal(node, super().construct_yaml_int))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(self._decimal(node, super().construct_yaml_float))

    @staticmethod
    def _decimal(node: yaml.ScalarNode, construct: Callable[[Any], Any]) -> Any:
        """YAML 1.1 takes 1:30 for 90, 010 for 8, 0x10 for 16 and 1_0 for 10; hardly anybody means that."""
        text, problem = str(node.value), ""
        if len(text) > _MOST_DIGITS:
            problem = f"holds a number of {len(text):,} digits, write a smaller one"
        elif not _DECIMAL.fullmatch(text):
            found = construct(node)
            problem = f"YAML reads {text} as the number {found}; write {found}, or write it in quotes as '{text}'"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return construct(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()
            if not isinstance(self.anchors.get(event.anchor), yaml.ScalarNode):  # a few lines could stand for billions
                problem = "refers to a list or mapping elsewhere in the file; write it out"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        found: yaml.Node | None = super().compose_node(parent, index)
        return found


for _kind, _construct in (("int", _UniqueKeys.construct_yaml_int), ("float", _UniqueKeys.construct_yaml_float)):
    _UniqueKeys.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct)  # type: ignore[type-var]


def parse_yaml(text: bytes) -> Any:
    """What a text in YAML holds; ConfigError, without the file, where it is none or `_UniqueKeys` refuses it."""
    try:
        return _UniqueKeys(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        line = f"line {at.line + 1}: " if at else ""
        there = b"".join(text.splitlines()[at.line : at.line + 1]) if at else b""
        hint = " (YAML indents with spaces, not tabs)" if b"\t" in there else ""
        raise ConfigError(f"{line}{error.problem or error.context}; mend that line{hint}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"is not a YAML file in UTF-8 ({reason}); write it again") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; ConfigError where it is no such file or larger than 1 MiB, FileNotFoundError for none."""
    try:
        return parse_yaml(read_whole(path, _MOST_BYTES))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); put a YAML file there") from None

"""What a search goes over: settings that have several values, or a range of them."""

import dataclasses
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from labelr.config import SEARCHABLE, TrainConfig, TuneOptions
from labelr.errors import preview, suggest
from labelr.fields import ALIASES, SettingError, checked, is_number, kind_of, parsed

if TYPE_CHECKING:
    import optuna

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}

Point = Mapping[str, Any]
"""A value for each setting that is searched."""


@dataclass(frozen=True)
class Values:
    """A setting's values, each of which is tried.

    Attributes:
        choices: At least one, each once.
    """

    choices: tuple[Any, ...]

    def suggest(self, trial: "optuna.Trial", name: str) -> Any:
        """The value that a trial has."""
        return trial.suggest_categorical(name, self.choices)

    def __str__(self) -> str:
        return ",".join(map(said, self.choices))


@dataclass(frozen=True)
class Range:
    """A setting's values from one number to another.

    Attributes:
        low: The lowest.
        high: The highest.
        log: Whether equal ratios are equally likely, instead of equal differences.
        whole: Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: "optuna.Trial", name: str) -> float:
        """The value that a trial has."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{said(self.low)}..{said(self.high)}{':log' if self.log else ''}"


Dimension = Values | Range


def said(value: Any) -> str:
    """A setting's value as it is written on a command line."""
    if value is None:
        return "auto"
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def shown(value: Any) -> str:
    """A setting's value as people read it: numbers are rounded."""
    return f"{value:.4g}" if isinstance(value, float) else said(value)


@dataclass(frozen=True)
class Space:
    """The settings that are searched.

    Attributes:
        dimensions: What each may be, by name, in the order of `SEARCHABLE`.
    """

    dimensions: Mapping[str, Dimension]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """What is searched, and what has one value only.

        Args:
            given: For each setting a text as on the command line (``"0.1,0.2"``, ``"1e-4..1e-2:log"``), a sequence of
                values, or one value.

        Raises:
            SettingError: If a setting is unknown or cannot be searched, or one of its values is out of range.
        """
        named: dict[str, Dimension] = {}
        for key, wanted in given.items():
            name = ALIASES.get(key, key)
            _check_searchable(name, key)
            if name in named:
                raise SettingError(f"the setting {name!r} is given twice, once as {key!r}", "keep one of them")
            named[name] = _dimension(name, wanted)
        single = {
            name: one.choices[0] for name, one in named.items() if isinstance(one, Values) and len(one.choices) == 1
        }
        return cls({name: named[name] for name in SEARCHABLE if name in named and name not in single}), single

    @property
    def ranges(self) -> tuple[str, ...]:
        """The settings that have a range."""
        return tuple(name for name, dimension in self.dimensions.items() if isinstance(dimension, Range))

    @property
    def size(self) -> int | None:
        """How many points there are; None where nobody can count them."""
        if self.ranges:
            return None
        return math.prod(len(one.choices) for one in self.dimensions.values() if isinstance(one, Values))

    def grid(self, seed: int) -> Iterator[Point]:
        """All points, in an order drawn by the seed, so that the first of them say something of every value.

        However many there are, only those that are asked for are drawn (Fisher and Yates' shuffle).
        """
        rng, size = random.Random(seed), self.size or 0  # noqa: S311 - no secret
        moved: dict[int, int] = {}
        for place in range(size):
            other = rng.randrange(place, size)
            number = moved.get(other, other)
            moved[other] = moved.get(place, place)
            yield self._point(number)

    def _point(self, number: int) -> Point:
        """The point of a number from 0 to `size` - 1."""
        point = {}
        for name, one in self.dimensions.items():
            number, choice = divmod(number, len(cast("Values", one).choices))
            point[name] = cast("Values", one).choices[choice]
        return point

    def suggest(self, trial: "optuna.Trial") -> Point:
        """The point that a trial is of: the one it was queued with, or one that the study's sampler chooses."""
        return {name: dimension.suggest(trial, name) for name, dimension in self.dimensions.items()}

    def to_dict(self) -> dict[str, str]:
        """What is searched, by name, as on a command line."""
        return {name: str(dimension) for name, dimension in self.dimensions.items()}


def _check_searchable(name: str, key: str) -> None:
    if name not in _FIELDS:
        raise SettingError(f"unknown setting {key!r}", suggest(key, {*SEARCHABLE, *ALIASES}))
    if name not in SEARCHABLE:
        hint = "train each point several times with `--seeds`" if name == "seed" else "give it one value"
        raise SettingError(f"{name} cannot be searched: it is the same for all trials", hint)


def _dimension(name: str, wanted: Any) -> Dimension:
    field = _FIELDS[name]
    if isinstance(wanted, str):
        if ".." in wanted:
            return _range(name, wanted)
        values: Iterable[Any] = [parsed(field, part.strip()) for part in wanted.split(",")]
    elif isinstance(wanted, Sequence):
        values = [checked(field, value) for value in wanted]
    else:
        values = [checked(field, wanted)]
    if kind_of(field) is float:
        values = [float(value) if isinstance(value, int) else value for value in values]
    choices = tuple(values)
    if not choices:
        raise SettingError(f"{name}: there is no value to try", "give at least one")
    for value in choices:
        if choices.count(value) > 1:
            raise SettingError(f"{name}: {said(value)} is given twice", "give each value once")
    return Values(choices)


def _range(name: str, text: str) -> Range:
    field = _FIELDS[name]
    numbers, _, scale = text.partition(":")
    low, _, high = numbers.partition("..")
    if not is_number(field) or scale not in ("", "log"):
        raise SettingError(f"{name}: {text!r} is no range of values", _RANGE_HINT)
    first, last = parsed(field, low.strip()), parsed(field, high.strip())
    if first is None or last is None or not first < last or (scale and first <= 0):
        raise SettingError(f"{name}: {text!r} is no range of values", _RANGE_HINT)
    return Range(first, last, log=bool(scale), whole=kind_of(field) is int)


_RANGE_HINT = "write LOW..HIGH, or LOW..HIGH:log for numbers above 0 such as a learning rate"


def check_search(given: TrainConfig, space: Space, options: TuneOptions) -> str:
    """The sampler that is meant.

    Raises:
        SettingError: If there is nothing to search, or not in this way.
    """
    if not space.dimensions:
        raise SettingError(
            "there is nothing to search: no setting has several values",
            "give some, such as `--lr 1e-3,4e-3 --dropout 0.2,0.3,0.5`",
        )
    for flag, wrong in {"--time": given.time, "--folds": given.folds}.items():
        if wrong is not None:
            raise SettingError(
                f"a trial has a number of epochs and one validation part, and no use for the setting {flag[2:]}",
                f"leave `{flag}` out of the configuration",
            )
    sampler = options.sampler if options.sampler != "auto" else "tpe" if space.ranges else "grid"
    if sampler == "grid" and space.ranges:
        raise SettingError(
            f"a grid needs values, and {preview(space.ranges)} has a range",
            "list its values, or choose `--sampler random` or `--sampler tpe`",
        )
    return sampler

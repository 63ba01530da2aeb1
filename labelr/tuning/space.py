"""What is searched and how: the search space and the plan of a search; without heavy imports, for the CLI."""

import dataclasses
import math
import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from labelr.config import DEFAULT_CRITERION, DEFAULT_TRIALS, DEPENDENT, SEARCHABLE, TrainConfig, TuneOptions
from labelr.errors import preview, suggest
from labelr.fields import ALIASES, SettingError, as_python, checked, is_number, kind_of, parsed

if TYPE_CHECKING:
    import optuna

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}

Point = Mapping[str, Any]
"""One value for each searched setting."""


@dataclass(frozen=True)
class Values:
    """A list of values, at least one and without repetitions, all of which are tried."""

    choices: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(map(format_value, self.choices))


@dataclass(frozen=True)
class Range:
    """All numbers between two bounds.

    Attributes:
        log: Whether numbers are sampled on a logarithmic scale.
        whole: Whether only integers are sampled.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        return f"{format_value(self.low)}..{format_value(self.high)}{':log' if self.log else ''}"


Dimension = Values | Range


def format_value(value: Any) -> str:
    """A setting's value as it is written on a command line."""
    if value is None:
        return "auto"
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def format_rounded(value: Any) -> str:
    """A setting's value for tables: floats have four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else format_value(value)


@dataclass(frozen=True)
class Space:
    """The searched settings.

    Attributes:
        dimensions: The values or range of each setting, in the order of `SEARCHABLE`.
    """

    dimensions: Mapping[str, Dimension]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The search space, and the settings that have a single value.

        Args:
            settings: For each setting a text as on the command line (``"0.1,0.2"``, ``"1e-4..1e-2:log"``), a sequence,
                a set or an array of values, or one value.

        Raises:
            SettingError: If a setting is unknown or cannot be searched, or one of its values is out of range.
        """
        named: dict[str, Dimension] = {}
        for key, values in settings.items():
            name = ALIASES.get(key, key)
            _check_searchable(name, key)
            if name in named:
                raise SettingError(f"the setting {name!r} is given twice, once as {key!r}", "keep one of them")
            named[name] = _dimension(name, values)
        single = {
            name: dimension.choices[0]
            for name, dimension in named.items()
            if isinstance(dimension, Values) and len(dimension.choices) == 1
        }
        return cls({name: named[name] for name in SEARCHABLE if name in named and name not in single}), single

    @property
    def ranges(self) -> tuple[str, ...]:
        """The settings that have a range."""
        return tuple(name for name, dimension in self.dimensions.items() if isinstance(dimension, Range))

    @property
    def size(self) -> int | None:
        """The number of points; None if a setting has a range."""
        return None if self.ranges else math.prod(map(len, self._choices().values()))

    def _choices(self) -> dict[str, tuple[Any, ...]]:
        return {name: values.choices for name, values in self.dimensions.items() if isinstance(values, Values)}

    def combinations(self, names: Collection[str]) -> Iterator[Point]:
        """Each combination of the values of some settings, those that are searched; a range has its lower bound."""
        bounds = {name: (values.low,) for name, values in self.dimensions.items() if isinstance(values, Range)}
        choices = {name: values for name, values in {**self._choices(), **bounds}.items() if name in names}
        return (dict(zip(choices, values, strict=True)) for values in product(*choices.values()))

    def grid(self, seed: int) -> Iterator[Point]:
        """All points in a random order, so that the first ones cover every value.

        Optuna's GridSampler is not used: two processes can draw the same point from it, and it builds the whole grid.
        This is Fisher and Yates' shuffle, done lazily: only the points that are consumed take time and memory.
        """
        rng, size = random.Random(seed), self.size or 0  # noqa: S311 - not used for security
        swapped: dict[int, int] = {}
        for position in range(size):
            other = rng.randrange(position, size)
            number = swapped.get(other, other)
            swapped[other] = swapped.get(position, position)
            point = {}
            for name, choices in self._choices().items():
                number, choice = divmod(number, len(choices))
                point[name] = choices[choice]
            yield point

    def suggest(self, trial: "optuna.Trial") -> Point:
        """The point of a trial: the one that it was enqueued with, else one that the study's sampler chooses."""
        point: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, Values):
                point[name] = trial.suggest_categorical(name, dimension.choices)
            elif dimension.whole:
                point[name] = trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
            else:
                point[name] = trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        return point

    def to_dict(self) -> dict[str, str]:
        """The values of each setting as texts that `Space.of` reads."""
        return {name: str(dimension) for name, dimension in self.dimensions.items()}


@dataclass(frozen=True)
class Plan:
    """What a search does, on whatever machine.

    Attributes:
        data: The data folders; none for synthetic images.
        config: The settings of all trials; of a searched one, its first value.
        space: The searched settings.
        options: How they are searched.
        deadline: The time at which trials stop, in seconds since 1970; None for never.
    """

    data: tuple[str, ...]
    config: TrainConfig
    space: Space
    options: TuneOptions
    deadline: float | None = None

    @classmethod
    def of(
        cls,
        data: Iterable[str | Path],
        space: Mapping[str, Any] | None,
        config: TrainConfig | Mapping[str, Any] | None,
        settings: Mapping[str, Any],
    ) -> Self:
        """The plan for the arguments of `tune`.

        Raises:
            SettingError: If there is nothing to search, or a setting is unknown, out of range or does not fit.
        """
        named = {ALIASES.get(name, name): value for name, value in settings.items()}
        how = {name: named.pop(name) for name in TuneOptions.names() if name in named}
        searched, single = Space.of({**(space or {}), **{key: named.pop(key) for key in SEARCHABLE if key in named}})
        for key in named:
            if key not in TrainConfig.names():
                arguments = (*TrainConfig.ARGUMENTS, "space", "study", "storage")
                known = (*TrainConfig.names(), *TuneOptions.names(), *arguments)
                raise SettingError(f"unknown setting {key!r}", suggest(key, known, ALIASES))
        base = TrainConfig.of(config, **named, **single, **next(searched.combinations(SEARCHABLE)))
        options = TuneOptions.of({"metric": base.select or DEFAULT_CRITERION, **how})
        _check(base, searched, options)
        _check_combinations(base, searched)
        deadline = time.time() + 60 * options.time if options.time else None
        if base.select or base.patience or "patience" in searched.dimensions:
            base = TrainConfig.of(base, select=options.metric)
        return cls(tuple(map(str, data)), base, searched, options, deadline)

    @property
    def sampler(self) -> str:
        """The sampler: ``"grid"``, ``"random"`` or ``"tpe"``."""
        auto = "tpe" if self.space.ranges else "grid"
        return auto if self.options.sampler == "auto" else self.options.sampler

    @property
    def num_points(self) -> int | None:
        """How many points are tried; None if only time ends the search."""
        size, limit = self.space.size, self.options.trials
        if limit is None and self.sampler != "grid" and not self.options.time:
            limit = DEFAULT_TRIALS
        return size if limit is None else limit if size is None else min(size, limit)

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline

    def to_dict(self) -> dict[str, Any]:
        """The plan, ready for JSON."""
        parts = {name: getattr(self, name).to_dict() for name in ("config", "space", "options")}
        return {"data": list(self.data), **parts, "deadline": self.deadline}

    @classmethod
    def from_dict(cls, plan: Mapping[str, Any]) -> Self:
        """The plan that `to_dict` was called on."""
        config, options = TrainConfig.of(plan["config"]), TuneOptions.of(plan["options"])
        return cls(tuple(plan["data"]), config, Space.of(plan["space"])[0], options, plan["deadline"])


def _check(config: TrainConfig, space: Space, options: TuneOptions) -> None:
    if not space.dimensions:
        raise SettingError(
            "there is nothing to search: no setting has several values",
            "give some, such as `--lr 1e-3,4e-3 --dropout 0.2,0.3,0.5`",
        )
    for name in ("time", "folds"):
        if getattr(config, name) is not None:
            raise SettingError(
                f"trials have a number of epochs and one validation split, and do not support the setting {name}",
                f"remove `{name}` from the configuration",
            )
    if options.sampler == "grid" and space.ranges:
        raise SettingError(
            f"a grid needs values, and {preview(space.ranges)} has a range",
            "list its values, or choose `--sampler random` or `--sampler tpe`",
        )
    if (config.devices or 1) > 1:
        raise SettingError(
            "each trial is trained on one device", "remove `devices`, and train trials side by side with `--jobs`"
        )


def _check_combinations(config: TrainConfig, space: Space) -> None:
    """Raises SettingError where settings that depend on each other do not fit in some of the trials."""
    for point in space.combinations(DEPENDENT):
        try:
            dataclasses.replace(config, **point)
        except SettingError as error:
            chosen = ", ".join(f"{name} {format_value(value)}" for name, value in point.items())
            raise SettingError(f"with {chosen}: {error.message}", error.hint) from error


def _check_searchable(name: str, key: str) -> None:
    if name not in _FIELDS:
        raise SettingError(f"unknown setting {key!r}", suggest(key, SEARCHABLE, ALIASES))
    if name not in SEARCHABLE:
        hint = "train each point several times with `--seeds`" if name == "seed" else "give it one value"
        raise SettingError(f"{name} cannot be searched: it is the same for all trials", hint)


def _dimension(name: str, given: Any) -> Dimension:
    field, given = _FIELDS[name], as_python(given)
    if isinstance(given, str):
        if ".." in given:
            return _range(name, given)
        values: list[Any] = [parsed(field, text.strip()) for text in given.split(",")]
    else:
        several = isinstance(given, Iterable) and not isinstance(given, (Mapping, bytes))
        values = [checked(field, value) for value in (given if several else [given])]
    if isinstance(given, Set):
        values.sort(key=lambda value: (value is not None, value))  # texts have another order in each process
    if kind_of(field) is float:
        values = [float(value) if isinstance(value, int) else value for value in values]
    choices = tuple(values)
    if not choices:
        raise SettingError(f"{name}: there is no value to try", "give at least one")
    for value in choices:
        if choices.count(value) > 1:
            raise SettingError(f"{name}: {format_value(value)} is given twice", "give each value once")
    return Values(choices)


def _range(name: str, text: str) -> Range:
    field = _FIELDS[name]
    numbers, _, scale = text.partition(":")
    ends = [end.strip() for end in numbers.split("..")]
    hint = "write LOW..HIGH, or LOW..HIGH:log for numbers above 0 such as a learning rate"
    error = SettingError(f"{name}: {text!r} is not a range of values", hint)
    is_pair = len(ends) == 2 and all(ends) and not any(wrong in numbers for wrong in ("...", ","))
    if not is_number(field) or scale not in ("", "log") or not is_pair:
        raise error
    low, high = ends
    first, last = parsed(field, low), parsed(field, high)
    if first is None or last is None or (scale and min(first, last) <= 0):
        raise error
    if first == last:
        raise SettingError(
            f"{name}: the ends of the range {text!r} are equal", f"give one value, `{low}`, or a higher end"
        )
    if first > last:
        raise SettingError(f"{name}: {text!r} ends below its start", f"write the lower value first: `{high}..{low}`")
    return Range(first, last, log=bool(scale), whole=kind_of(field) is int)

"""Where the values of settings, and scores, lie on the axes of a chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from labelr.scoring.report.charts import Span, axis_fraction, inner_ticks, nice_ticks, tick_text
from labelr.tuning.space import Dimension, Range, said
from labelr.tuning.trials import Trial

NARROWEST = 0.02
"""Scores that lie closer are shown as close."""
MOST_LINES = 400
"""More would be a block of ink."""
ROOM = 0.04
"""Of an axis, beyond both ends of a range."""

T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """Where the values of a setting lie on an axis.

    Attributes:
        span: Both ends of the axis.
        ticks: Which places are named.
        names: How.
        choices: The values in their order, which lie at 0, 1, 2, ...; none where numbers lie where they belong.
        log: Whether equal ratios are equally far apart.
    """

    span: Span
    ticks: tuple[float, ...]
    names: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    log: bool = False

    @classmethod
    def of(cls, dimension: Dimension) -> Self:
        """The scale of a setting's values, or of its range with some room at both ends."""
        if not isinstance(dimension, Range):
            choices = _in_order(dimension.choices)
            ticks = tuple(map(float, range(len(choices))))
            return cls((-0.5, len(choices) - 0.5), ticks, tuple(map(said, choices)), choices)
        low, high = dimension.low, dimension.high
        ticks = inner_ticks(low, high, log=dimension.log)
        if dimension.whole:
            ticks = tuple(tick for tick in ticks if tick == int(tick)) or (low, high)
        if dimension.log:
            span = (low * (low / high) ** ROOM, high * (high / low) ** ROOM)
        else:
            span = (low - ROOM * (high - low), high + ROOM * (high - low))
        return cls(span, ticks, tuple(map(tick_text, ticks)), log=dimension.log)

    def place(self, trial: Trial, name: str) -> float | None:
        """Where a trial lies on the axis of a setting; None where its value has no place."""
        value = trial.settings.get(name)
        if self.choices:
            return float(self.choices.index(value)) if name in trial.settings and value in self.choices else None
        if not isinstance(value, (int, float)) or (self.log and value <= 0):
            return None
        return float(value)

    def share(self, place: float) -> float:
        """How far axis_fraction the axis a place lies, in [0, 1]."""
        return axis_fraction(place, self.span, log=self.log)


def _in_order(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers by size behind "auto"; words and switches as they were given."""
    numbers = [value for value in choices if value is not None]
    if any(isinstance(value, (bool, str)) for value in numbers):
        return choices
    return (*((None,) if None in choices else ()), *sorted(numbers))


def score_axis(scores: Sequence[float]) -> tuple[Span, tuple[float, ...]]:
    """Both ends of an axis of scores that holds some, at least `NARROWEST` long, and its ticks."""
    finite = [score for score in scores if math.isfinite(score)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    short = max(0.0, NARROWEST - (high - low)) / 2
    low, high = max(low - short, min(low, 0.0)), min(high + short, max(high, 1.0))
    ticks = nice_ticks(low, high)
    return (ticks[0], ticks[-1]), ticks


def jitter(number: int) -> float:
    """A step aside in [-0.5, 0.5], the same for a trial each time, so that dots do not cover each other."""
    return (number * 0.618034) % 1 - 0.5


def thinned(items: Sequence[T], most: int = MOST_LINES) -> list[T]:
    """At most so many of them, evenly, the first one among them."""
    return list(items[:: math.ceil(len(items) / most) or 1])

"""What a chart is made of, whatever it shows: `svg` draws all of it, `plots` what an evaluation needs."""

import math
from dataclasses import dataclass

import numpy as np

UNIT = (0.0, 1.0)
UNIT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_TICKS = 7
"""On an axis of ratios."""

Points = tuple[tuple[float, float], ...]
Span = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a panel, or its points alone.

    Attributes:
        name: What the legend calls it; empty for a line that needs no word.
        points: x and y of each point, in order of x.
        role: What it is, from which pens choose colour, dashes and the kind of mark: ``first``, ``second``, ``third``,
            ``guide``, ``mean``, ``best``; ``rest`` for one of many in the background; ``failed`` for points without
            a height.
        dots: Whether each point is marked.
        joined: Whether a line joins them.
        notes: What is told of each point to who points at it; none, or one for each.
    """

    name: str
    points: Points
    role: str = "first"
    dots: bool = False
    joined: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: What is shown.
        x_label: What lies along x.
        y_label: What goes up.
        lines: What is drawn.
        x_range: Both ends of the axis.
        y_range: Likewise.
        x_ticks: Which values are named.
        y_ticks: Likewise.
        x_names: What they are called; none where they are called by their numbers.
        x_log: Whether equal ratios are equally far apart along x.
        mark: A point to look at; None where there is none.
        rule: An x to look at; None where there is none.
        spans: Uncertain points, each x with the low and the high end of y.
        said: The chart in a sentence, for those who do not see it.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_range: Span
    y_range: Span
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_names: tuple[str, ...] = ()
    x_log: bool = False
    mark: tuple[float, float] | None = None
    rule: float | None = None
    spans: tuple[tuple[float, float, float], ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Axis:
    """One of several upright axes beside each other.

    Attributes:
        name: What goes up.
        ticks: Which heights, in [0, 1], are named, and how.
    """

    name: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Thread:
    """A line across upright axes.

    Attributes:
        heights: In [0, 1], one for each axis from the left on; fewer where it ends before the last.
        role: ``shade0`` to ``shade4``, the stronger the more; ``rest`` for the background; ``best``.
        note: What is told of it to who points at it.
    """

    heights: tuple[float, ...]
    role: str
    note: str = ""


@dataclass(frozen=True)
class Parallel:
    """Many points of many dimensions: an upright axis for each dimension, a line for each point.

    Attributes:
        title: What is shown.
        axes: From the left on.
        threads: The last one lies on top.
        said: The chart in a sentence, for those who do not see it.
    """

    title: str
    axes: tuple[Axis, ...]
    threads: tuple[Thread, ...]
    said: str


def along(value: float, span: Span, *, log: bool = False) -> float:
    """How far along an axis a value lies: 0 at its low end, 1 at its high end."""
    low, high = span
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def nice_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Round values from at or below `low` to at or above `high`, about `most` of them."""
    span = (high - low) or abs(high) or 1.0
    raw = span / max(most - 1, 1)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return tuple(float(round(tick * step, 12)) for tick in np.arange(first, max(last, first + 1) + 1))


def inner_ticks(low: float, high: float, *, log: bool = False) -> tuple[float, ...]:
    """Round values from `low` to `high`, none of them outside; both ends where nothing round lies between.

    Args:
        low: The low end of the axis.
        high: Its high end.
        log: Whether equal ratios are equally far apart: then they are powers of ten, or 1, 2, 5 or 1, 3 of each.
    """
    found: list[float] = []
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [one for power in powers for f in factors if low <= (one := float(f"{f}e{power}")) <= high]
            if len(found) <= MOST_TICKS:
                break
        found = found[:: math.ceil(len(found) / MOST_TICKS) or 1]
    if len(found) < 2:
        found = [tick for tick in nice_ticks(low, high) if low <= tick <= high]
    return tuple(found) if len(found) > 1 else (low, high)


def tick_text(value: float) -> str:
    """A tick as it is written, no longer than it must be."""
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e")

"""The charts of a search: the score against each setting, over the trials and over the epochs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from labelr.errors import pluralize
from labelr.scoring.metrics import METRIC_NAMES
from labelr.scoring.report.charts import Line, Panel, Span, inner_ticks, nice_ticks, tick_text
from labelr.tuning.space import Dimension, Range, format_rounded, format_value
from labelr.tuning.trials import Trial, TuneResult

MIN_SCORE_SPAN = 0.02
"""The length of a score axis, at least: close scores look close."""
MARGIN = 0.04
"""Space beyond both ends of a range, as a share of it."""


def completed(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials with a finite score, in the order given."""
    return [trial for trial in trials if trial.state == "complete" and math.isfinite(trial.score)]


def score_name(metric: str) -> str:
    """The name of a score in text."""
    return METRIC_NAMES.get(f"{metric}_macro", METRIC_NAMES.get(metric, metric))


def setting_name(name: str) -> str:
    """The name of a setting in text."""
    return name.replace("_", " ")


def note_of(trial: Trial) -> str:
    """The tooltip of a trial."""
    spread = f" ± {trial.spread:.4f}" if math.isfinite(trial.spread) else ""
    return f"trial {trial.number}: {trial.score:.4f}{spread} ({trial.description})"


@dataclass(frozen=True)
class Scale:
    """The axis of a setting.

    Attributes:
        span: Both ends.
        ticks: Labelled positions.
        names: Their labels.
        choices: For a list of values, these in order: they are at 0, 1, 2, ...; numbers of a range are at their value.
        log: Whether it is logarithmic.
    """

    span: Span
    ticks: tuple[float, ...]
    names: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    log: bool = False

    @classmethod
    def of(cls, dimension: Dimension) -> Self:
        """The axis of a list of values, or of a range with a margin at both ends."""
        if not isinstance(dimension, Range):
            choices = _ordered(dimension.choices)
            ticks = tuple(map(float, range(len(choices))))
            return cls((-0.5, len(choices) - 0.5), ticks, tuple(map(format_value, choices)), choices)
        low, high = dimension.low, dimension.high
        ticks = inner_ticks(low, high, log=dimension.log)
        if dimension.whole:
            ticks = tuple(tick for tick in ticks if tick == int(tick)) or (low, high)
        if dimension.log:
            span = (low * (low / high) ** MARGIN, high * (high / low) ** MARGIN)
        else:
            span = (low - MARGIN * (high - low), high + MARGIN * (high - low))
        return cls(span, ticks, tuple(map(tick_text, ticks)), log=dimension.log)

    def position(self, trial: Trial, name: str) -> float | None:
        """The position of a trial; None if its value is not on the axis."""
        value = trial.settings.get(name)
        if self.choices:
            return float(self.choices.index(value)) if name in trial.settings and value in self.choices else None
        if not isinstance(value, (int, float)) or (self.log and value <= 0):
            return None
        return float(value)

    def jitter(self, trial: Trial) -> float:
        """An offset that keeps trials with the same value apart; it is always the same for a trial."""
        return ((trial.number * 0.618034) % 1 - 0.5) / 2 if self.choices else 0.0


def _ordered(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers by size, after "auto"; words and switches as given."""
    numbers = [choice for choice in choices if choice is not None]
    if any(isinstance(choice, (str, bool)) for choice in numbers):
        return choices
    return (*((None,) if None in choices else ()), *sorted(numbers))


def score_axis(scores: Sequence[float]) -> tuple[Span, tuple[float, ...]]:
    """Both ends of a score axis, and its ticks."""
    finite = [score for score in scores if math.isfinite(score)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    missing = max(0.0, MIN_SCORE_SPAN - (high - low)) / 2
    ticks = nice_ticks(max(low - missing, min(low, 0.0)), min(high + missing, max(high, 1.0)))
    return (ticks[0], ticks[-1]), ticks


def setting_panels(result: TuneResult) -> list[Panel]:
    """The score of the complete trials against each setting, the most important one first."""
    trials = completed(result.trials)
    spreads = [trial.spread if math.isfinite(trial.spread) else 0.0 for trial in trials]
    ends = [trial.score + sign * spread for trial, spread in zip(trials, spreads, strict=True) for sign in (-1, 1)]
    axis = score_axis(ends)
    names = sorted(result.plan.space.dimensions, key=lambda name: -result.importance.get(name, 0.0))
    return [panel for name in names if (panel := _setting_panel(name, result, trials, axis))]


def _setting_panel(
    name: str, result: TuneResult, trials: Sequence[Trial], axis: tuple[Span, tuple[float, ...]]
) -> Panel | None:
    scale = Scale.of(result.plan.space.dimensions[name])
    positions = [(position, trial) for trial in trials if (position := scale.position(trial, name)) is not None]
    if not positions:
        return None
    dots = sorted((x + scale.jitter(trial), trial.score, trial.number, trial) for x, trial in positions)
    points, notes = tuple((x, y) for x, y, *_ in dots), tuple(note_of(trial) for *_, trial in dots)
    means = [
        (tick, statistics.fmean(scores))
        for tick in (scale.ticks if scale.choices else ())
        if (scores := [trial.score for x, trial in positions if x == tick])
    ]
    best_x, best = positions[0]
    metric, title = score_name(result.plan.options.metric), setting_name(name)
    means_text = ", ".join(f"{scale.names[int(tick)]} {mean:.4f}" for tick, mean in means)
    return Panel(
        title=title, x_label=title, y_label=metric,
        lines=(
            Line("a trial", points, dots=True, joined=False, tooltips=notes),
            *(Line("" if number else "mean of a value", ((tick - 0.3, mean), (tick + 0.3, mean)), "mean")
              for number, (tick, mean) in enumerate(means)),
        ),
        x_range=scale.span, y_range=axis[0], x_ticks=scale.ticks, y_ticks=axis[1],
        x_names=scale.names if scale.choices else (), x_log=scale.log,
        mark=(best_x + scale.jitter(best), best.score) if best is trials[0] else None,
        intervals=tuple((x, y - t.spread, y + t.spread) for x, y, _, t in dots if t.spread > 0),
        description=f"{metric} of {pluralize(len(positions), 'trial')} against {title}: the best, {best.score:.4f}, at "
        f"{format_rounded(best.settings[name])}.{f' Means: {means_text}.' if means else ''}",
    )  # fmt: skip


def history_panel(result: TuneResult) -> Panel | None:
    """The score of each trial by its number, and the best so far; None if no trial has a score."""
    by_number = sorted(result.trials, key=lambda trial: trial.number)
    done = completed(by_number)
    if not done:
        return None
    pruned = [trial for trial in by_number if trial.state == "pruned" and math.isfinite(trial.score)]
    failed = [trial for trial in by_number if trial.state == "failed"]
    y_range, y_ticks = score_axis([trial.score for trial in (*done, *pruned)])
    last, best = by_number[-1].number, max(done, key=lambda trial: (trial.score, -trial.number))
    lines = (
        Line("best so far", _best_so_far(done, last), "best"),
        _dots("complete", done, "first"),
        _dots("pruned, at its last score", pruned, "guide"),
        Line("failed", tuple((float(trial.number), y_range[0]) for trial in failed), "failed", dots=True, joined=False,
             tooltips=tuple(f"trial {trial.number}: {trial.reason}" for trial in failed)),
    )  # fmt: skip
    x_ticks = tuple(tick for tick in nice_ticks(1, max(last, 2)) if tick == int(tick) and 1 <= tick <= last) or (1.0,)
    metric = score_name(result.plan.options.metric)
    return Panel(
        title="Score of each trial", x_label="trial", y_label=metric,
        lines=tuple(line for line in lines if line.points), x_range=(1 - 0.02 * last, max(last, 2) + 0.02 * last),
        y_range=y_range, x_ticks=x_ticks, y_ticks=y_ticks, mark=(float(best.number), best.score),
        description=f"{metric} of {pluralize(len(done), 'complete trial')}, {len(pruned)} pruned and {len(failed)} "
        f"failed, by number: {done[0].score:.4f} first, the best, {best.score:.4f}, at trial {best.number} of {last}.",
    )  # fmt: skip


def _dots(name: str, trials: Sequence[Trial], role: str) -> Line:
    points = tuple((float(trial.number), trial.score) for trial in trials)
    return Line(name, points, role, dots=True, joined=False, tooltips=tuple(map(note_of, trials)))


def _best_so_far(trials: Sequence[Trial], last: int) -> tuple[tuple[float, float], ...]:
    """A step function from the first of some trials to the number of the last of all."""
    points = [(float(trials[0].number), trials[0].score)]
    for trial in trials:
        if trial.score > points[-1][1]:
            points += [(float(trial.number), points[-1][1]), (float(trial.number), trial.score)]
    return (*points, (float(max(last, trials[0].number)), points[-1][1]))

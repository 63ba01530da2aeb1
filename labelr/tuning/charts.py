"""What each chart of a search shows."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from labelr.config import SEARCHABLE
from labelr.errors import pluralize
from labelr.scoring.report.charts import Axis, Line, Panel, Parallel, Span, Thread, axis_fraction, nice_ticks, tick_text
from labelr.scoring.report.text import METRIC_NAMES
from labelr.training.prepare import DEFAULT_EPOCHS
from labelr.tuning.outcome import Outcome
from labelr.tuning.scales import Scale, jitter, score_axis, thinned
from labelr.tuning.space import Point, shown
from labelr.tuning.trials import Trial

SHADES = 5
LEADERS = ("best", "first", "third")
"""The roles of the best trials among the learning curves."""
MOST_NAMES = 14
"""Of an upright axis."""
_ORDER = {name: number for number, name in enumerate(SEARCHABLE)}


def completed(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that have a score to compare, in the order given."""
    return [trial for trial in trials if trial.state == "complete" and math.isfinite(trial.score)]


def score_name(metric: str) -> str:
    """What people call a score that settings are chosen by."""
    return METRIC_NAMES.get(f"{metric}_macro", METRIC_NAMES.get(metric, metric))


def setting_name(name: str) -> str:
    """What people call a setting."""
    return name.replace("_", " ")


def in_order(settings: Point) -> list[tuple[str, Any]]:
    """What people call the settings of a trial, and their values, in the order of the settings."""
    values = sorted(settings.items(), key=lambda item: _ORDER.get(item[0], 0))
    return [(setting_name(name), value) for name, value in values]


def settings_text(trial: Trial) -> str:
    """A trial's settings in a line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in in_order(trial.settings))


def ordered_names(outcome: Outcome) -> list[str]:
    """The settings that are searched, those that matter most first."""
    return sorted(outcome.space.dimensions, key=lambda name: -outcome.importance.get(name, 0.0))


def note_of(trial: Trial) -> str:
    """What is told of a trial to who points at it."""
    spread = f" ± {trial.spread:.4f}" if math.isfinite(trial.spread) else ""
    return f"trial {trial.number}: {trial.score:.4f}{spread} ({settings_text(trial)})"


def setting_panels(outcome: Outcome) -> list[Panel]:
    """The score of the complete trials against each setting; a setting without any has none."""
    trials = completed(outcome.trials)
    spreads = [trial.spread if math.isfinite(trial.spread) else 0.0 for trial in trials]
    ends = [trial.score + sign * half for trial, half in zip(trials, spreads, strict=True) for sign in (-1, 1)]
    axis = score_axis(ends)
    panels = [_setting_panel(name, outcome, trials, axis) for name in ordered_names(outcome)]
    return [panel for panel in panels if panel is not None]


def _setting_panel(
    name: str, outcome: Outcome, trials: Sequence[Trial], axis: tuple[Span, tuple[float, ...]]
) -> Panel | None:
    scale = Scale.of(outcome.space.dimensions[name])
    placed = [(place, trial) for trial in trials if (place := scale.place(trial, name)) is not None]
    if not placed:
        return None
    aside: Callable[[Trial], float] = (lambda trial: 0.5 * jitter(trial.number)) if scale.choices else lambda _: 0.0
    dots = sorted((place + aside(trial), trial.score, trial.number, trial) for place, trial in placed)
    lines = [Line("a trial", tuple((x, y) for x, y, *_ in dots), dots=True, joined=False,
                  tooltips=tuple(note_of(trial) for *_, trial in dots))]  # fmt: skip
    means = _means(scale, placed)
    for number, (place, mean) in enumerate(means):
        lines.append(Line("" if number else "mean of a value", ((place - 0.3, mean), (place + 0.3, mean)), "mean"))
    best_place, best = placed[0]  # of those that have a place
    metric = score_name(outcome.options.metric)
    return Panel(
        title=setting_name(name), x_label=setting_name(name), y_label=metric, lines=tuple(lines),
        x_range=scale.span, y_range=axis[0], x_ticks=scale.ticks, y_ticks=axis[1],
        x_names=scale.names if scale.choices else (), x_log=scale.log,
        mark=(best_place + aside(best), best.score) if best is trials[0] else None,
        intervals=tuple((x, y - t.spread, y + t.spread) for x, y, _, t in dots if t.spread > 0),
        description=f"{metric} of {pluralize(len(placed), 'trial')} against {setting_name(name)}: the best, "
        f"{best.score:.4f}, at {shown(best.settings[name])}. {_said_of_means(scale, means)}".strip(),
    )  # fmt: skip


def _means(scale: Scale, placed: Sequence[tuple[float, Trial]]) -> list[tuple[float, float]]:
    """The mean score at each place of a scale of choices that has any."""
    found = []
    for place in scale.ticks if scale.choices else ():
        scores = [trial.score for at, trial in placed if at == place]
        if scores:
            found.append((place, statistics.fmean(scores)))
    return found


def _said_of_means(scale: Scale, means: Sequence[tuple[float, float]]) -> str:
    parts = [f"{scale.names[int(place)]} {mean:.4f}" for place, mean in means]
    return f"Means: {', '.join(parts)}." if parts else ""


def history_panel(outcome: Outcome) -> Panel | None:
    """The score of each trial by its number, and the best so far; None where no trial has a score."""
    by_number = sorted(outcome.trials, key=lambda trial: trial.number)
    done = completed(by_number)
    if not done:
        return None
    pruned = [trial for trial in by_number if trial.state == "pruned" and math.isfinite(trial.score)]
    failed = [trial for trial in by_number if trial.state == "failed"]
    y_range, y_ticks = score_axis([trial.score for trial in (*done, *pruned)])
    last = by_number[-1].number
    lines = (
        Line("best so far", _steps(done, last), "best"),
        _dots("complete", done, "first"),
        _dots("pruned, at its last score", pruned, "guide"),
        Line("failed", tuple((float(trial.number), y_range[0]) for trial in failed), "failed", dots=True, joined=False,
             tooltips=tuple(f"trial {trial.number}: {trial.reason}" for trial in failed)),
    )  # fmt: skip
    best = max(done, key=lambda trial: (trial.score, -trial.number))
    metric = score_name(outcome.options.metric)
    room = 0.02 * last
    return Panel(
        title="Score of each trial", x_label="trial", y_label=metric,
        lines=tuple(line for line in lines if line.points), x_range=(1 - room, max(last, 2) + room), y_range=y_range,
        x_ticks=_whole_ticks(1, last), y_ticks=y_ticks, mark=(float(best.number), best.score),
        description=f"{metric} of {pluralize(len(done), 'complete trial')}, {len(pruned)} pruned and {len(failed)} "
        f"failed, by number: {done[0].score:.4f} first, the best, {best.score:.4f}, at trial {best.number} of {last}.",
    )  # fmt: skip


def _whole_ticks(low: int, high: int) -> tuple[float, ...]:
    ticks = tuple(tick for tick in nice_ticks(low, max(high, low + 1)) if tick == int(tick) and low <= tick <= high)
    return ticks or (float(low),)


def _dots(name: str, trials: Sequence[Trial], role: str) -> Line:
    points = tuple((float(trial.number), trial.score) for trial in trials)
    return Line(name, points, role, dots=True, joined=False, tooltips=tuple(map(note_of, trials)))


def _steps(trials: Sequence[Trial], last: int) -> tuple[tuple[float, float], ...]:
    """The best score so far, as a stair from the first of some trials to the number of the last of all."""
    points: list[tuple[float, float]] = []
    for trial in trials:
        if not points or trial.score > points[-1][1]:
            points += [(float(trial.number), points[-1][1])] if points else []
            points.append((float(trial.number), trial.score))
    return (*points, (float(max(last, trials[0].number)), points[-1][1]))


def first_curve(trial: Trial, outcome: Outcome) -> tuple[tuple[float, float], ...]:
    """Epochs and scores of the first time that a trial was trained."""
    epochs = trial.settings.get("epochs") or outcome.given.epochs or DEFAULT_EPOCHS
    curve = sorted((trial.curve or {}).items())
    return tuple((float(epoch), score) for epoch, score in curve if epoch <= epochs and math.isfinite(score))


def curves_panel(outcome: Outcome) -> Panel | None:
    """The score after each epoch, of the best trials and of the others; None where none is known."""
    best = completed(outcome.trials)[: len(LEADERS)]
    rest = [trial for trial in outcome.trials if trial not in best]
    others = [curve for trial in thinned(rest) if (curve := first_curve(trial, outcome))]
    lines = [Line("" if number else "the others", curve, "rest") for number, curve in enumerate(others)]
    for rank, (trial, role) in enumerate(zip(best, LEADERS, strict=False)):
        if curve := first_curve(trial, outcome):
            name = f"trial {trial.number}{'' if rank else ', the best'}"
            lines.append(Line(name, curve, role, dots=len(curve) < 3))
    if len(lines) == len(others):
        return None
    y_range, y_ticks = score_axis([y for line in lines for _, y in line.points])
    last = int(max(x for line in lines for x, _ in line.points))
    metric = score_name(outcome.options.metric)
    ends = "; ".join(f"{line.name} {line.points[-1][1]:.4f} after {line.points[-1][0]:.0f}" for line in lines if
                     line.role in LEADERS)  # fmt: skip
    return Panel(
        title="Learning curves", x_label="epoch", y_label=metric, lines=tuple(lines), x_range=(1, max(last, 2)),
        y_range=y_range, x_ticks=_whole_ticks(1, last), y_ticks=y_ticks,
        description=f"{metric} by epoch of the best trials and {len(others)} others, at last: {ends}.",
    )  # fmt: skip


def parallel(outcome: Outcome) -> Parallel | None:
    """An axis for each setting and one for the score, a line for each trial; None of fewer than two."""
    names = ordered_names(outcome)
    scales = {name: Scale.of(outcome.space.dimensions[name]) for name in names}
    done = completed(outcome.trials)
    span, ticks = score_axis([trial.score for trial in done])
    pruned = [trial for trial in outcome.trials if trial.state == "pruned"]
    threads = [Thread(heights, "rest") for trial in thinned(pruned) if (heights := _heights(trial, scales))]
    scores = sorted(trial.score for trial in done)
    top = [
        Thread(
            (*heights, axis_fraction(trial.score, span)),
            _shade(trial.score, scores) if rank else "best",
            note_of(trial),
        )
        for rank, trial in enumerate(thinned(done))
        if (heights := _heights(trial, scales))
    ]
    if min(len(top), len(names)) < 2:
        return None
    metric = score_name(outcome.options.metric)
    axes = [Axis(setting_name(name), _named(scale)) for name, scale in scales.items()]
    axes.append(Axis(metric, tuple((axis_fraction(tick, span), tick_text(tick)) for tick in ticks)))
    lines = f"{pluralize(len(top), 'complete trial')} as lines over {', '.join(map(setting_name, scales))} and {metric}"
    told = f"{lines}; the best is {note_of(done[0])}."
    return Parallel("All settings together", tuple(axes), (*threads, *reversed(top)), told)


def _heights(trial: Trial, scales: dict[str, Scale]) -> tuple[float, ...]:
    """Where a trial crosses the axes of the settings; none where it has no value for one of them."""
    heights = []
    for name, scale in scales.items():
        place = scale.place(trial, name)
        if place is None:
            return ()
        aside = 0.3 * jitter(trial.number) if scale.choices else 0.0
        heights.append(scale.share(place + aside))
    return tuple(heights)


def _shade(score: float, scores: Sequence[float]) -> str:
    """The shade of a score among all scores, by its rank, so that one bad trial does not make all others alike."""
    below = sum(one < score for one in scores)
    same = sum(one == score for one in scores)
    return f"shade{min(SHADES - 1, int(SHADES * (below + same / 2) / len(scores)))}"


def _named(scale: Scale) -> tuple[tuple[float, str], ...]:
    """The names axis_fraction an upright axis, so many that they do not touch."""
    named = [(scale.share(tick), name) for tick, name in zip(scale.ticks, scale.names, strict=True)]
    return tuple(named[:: math.ceil(len(named) / MOST_NAMES) or 1])

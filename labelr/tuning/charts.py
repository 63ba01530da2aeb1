"""The charts of a search: the score against each setting, and the score of each trial."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from statistics import fmean

from labelr.errors import pluralize
from labelr.scoring.metrics import METRIC_NAMES
from labelr.scoring.report.charts import Line, Panel, Span, inner_ticks, nice_ticks
from labelr.tuning.space import Range, format_rounded, format_value
from labelr.tuning.trials import Trial, TuneResult, select

MIN_SCORE_SPAN = 0.02
"""The length of a score axis, at least: close scores look close."""


def score_name(metric: str) -> str:
    """The name of a score in text."""
    return METRIC_NAMES.get(f"{metric}_macro", METRIC_NAMES.get(metric, metric))


def setting_name(name: str) -> str:
    """The name of a setting in text."""
    return name.replace("_", " ")


def score_axis(scores: Sequence[float]) -> tuple[Span, tuple[float, ...]]:
    """Both ends of a score axis, and its ticks."""
    low, high = min(scores), max(scores)
    missing = max(0.0, MIN_SCORE_SPAN - (high - low)) / 2
    ticks = nice_ticks(max(low - missing, min(low, 0.0)), min(high + missing, max(high, 1.0)))
    return (ticks[0], ticks[-1]), ticks


def setting_panels(result: TuneResult) -> list[Panel]:
    """The score of the complete trials against each setting, the most important one first."""
    names = sorted(result.plan.space.dimensions, key=lambda name: -result.importance.get(name, 0.0))
    return [_setting_panel(name, result, select(result.trials, "complete")) for name in names]


def _setting_panel(name: str, result: TuneResult, trials: Sequence[Trial]) -> Panel:
    dimension = result.plan.space.dimensions[name]
    values = [trial.settings[name] for trial in trials]
    x_names: tuple[str, ...] = ()
    if isinstance(dimension, Range):
        xs, x_range = [float(value) for value in values], (dimension.low, dimension.high)
        x_ticks = inner_ticks(*x_range, log=dimension.log)
        x_ticks = tuple(tick for tick in x_ticks if not dimension.whole or tick == int(tick))
    else:
        x_names = tuple(map(format_value, dimension.choices))
        xs, x_range = [float(dimension.choices.index(value)) for value in values], (-0.5, len(x_names) - 0.5)
        x_ticks = tuple(map(float, range(len(x_names))))
    bars = tuple((x, t.score - t.spread, t.score + t.spread) for x, t in zip(xs, trials, strict=True) if t.spread > 0)
    y_range, y_ticks = score_axis([*(trial.score for trial in trials), *(end for _, *ends in bars for end in ends)])
    metric, title = score_name(result.plan.options.metric), setting_name(name)
    return Panel(
        title=title, x_label=title, y_label=metric,
        lines=(_dots("a trial", xs, trials), *(_means(xs, trials) if x_names else ())),
        x_range=x_range, y_range=y_range, x_ticks=x_ticks, y_ticks=y_ticks, x_names=x_names,
        x_log=isinstance(dimension, Range) and dimension.log, mark=(xs[0], trials[0].score), intervals=bars,
        description=f"{metric} of {pluralize(len(trials), 'trial')} against {title}: the best, "
        f"{trials[0].score:.4f}, at {format_rounded(values[0])}.",
    )  # fmt: skip


def _means(xs: Sequence[float], trials: Sequence[Trial]) -> Iterator[Line]:
    """A short line at the mean score of each listed value."""
    for x in sorted(set(xs)):
        mean = fmean(trial.score for at, trial in zip(xs, trials, strict=True) if at == x)
        yield Line("mean of a value" if x == min(xs) else "", ((x - 0.3, mean), (x + 0.3, mean)), "mean")


def history_panel(result: TuneResult) -> Panel:
    """The score of each trial by its number, and the best so far."""
    by_number = sorted(result.trials, key=lambda trial: trial.number)
    done, pruned = select(by_number, "complete"), select(by_number, "pruned")
    numbers, last = [float(trial.number) for trial in done], by_number[-1].number
    best_so_far = zip(numbers, accumulate((trial.score for trial in done), max), strict=True)
    lines = [Line("best so far", tuple(best_so_far), "best"), _dots("complete", numbers, done)]
    if pruned:
        lines.append(_dots("pruned, at its last score", [trial.number for trial in pruned], pruned, "guide"))
    y_range, y_ticks = score_axis([trial.score for trial in (*done, *pruned)])
    metric, best = score_name(result.plan.options.metric), result.best
    return Panel(
        title="Score of each trial", x_label="trial", y_label=metric, lines=tuple(lines),
        x_range=(1, max(last, 2)), y_range=y_range, y_ticks=y_ticks,
        x_ticks=tuple(tick for tick in inner_ticks(1, max(last, 2)) if tick == int(tick)),
        mark=(float(best.number), best.score),
        description=f"{metric} of {pluralize(len(done), 'complete trial')} and {len(pruned)} pruned by number: "
        f"{done[0].score:.4f} first, the best, {best.score:.4f}, at trial {best.number} of {last}.",
    )  # fmt: skip


def _dots(name: str, xs: Sequence[float], trials: Sequence[Trial], role: str = "first") -> Line:
    notes = [f"trial {trial.number}: {trial.score:.4f} ({trial.description})" for trial in trials]
    dots = sorted(zip(xs, (trial.score for trial in trials), notes, strict=True))
    points = tuple((x, y) for x, y, _ in dots)
    return Line(name, points, role, dots=True, joined=False, tooltips=tuple(note for *_, note in dots))

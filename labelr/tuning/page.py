"""The HTML report of a search: one file that loads nothing from the network. Its sentences are in the template."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from labelr import files, serialization
from labelr.config import TrainConfig
from labelr.errors import pluralize
from labelr.fields import is_number
from labelr.scoring.metrics import METRIC_NAMES
from labelr.scoring.report import svg
from labelr.scoring.report.charts import Line, Panel, Span, inner_ticks, nice_ticks
from labelr.scoring.report.page import render_page, report_path, write_html
from labelr.scoring.report.text import (
    Facts,
    format_score,
    machine_description,
    package_versions,
    score_digits,
    setting_facts,
)
from labelr.tuning.space import Range, format_rounded, format_value
from labelr.tuning.trials import STATES, TRIALS_FILE, Trial, TuneResult, select, trial_rows

TEMPLATE = Path(__file__).with_name("study.html.j2")
MAX_ROWS, MAX_REASONS = 1000, 20
FEW_TRIALS = 10
"""With fewer complete trials per setting, the importance is a rough estimate."""
MIN_SCORE_SPAN = 0.02
"""The length of a score axis, at least: close scores look close."""
MANY_FAILED = 0.1
"""A share of failed trials that is reported at the top."""


def write_study_page(result: TuneResult) -> Path:
    """Writes ``report/report.html`` into the study's directory, and returns its path.

    Raises:
        LabelrError: If it cannot be written.
    """
    page = report_path(result.folder)
    files.make_folder(page.parent)
    write_html(page, render(result, datetime.now(UTC)))
    return page


def render(result: TuneResult, now: datetime) -> str:
    """The report as HTML."""
    plan, counts = result.plan, Counter(trial.state for trial in result.ranking)
    digits = score_digits(result.val_images, result.best.score)
    history, num_done = history_panel(result), counts["complete"]
    reasons = Counter(trial.reason or "unknown reason" for trial in result.ranking if trial.state == "failed")
    sections = {
        "best": "Best settings", "importance": "Importance", "settings": "Each setting", "history": "History",
        "trials": "Trials", "made": "Details",
    }  # fmt: skip
    if not result.importance:
        del sections["importance"]
    context = {
        "title": f"{result.study}: best settings",
        "sections": list(sections.items()),
        "result": result,
        "plan": plan,
        "best": result.best,
        "second": result.ranking[1] if num_done > 1 else None,
        "num_done": num_done,
        "counts": [f"{counts[state]:,} {state}" for state in STATES if counts[state] or state in STATES[:3]],
        "failed": counts["failed"] if counts["failed"] >= MANY_FAILED * len(result.ranking) else 0,
        "pruned": counts["pruned"],
        "metric": score_name(plan.options.metric),
        "digits": digits,
        "bias": {name: round(score, digits) for name, score in (result.optimistic_bias or {}).items()},
        "importance": [(setting_name(name), 100 * share) for name, share in result.importance.items()],
        "is_rough": num_done < FEW_TRIALS * len(plan.space.dimensions),
        "panels": [(panel, svg.draw(panel)) for panel in setting_panels(result)],
        "history": (history, svg.draw(history)),
        "table": _table(result),
        "reasons": [(pluralize(number, "trial"), reason) for reason, number in reasons.most_common(MAX_REASONS)],
        "more_reasons": max(0, len(reasons) - MAX_REASONS),
        "trials_file": TRIALS_FILE,
        "made": _made(result, now),
        "config": setting_facts(result.best_config.to_dict()),
        "format_rounded": format_rounded,
        "setting_name": setting_name,
        "pluralize": pluralize,
    }
    return render_page(TEMPLATE, context)


def _table(result: TuneResult) -> dict[str, Any]:
    """The trials, best first: columns and rows; an empty column of spreads is left out."""
    searched, fields = result.plan.space.dimensions, TrainConfig.__dataclass_fields__
    rows = [serialization.without_nan(row) for row in trial_rows(result.ranking[:MAX_ROWS], searched, format_rounded)]
    first = ("rank", "trial", "score", "spread")  # which are then in sight on a telephone, too
    columns = [
        {
            "key": key,
            "title": setting_name(key),
            "numeric": is_number(fields[key]) if key in searched else key != "state",
        }
        for key in dict.fromkeys((*first, *rows[0]))
        if key != "reason" and (key != "spread" or any(row[key] for row in rows))
    ]
    return {"columns": columns, "rows": rows, "total": len(result.ranking)}


def _made(result: TuneResult, now: datetime) -> list[tuple[str, Facts]]:
    """What is needed to repeat the search: titles, each with names and values."""
    plan = result.plan
    versions = package_versions("optuna")
    return [
        ("Search", [("Directory", str(result.folder)), *setting_facts(plan.options.to_dict())]),
        ("Search space", setting_facts(plan.space.to_dict())),
        ("Environment", [("Versions", versions), ("Machine", machine_description()), ("Written", now.isoformat())]),
    ]


# --- charts -----------------------------------------------------------------------------------------------------------


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
    return [_setting_panel(name, result, select(result.ranking, "complete")) for name in names]


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
        lines=(_dots("a trial", xs, trials, result), *(_means(xs, trials) if x_names else ())),
        x_range=x_range, y_range=y_range, x_ticks=x_ticks, y_ticks=y_ticks, x_names=x_names,
        x_log=isinstance(dimension, Range) and dimension.log, mark=(xs[0], trials[0].score), intervals=bars,
        description=f"{metric} of {pluralize(len(trials), 'trial')} against {title}: the best, "
        f"{_score(result, trials[0])}, at {format_rounded(values[0])}.",
    )  # fmt: skip


def _means(xs: Sequence[float], trials: Sequence[Trial]) -> Iterator[Line]:
    """A short line at the mean score of each listed value."""
    for x in sorted(set(xs)):
        mean = fmean(trial.score for at, trial in zip(xs, trials, strict=True) if at == x)
        yield Line("mean of a value" if x == min(xs) else "", ((x - 0.3, mean), (x + 0.3, mean)), "mean")


def history_panel(result: TuneResult) -> Panel:
    """The score of each trial by its number, and the best so far."""
    by_number = sorted(result.ranking, key=lambda trial: trial.number)
    done, pruned = select(by_number, "complete"), select(by_number, "pruned")
    numbers, last = [float(trial.number) for trial in done], by_number[-1].number
    best_so_far = zip(numbers, accumulate((trial.score for trial in done), max), strict=True)
    lines = [Line("best so far", tuple(best_so_far), "best"), _dots("complete", numbers, done, result)]
    if pruned:
        lines.append(_dots("pruned, at its last score", [trial.number for trial in pruned], pruned, result, "guide"))
    y_range, y_ticks = score_axis([trial.score for trial in (*done, *pruned)])
    metric, best = score_name(result.plan.options.metric), result.best
    return Panel(
        title="Score of each trial", x_label="trial", y_label=metric, lines=tuple(lines),
        x_range=(1, max(last, 2)), y_range=y_range, y_ticks=y_ticks,
        x_ticks=tuple(tick for tick in inner_ticks(1, max(last, 2)) if tick == int(tick)),
        mark=(float(best.number), best.score),
        description=f"{metric} of {pluralize(len(done), 'complete trial')} and {len(pruned)} pruned by number: "
        f"{_score(result, done[0])} first, the best, {_score(result, best)}, at trial {best.number} of {last}.",
    )  # fmt: skip


def _dots(name: str, xs: Sequence[float], trials: Sequence[Trial], result: TuneResult, role: str = "first") -> Line:
    points = tuple(zip(xs, (trial.score for trial in trials), strict=True))
    notes = tuple(f"trial {trial.number}: {_score(result, trial)} ({trial.description})" for trial in trials)
    return Line(name, points, role, dots=True, joined=False, tooltips=notes)


def _score(result: TuneResult, trial: Trial) -> str:
    """The score of a trial with the digits that mean something."""
    return format_score(trial.score, score_digits(result.val_images, result.best.score))

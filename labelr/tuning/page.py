"""The HTML report of a search: one file that loads nothing from the network. Its sentences are in the template."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import TrainConfig
from labelr.errors import pluralize, preview
from labelr.scoring.report import svg
from labelr.scoring.report.charts import axis_fraction
from labelr.scoring.report.page import render_page, report_path, write_html
from labelr.scoring.report.text import Facts, machine_description, package_versions, setting_facts
from labelr.scoring.results import without_nan
from labelr.tuning.charts import completed, history_panel, score_name, setting_name, setting_panels
from labelr.tuning.space import Range, format_rounded, format_value
from labelr.tuning.trials import STATES, TRIALS_FILE, Trial, TuneResult, trial_rows

TEMPLATE = Path(__file__).with_name("study.html.j2")
MAX_ROWS, MAX_REASONS = 1000, 20
FEW_TRIALS = 10
"""With fewer complete trials per setting, the importance is a rough estimate."""
MANY_FAILED = 0.1
"""A share of failed trials that is reported at the top."""
EDGE = 0.05
"""The share of a range that counts as its end."""


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
    done, plan = completed(result.trials), result.plan
    history = history_panel(result)
    counts = Counter(trial.state for trial in result.trials)
    context = {
        "title": f"{result.study}: best settings",
        "result": result,
        "plan": plan,
        "best": done[0] if done else None,
        "num_done": len(done),
        "counts": [f"{counts[state]:,} {state}" for state in STATES if counts[state] or state in STATES[:3]],
        "failed": counts["failed"] if counts["failed"] >= MANY_FAILED * len(result.trials) else 0,
        "pruned": counts["pruned"],
        "metric": score_name(plan.options.metric),
        "bias": result.optimistic_bias,
        "interval": _interval(result),
        "cautions": [*_close_trials(done), *_values_at_edges(result, done)],
        "importance": [(setting_name(name), 100 * share) for name, share in result.importance.items()],
        "is_rough": len(done) < FEW_TRIALS * len(plan.space.dimensions),
        "against": [(panel, svg.draw(panel)) for panel in setting_panels(result)],
        "history": (history, svg.draw(history)) if history else None,
        "table": _table(result),
        "reasons": _reasons(result.trials),
        "trials_file": TRIALS_FILE,
        "made": _made(result, now),
        "config": setting_facts(result.best_config.to_dict()) if done else [],
        "format_value": format_value,
        "setting_name": setting_name,
        "pluralize": pluralize,
    }
    sections = {
        "best": ("best", "Best settings"), "importance": ("importance", "Importance"),
        "against": ("settings", "Each setting"), "history": ("history", "History"), "table": ("trials", "Trials"),
        "made": ("made", "Details"),
    }  # fmt: skip
    return render_page(TEMPLATE, {**context, "sections": [sections[name] for name in sections if context[name]]})


def _interval(result: TuneResult) -> Sequence[float] | None:
    """The confidence interval of the refitted model's test score; it is known for mAP."""
    low, high = ((result.model or {}).get("intervals") or {}).get("map_macro") or (None, None)
    return None if result.plan.options.metric != "map" or low is None or high is None else (low, high)


def _reasons(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Which trials failed and why, the most frequent reason first."""
    numbers: dict[str, list[int]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.state == "failed":
            numbers.setdefault(trial.reason or "unknown reason", []).append(trial.number)
    by_count = sorted(numbers.items(), key=lambda item: -len(item[1]))
    rows = [(f"{'Trial' if len(of) == 1 else 'Trials'} {preview(of, 12)}", reason) for reason, of in by_count]
    more = len(rows) - MAX_REASONS
    return [*rows[:MAX_REASONS], *([("Others", f"{more:,} more reasons")] if more > 0 else [])]


def _close_trials(done: Sequence[Trial]) -> Iterator[str]:
    """Whether the best trial is better than the others by more than chance."""
    if len(done) < 2:
        return
    best, second = done[:2]
    same = sum(trial.score == best.score for trial in done[1:])
    if same:
        have = "1 other trial has" if same == 1 else f"{same:,} other trials have"
        yield f"{have} the same score: the trials do not show which of these settings are the best."
        return
    start = f"The second best, trial {second.number}, has {second.score:.4f}, {best.score - second.score:.4f} less."
    if not math.isfinite(best.spread):
        yield (
            f"{start} Each point was trained once, and scores vary by chance, with the initial weights and the order "
            "of the images: small differences mean little. --seeds 3 measures this variation."
        )
        return
    close = sum(best.score - trial.score <= best.spread for trial in done[1:])
    are = "No other trial is" if not close else "1 other trial is" if close == 1 else f"{close:,} other trials are"
    end = ": they may be equally good." if close else "."
    yield f"{start} {are} within {best.spread:.4f} of the best, the standard deviation over its seeds{end}"


def _values_at_edges(result: TuneResult, done: Sequence[Trial]) -> Iterator[str]:
    """A sentence for each setting whose best value is at an end of what was tried."""
    if len(done) < 2 or done[0].score == done[1].score:
        return
    for name, dimension in result.plan.space.dimensions.items():
        value = done[0].settings.get(name)
        if isinstance(value, (bool, str)) or value is None:
            continue
        if isinstance(dimension, Range):
            share = axis_fraction(value, (dimension.low, dimension.high), log=dimension.log)
            end = "lowest" if share <= EDGE else "highest" if share >= 1 - EDGE else ""
        else:
            numbers = [choice for choice in dimension.choices if isinstance(choice, (int, float))]
            ends = {min(numbers): "lowest", max(numbers): "highest"} if len(numbers) > 2 else {}
            end = ends.get(value, "")
        lowest = TrainConfig.__dataclass_fields__[name].metadata["low"]
        if end and not (end == "lowest" and value <= lowest):
            yield (
                f"The best {setting_name(name)}, {format_value(value)}, is at the end of the values tried ({end}): "
                "values beyond it may be better."
            )


def _table(result: TuneResult) -> dict[str, Any]:
    """The trials, best first: columns and rows; empty columns of spreads are left out."""
    trials = result.trials[:MAX_ROWS]
    rows = [without_nan(row) for row in trial_rows(trials, result.plan.space.dimensions, format_rounded)]
    columns = [
        {"key": key, "title": setting_name(key), "numeric": all(_is_number(row[key]) for row in rows)}
        for key in (rows[0] if rows else ())
        if key != "reason" and (key != "spread" or any(row[key] for row in rows))
    ]
    return {"columns": columns, "rows": rows, "total": len(result.trials)}


def _is_number(cell: object) -> bool:
    if cell is None or cell == "":
        return True
    try:
        float(str(cell))
    except ValueError:
        return False
    return True


def _made(result: TuneResult, now: datetime) -> list[tuple[str, Facts]]:
    """What is needed to repeat the search: titles, each with names and values."""
    plan, defaults = result.plan, TrainConfig().to_dict()
    changed = {
        name: value for name, value in plan.config.to_dict().items()
        if value != defaults[name] and name not in plan.space.dimensions
    }  # fmt: skip
    environment = [
        ("Versions", package_versions("optuna")), ("Machine", machine_description()),
        ("Written", now.isoformat(timespec="seconds")),
    ]  # fmt: skip
    return [
        ("Search", [("Directory", str(result.folder)), *setting_facts(plan.options.to_dict())]),
        ("Search space", setting_facts(plan.space.to_dict())),
        ("Settings of all trials that are not defaults", setting_facts(changed) or [("All settings", "default")]),
        ("Environment", environment),
    ]

"""The HTML report of a search: one file that loads nothing from the network. Its sentences are in the template."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import TrainConfig
from labelr.errors import pluralize
from labelr.fields import is_number
from labelr.scoring.report import svg
from labelr.scoring.report.page import render_page, report_path, write_html
from labelr.scoring.report.text import Facts, machine_description, package_versions, setting_facts
from labelr.scoring.results import without_nan
from labelr.tuning.charts import history_panel, score_name, setting_name, setting_panels
from labelr.tuning.space import format_rounded, format_value
from labelr.tuning.trials import STATES, TRIALS_FILE, TuneResult, trial_rows

TEMPLATE = Path(__file__).with_name("study.html.j2")
MAX_ROWS, MAX_REASONS = 1000, 20
FEW_TRIALS = 10
"""With fewer complete trials per setting, the importance is a rough estimate."""
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
    plan, counts = result.plan, Counter(trial.state for trial in result.trials)
    history, num_done = history_panel(result), counts["complete"]
    reasons = Counter(trial.reason or "unknown reason" for trial in result.trials if trial.state == "failed")
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
        "second": result.trials[1] if num_done > 1 else None,
        "num_done": num_done,
        "counts": [f"{counts[state]:,} {state}" for state in STATES if counts[state] or state in STATES[:3]],
        "failed": counts["failed"] if counts["failed"] >= MANY_FAILED * len(result.trials) else 0,
        "pruned": counts["pruned"],
        "metric": score_name(plan.options.metric),
        "bias": result.optimistic_bias,
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
        "format_value": format_value,
        "setting_name": setting_name,
        "pluralize": pluralize,
    }
    return render_page(TEMPLATE, context)


def _table(result: TuneResult) -> dict[str, Any]:
    """The trials, best first: columns and rows; an empty column of spreads is left out."""
    searched, fields = result.plan.space.dimensions, TrainConfig.__dataclass_fields__
    rows = [without_nan(row) for row in trial_rows(result.trials[:MAX_ROWS], searched, format_rounded)]
    columns = [
        {
            "key": key,
            "title": setting_name(key),
            "numeric": is_number(fields[key]) if key in searched else key != "state",
        }
        for key in rows[0]
        if key != "reason" and (key != "spread" or any(row[key] for row in rows))
    ]
    return {"columns": columns, "rows": rows, "total": len(result.trials)}


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

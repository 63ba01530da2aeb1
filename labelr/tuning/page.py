"""The page of a search: one file that asks nothing of the network."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.scoring.report import svg
from labelr.scoring.report.page import render_page, report_path, write_html
from labelr.scoring.report.text import Facts, machine_description, package_versions, setting_facts
from labelr.scoring.results import without_nan
from labelr.tuning import charts, findings
from labelr.tuning.outcome import TRIALS_FILE, Outcome, trial_rows
from labelr.tuning.space import said, shown

TEMPLATE = Path(__file__).with_name("study.html.j2")
ROWS_SHOWN = 1000
SAMPLERS = {
    "grid": "grid: every combination, in an order drawn by the seed",
    "random": "random points",
    "tpe": "TPE: points like those that did best before",
}


def write_study_page(outcome: Outcome) -> Path:
    """Writes ``report/report.html`` into a study's directory, in place of what was there.

    Args:
        outcome: What the page is made from.

    Returns:
        The page.

    Raises:
        LabelrError: If it cannot be written.
    """
    page = report_path(outcome.folder)
    files.make_folder(page.parent)
    write_html(page, render(outcome, datetime.now(UTC)))
    return page


def render(outcome: Outcome, now: datetime) -> str:
    """The page as text."""
    return render_page(TEMPLATE, _context(outcome, now))


def _context(outcome: Outcome, now: datetime) -> dict[str, Any]:
    history = (charts.history_panel(outcome), charts.curves_panel(outcome))
    threads = charts.parallel(outcome)
    parts = {
        "best": _best(outcome),
        "importance": _importance(outcome),
        "against": [(panel, svg.draw(panel)) for panel in charts.setting_panels(outcome)],
        "parallel": svg.draw_parallel(threads) if threads else None,
        "history": [(panel, svg.draw(panel)) for panel in history if panel],
    }
    titles = {
        "best": ("best", "The best settings"), "importance": ("importance", "What matters"),
        "against": ("settings", "Each setting"), "parallel": ("together", "All settings together"),
        "history": ("history", "How the search went"),
    }  # fmt: skip
    return {
        "title": f"{outcome.study}: which settings are best",
        "study": outcome.study,
        "headline": findings.headline(outcome),
        "sections": [
            *(titles[name] for name in titles if parts[name]),
            ("trials", "Trials"),
            ("made", "How it was made"),
        ],
        "metric": charts.score_name(outcome.options.metric),
        "seeds": outcome.options.seeds,
        "pruned": any(trial.state == "pruned" for trial in outcome.trials),
        "table": _table(outcome),
        "reasons": findings.reasons(outcome),
        "trials_file": TRIALS_FILE,
        "made": _made(outcome, now),
        **parts,
    }


def _best(outcome: Outcome) -> dict[str, Any] | None:
    """The best settings and what to think of them; None where no trial is complete."""
    done = charts.completed(outcome.trials)
    if not done:
        return None
    model = outcome.model or {}
    return {
        "trial": done[0].number,
        "settings": [(name, said(value)) for name, value in charts.in_order(done[0].settings)],
        "command": outcome.command,
        "beliefs": [*findings.flattery(outcome), *findings.beliefs(outcome)],
        "model": model.get("model"),
        "all": setting_facts(outcome.best_config.to_dict()),
    }


def _importance(outcome: Outcome) -> dict[str, Any] | None:
    """The share of each setting; None where there is none."""
    if not outcome.importance:
        return None
    rows = [
        {"name": charts.setting_name(name), "percent": f"{100 * share:.0f} %", "width": f"{100 * share:.1f}"}
        for name, share in outcome.importance.items()
    ]
    return {"said": findings.importance(outcome), "rows": rows}


def _table(outcome: Outcome) -> dict[str, Any]:
    """The trials from the best on: columns, and rows of cells; a column of spreads only where there are any."""
    rows = [without_nan(row) for row in trial_rows(outcome.trials[:ROWS_SHOWN], outcome.space.dimensions, shown)]
    columns = [
        {"key": key, "title": charts.setting_name(key), "numeric": numeric}
        for key in (rows[0] if rows else ())
        if key != "reason" and (key != "spread" or any(_column(rows, key)))
        for numeric in [all(map(_is_number, _column(rows, key)))]
    ]
    best = {trial.number for trial in charts.completed(outcome.trials)[:1]}
    return {"columns": columns, "rows": rows, "best": best, "total": len(outcome.trials)}


def _column(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]


def _is_number(cell: object) -> bool:
    if cell is None or cell == "":
        return True
    try:
        float(str(cell))
    except ValueError:
        return False
    return True


def _made(outcome: Outcome, now: datetime) -> list[tuple[str, Facts]]:
    """Titles, each with names and values: of the search, what was searched, what all trials had, and where it ran."""
    given = {
        field.name: value
        for field in dataclasses.fields(outcome.given)
        if (value := getattr(outcome.given, field.name)) != field.default and field.name not in outcome.space.dimensions
    }
    return [
        ("The search", _search(outcome)),
        ("What was searched", setting_facts({name: str(one) for name, one in outcome.space.dimensions.items()})),
        ("What all trials had, where it is not usual", setting_facts(_plain(given)) or [("All settings", "as usual")]),
        (
            "Where",
            [
                ("Page made with", package_versions("optuna")),
                ("Machine", machine_description()),
                ("This page written", now.isoformat(timespec="seconds")),
            ],
        ),
    ]


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _search(outcome: Outcome) -> Facts:
    options, first = outcome.options, outcome.given.seed
    seeds = f"{first}" if options.seeds == 1 else f"{first} to {first + options.seeds - 1}, the mean counts"
    at = "" if options.metric == "map" else ", at a threshold of 0.5"
    size, epochs = outcome.space.size, sum(trial.epochs for trial in outcome.trials)
    minutes = sum(trial.seconds for trial in outcome.trials) / 60
    return [
        ("Study", outcome.study),
        ("Directory", str(outcome.folder)),
        ("Data", ", ".join(outcome.data) or f"{outcome.given.synthetic:,} drawn images"),
        ("Searched for", f"{charts.score_name(options.metric)} on validation images{at}"),
        ("Sampler", SAMPLERS.get(outcome.sampler, outcome.sampler)),
        *([("Combinations", f"{size:,}")] if size is not None else []),
        ("Points asked for", "not set" if options.trials is None else f"{options.trials:,}"),
        ("Time limit", "none" if options.time is None else f"{options.time:g} minutes"),
        ("Seeds", seeds),
        ("Pruning", "successive halving" if options.prune else "none"),
        ("Trials at a time", f"{options.jobs:,}"),
        ("Trained in all", f"{epochs:,} epochs, {minutes:,.1f} minutes"),
    ]  # fmt: skip

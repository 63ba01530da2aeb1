"""Renders and writes reports: one self-contained HTML file that loads nothing from the network, and chart files."""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import PLOT_FORMATS
from labelr.data.images import PAGE_FILE, REPORT_FOLDER
from labelr.scoring.report import sections, text
from labelr.scoring.report.plots import CHARTS, write_charts
from labelr.scoring.report.report_data import ReportData
from labelr.version import __version__

HERE = Path(__file__).parent
TEMPLATE = HERE / "report.html.j2"


def report_path(folder: Path) -> Path:
    """Where the HTML report of a directory is."""
    return folder / REPORT_FOLDER / PAGE_FILE


def report_files(folder: Path) -> list[Path]:
    """All files that a report in a directory may have, with charts in any format, whether they exist or not."""
    names = [f"{chart}.{suffix}" for chart in CHARTS for suffix in PLOT_FORMATS]
    return [report_path(folder), *(folder / REPORT_FOLDER / name for name in names)]


def remove_report(folder: Path) -> None:
    """Deletes the report in a directory, whose model or results are being replaced."""
    for path in report_files(folder):
        with suppress(NotADirectoryError):  # a file of the user's has the folder's name: writing will report it
            path.unlink(missing_ok=True)


def write_report(folder: Path, report: ReportData, *, plot_format: str = "png") -> Path:
    """Writes ``report/report.html`` and its charts into a directory, and returns the path of the HTML file.

    A previous report is replaced.

    Args:
        folder: The directory of the results.
        report: What the report is made from.
        plot_format: The format of the chart files, ``"png"`` or ``"svg"``.

    Raises:
        LabelrError: If a file cannot be written.
    """
    path = report_path(folder)
    files.make_folder(path.parent)
    with files.writing(path.parent):
        remove_report(folder)
    thumbnails = sections.Thumbnails(report.evaluation)
    write_html(path, render(report, thumbnails))
    write_charts(path.parent, report, thumbnails, plot_format)
    return path


def write_html(path: Path, html: str) -> None:
    """Writes an HTML file atomically; characters that UTF-8 cannot encode are replaced.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(path, html.encode("utf-8", "replace"), durable=False)


def render(report: ReportData, thumbnails: sections.Thumbnails) -> str:
    """The report as HTML."""
    return render_page(TEMPLATE, _context(report, thumbnails))


def render_page(template: Path, context: Mapping[str, Any]) -> str:
    """A template as HTML, with the shared style sheet and script.

    Args:
        template: Extends ``base.html.j2``.
        context: Its variables. The base template needs the `title`, and the anchor and title of each of the `sections`.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader([template.parent, HERE]), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (HERE / "report.js").read_text(encoding="utf-8")
    base = {
        "version": __version__,
        "style": Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        "script": Markup(script),  # noqa: S704 - our own
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template(template.name).render({**context, **base}) + "\n"


def _context(report: ReportData, thumbnails: sections.Thumbnails) -> dict[str, Any]:
    evaluated = bool(len(report.evaluation.probs))
    parts = {
        "cards": text.metric_cards(report.result) if evaluated else [],
        "suspects": sections.suspects(report, sections.Thumbnails(report.checked, shared=thumbnails)),
        "galleries": sections.galleries(report.evaluation, thumbnails),
        "labels": sections.labels(report),
        "pairs": sections.pairs(report.evaluation),
        "calibration": sections.calibration(report.evaluation),
        "history": sections.history(report),
    }
    anchors = {
        "cards": ("metrics", "Metrics"), "suspects": ("suspects", "Suspected label errors"),
        "galleries": ("images", "Images"), "labels": ("labels", "Labels"), "pairs": ("pairs", "Label pairs"),
        "calibration": ("calibration", "Calibration"), "history": ("training", "Training"),
    }  # fmt: skip
    info = report.model.info
    return {
        "name": report.model.name,
        "title": f"{report.model.name}: evaluation report",
        "headline": text.headline(report.result, report.images, seen_in_training=report.seen_in_training),
        "sections": [
            *(anchors[name] for name in anchors if parts[name]),
            ("reproducibility", "Reproducibility"),
        ],
        "metrics": text.metric_rows(report.result),
        "explanation": text.explain_metrics(report.result) if evaluated else "",
        "folds": "spread" in report.result,
        "columns": sections.LABEL_COLUMNS,
        "few": report.result["few_positives"],
        "total": len(report.evaluation.labels),
        "facts": text.reproducibility_facts(report, datetime.now(UTC)),
        "label_counts": text.label_counts(info, sections.MAX_ROWS),
        "settings": text.setting_facts(info.config),
        **parts,
    }

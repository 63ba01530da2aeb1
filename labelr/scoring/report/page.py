"""Writes the page: one file that asks nothing of the network."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.config import PLOT_FORMATS
from labelr.data.images import PAGE_FILE, REPORT_FOLDER
from labelr.scoring.report import sections
from labelr.scoring.report.made import counts, made, settings
from labelr.scoring.report.plots import CHARTS, write_charts
from labelr.scoring.report.source import Source
from labelr.scoring.report.template import page_in, render_page, write_page
from labelr.scoring.report.words import cards, headline, how_to_read, measures

TEMPLATE = Path(__file__).with_name("page.html.j2")


def report_files(folder: Path) -> list[Path]:
    """What a report in a directory consists of, charts in any format, whether it is there or not."""
    names = [f"{chart}.{suffix}" for chart in CHARTS for suffix in PLOT_FORMATS]
    return [folder / REPORT_FOLDER / name for name in (PAGE_FILE, *names)]


def remove_report(folder: Path) -> None:
    """Deletes the report in a directory, which is of a model or of numbers that are being replaced."""
    for old in report_files(folder):
        with suppress(NotADirectoryError):  # something of the user's own is called so: writing the next one will say it
            old.unlink(missing_ok=True)


def write_report(folder: Path, source: Source, *, plot_format: str = "png") -> Path:
    """Writes ``report/report.html`` and the charts beside it into a directory, in place of what was there.

    Args:
        folder: The directory of the numbers.
        source: What the page is made from.
        plot_format: ``"png"`` or ``"svg"``, of the charts that stand beside the page.

    Returns:
        The page.

    Raises:
        LabelrError: If it cannot be written.
    """
    page = page_in(folder)
    files.make_folder(page.parent)
    with files.writing(page.parent):
        remove_report(folder)
    album = sections.Album(source.evaluation)
    write_page(page, render(source, album))
    write_charts(page.parent, source, album, plot_format)
    return page


def render(source: Source, album: sections.Album) -> str:
    """The page as text."""
    return render_page(TEMPLATE, _context(source, album))


def _context(source: Source, album: sections.Album) -> dict[str, Any]:
    scored = bool(len(source.evaluation.probs))
    parts = {
        "suspects": sections.suspects(source, sections.Album(source.doubted, album)),
        "galleries": sections.galleries(source, album),
        "labels": sections.labels(source),
        "pairs": sections.pairs(source.evaluation),
        "reliability": sections.reliability(source.evaluation),
        "history": sections.history(source),
        "cards": cards(source.report) if scored else [],
    }
    titles = {
        "cards": ("numbers", "Numbers"), "suspects": ("suspects", "Labels to look at again"),
        "galleries": ("images", "Images"), "labels": ("labels", "Each label"), "pairs": ("together", "Together"),
        "reliability": ("probabilities", "Probabilities"), "history": ("training", "Training"),
    }  # fmt: skip
    return {
        "name": source.model.name,
        "title": f"{source.model.name}: how good it is",
        "headline": headline(source.report, source.scored, learned_from=source.learned_from),
        "sections": [*(titles[name] for name in titles if parts[name]), ("made", "How it was made")],
        "measures": measures(source.report),
        "reading": how_to_read(source.report) if scored else "",
        "folds": "spread" in source.report,
        "columns": sections.LABEL_COLUMNS,
        "few": source.report["few_positives"],
        "made": made(source, datetime.now(UTC)),
        "total": len(source.evaluation.labels),
        "counts": counts(source.model.info, sections.ROWS_SHOWN),
        "settings": settings(source.model.info.config),
        **parts,
    }

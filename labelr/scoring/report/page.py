"""Renders and writes reports: one self-contained HTML file that loads nothing from the network, and chart files."""

import base64
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from labelr import files
from labelr.config import PLOT_FORMATS
from labelr.data.walk import PAGE_FILE, REPORT_FOLDER
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.scoring.report import sections, text
from labelr.scoring.report.charts import History, history_panels, read_history
from labelr.scoring.report.plots import CHARTS, write_charts
from labelr.scoring.report.sections import MakeThumbnail, make_thumbnail
from labelr.scoring.results import Evaluation
from labelr.version import __version__

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent
TEMPLATE = HERE / "report.html.j2"


@dataclass(frozen=True)
class ReportData:
    """What a report is made from."""

    model: Model
    evaluation: Evaluation  # of the model on N images
    result: dict[str, Any]  # the content of metrics.json; with folds it holds means, unlike `evaluation`
    images: str  # which images these are, as a phrase such as "of the test split, which ..."
    checked: Evaluation  # on the images whose labels are checked for errors, which may be more
    checked_images: str  # which images these are, as a phrase
    seen_in_training: bool = False  # whether the model was trained on some of the N images, or its thresholds were

    @cached_property
    def history(self) -> History:
        """The history of the model's training."""
        return read_history(self.model.path / store.HISTORY_FILE)


def report_path(folder: Path) -> Path:
    """Where the HTML report of a directory is."""
    return folder / REPORT_FOLDER / PAGE_FILE


def report_files(folder: Path) -> list[Path]:
    """All files that a report in a directory may have, with charts in any format, whether they exist or not."""
    names = [f"{chart}.{suffix}" for chart in CHARTS for suffix in PLOT_FORMATS]
    return [report_path(folder), *(folder / REPORT_FOLDER / name for name in names)]


def remove_report(folder: Path) -> None:
    """Deletes the report in a directory, whose model or results are being replaced.

    Raises:
        LabelrError: If its folder is a link, behind which nothing may be deleted.
    """
    if (folder / REPORT_FOLDER).is_symlink():
        raise LabelrError(f"{folder / REPORT_FOLDER} is a link to another folder", "delete the link")
    for path in report_files(folder):
        with suppress(NotADirectoryError):  # a file of the user's has the folder's name: writing will report it
            path.unlink(missing_ok=True)


def write_report(folder: Path, report: ReportData, *, plot_format: str = "png", track: Track = untracked) -> Path:
    """Writes ``report/report.html`` and its charts into a directory, and returns the path of the HTML file.

    A previous report is replaced.

    Raises:
        LabelrError: If a file cannot be written.
    """
    path = report_path(folder)
    files.make_folder(path.parent)
    with files.writing(path.parent):
        remove_report(folder)
    value_range = report.model.info.preprocessing.value_range
    thumbnail = cache(partial(make_thumbnail, value_range=value_range))  # opens each file once
    write_html(path, render(report, thumbnail))
    panels = history_panels(report.history, report.model.info.best_epoch)
    write_charts(path.parent, report.evaluation, panels, thumbnail, plot_format, track)
    return path


def write_html(path: Path, html: str) -> None:
    """Writes an HTML file atomically; characters that UTF-8 cannot encode are replaced.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(path, html.encode("utf-8", "replace"), durable=False)


def render(report: ReportData, thumbnail: MakeThumbnail) -> str:
    """The report as HTML."""
    evaluation = report.evaluation
    parts: dict[str, Any] = dict.fromkeys(("cards", "galleries", "labels", "pairs")) | {
        "suspects": sections.suspects(report.checked, report.checked_images, thumbnail),
        "calibration": sections.calibration(evaluation),
        "history": sections.history(report.history, report.model.info.best_epoch),
    }
    if len(evaluation.probs):
        parts |= {
            "cards": text.metric_cards(report.result),
            "galleries": sections.galleries(evaluation, thumbnail),
            "labels": sections.labels(evaluation, report.result["per_label"]),
            "pairs": sections.pairs(evaluation),
        }
    anchors = {
        "cards": ("metrics", "Metrics"), "suspects": ("suspects", "Suspected label errors"),
        "galleries": ("images", "Images"), "labels": ("labels", "Labels"), "pairs": ("pairs", "Label pairs"),
        "calibration": ("calibration", "Calibration"), "history": ("training", "Training"),
    }  # fmt: skip
    info = report.model.info
    training_seconds = sum(report.history.get("seconds", ()))
    context = {
        "name": report.model.name,
        "title": f"{report.model.name}: evaluation report",
        "headline": text.headline(report.result, report.images, seen_in_training=report.seen_in_training),
        "sections": [*(anchors[name] for name in anchors if parts[name]), ("reproducibility", "Reproducibility")],
        "metrics": text.metric_rows(report.result),
        "explanation": text.explain_metrics(report.result),
        "folds": "spread" in report.result,
        "columns": sections.LABEL_COLUMNS,
        "digits": text.score_digits(report.result["images"]),
        "few": report.result["few_positives"],
        "total": len(evaluation.labels),
        "facts": text.reproducibility_facts(report.model, evaluation, training_seconds, datetime.now(UTC)),
        "label_counts": text.label_counts(info, sections.MAX_ROWS),
        "settings": text.setting_facts(info.config),
        **parts,
    }
    return render_page(TEMPLATE, context)


def breakable(name: str) -> Markup:
    """A name as HTML that is rather broken after a separator or before a capital letter than within a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/\\|=:,;+-])(?=\w)|(?<=[a-z])(?=[A-Z])", name))


def render_page(template: Path, context: Mapping[str, Any]) -> str:
    """A template that extends ``base.html.j2`` as HTML, with the shared style sheet and script.

    The context must have the `title`, and the anchor and title of each of the `sections`.
    """
    script = (HERE / "report.js").read_text(encoding="utf-8")
    base = {
        "version": __version__,
        "style": Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        "script": Markup(script),  # noqa: S704 - our own
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment(template.parent).get_template(template.name).render({**context, **base}) + "\n"


@cache
def _environment(folder: Path) -> "jinja2.Environment":
    """The environment of the templates in a folder, which keeps them compiled."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader([folder, HERE]), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"breakable": breakable, "score": text.format_score}
    return environment

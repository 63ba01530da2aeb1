"""Writes an evaluation into a directory: the report, the table of labels, and what was said of each image."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from labelr import files
from labelr.errors import LabelrError
from labelr.model.calibration import decide
from labelr.model.store import ERRORS_FILE, METRICS_FILE, PREDICTIONS_FILE
from labelr.scoring.evaluation import COLUMNS, Evaluation, without_nan
from labelr.scoring.report.page import report_files

PER_LABEL_FILE = "per_label.csv"


def check_free(folder: Path, *, force: bool) -> None:
    """Raises LabelrError where a directory holds results already that may not be replaced."""
    written = [folder / name for name in (METRICS_FILE, PER_LABEL_FILE, PREDICTIONS_FILE, ERRORS_FILE)]
    there = [path for path in (*written, *report_files(folder)) if path.exists()]
    if there and not force:
        raise LabelrError(f"{there[0]} is there already", "replace it with `--force`, or name another `--output`")


def write_results(folder: Path, evaluation: Evaluation, errors: str) -> None:
    """Writes ``metrics.json``, ``per_label.csv``, ``predictions.csv`` and ``errors.csv``, each in one piece.

    Args:
        folder: Where to.
        evaluation: The numbers.
        errors: The images that do not open, as the text of a table.

    Raises:
        LabelrError: If they cannot be written.
    """
    files.make_folder(folder)
    rows = [without_nan(row) for row in evaluation.per_label]
    table = ([files.escape_formula(str(row["label"])), *(row[name] for name in COLUMNS[1:])] for row in rows)
    per_label = files.csv_text(COLUMNS, table)
    files.write_atomically(folder / PER_LABEL_FILE, per_label)
    files.write_atomically(folder / PREDICTIONS_FILE, predictions_csv(evaluation))
    files.write_atomically(folder / ERRORS_FILE, errors)
    files.write_atomically(folder / METRICS_FILE, files.json_text(evaluation.to_json()))


def predictions_csv(evaluation: Evaluation, more: Mapping[str, Sequence[object]] | None = None) -> str:
    """A row an image: for each label its target (empty where unknown), its probability, and whether it applies.

    Probabilities have all the digits of a float32, so that every score can be computed again.

    Args:
        evaluation: N images with L labels.
        more: Further columns by name, N values each; they stand behind the name of the image.
    """
    parts, further = ("target", "probability", "prediction"), more or {}
    header = [files.escape_formula(f"{label}:{name}") for label in evaluation.labels for name in parts]
    preds = decide(evaluation.probs, evaluation.thresholds)
    beside = zip(*further.values(), strict=True) if further else [()] * len(preds)

    def rows() -> Iterable[list[object]]:
        for file, values, targets, probs, chosen in zip(
            evaluation.files, beside, evaluation.targets, evaluation.probs, preds, strict=True
        ):
            cells = zip(targets.tolist(), probs.tolist(), chosen.astype(int).tolist(), strict=True)
            shown = (("" if np.isnan(true) else int(true), f"{prob:.9g}", one) for true, prob, one in cells)
            yield [files.escape_formula_in_path(file), *values, *(value for cell in shown for value in cell)]

    return files.csv_text(["filename", *further, *header], rows())

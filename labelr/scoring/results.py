"""Writes an evaluation into a directory: the report, the table of labels, and what was said of each image."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from labelr import files
from labelr.errors import LabelrError
from labelr.model.decide import decide
from labelr.model.shelf import METRICS_FILE, PREDICTIONS_FILE
from labelr.scoring.evaluation import COLUMNS, Evaluation, without_nan
from labelr.scoring.report.page import report_files

PER_LABEL_FILE = "per_label.csv"


def check_free(folder: Path, *, force: bool) -> None:
    """Raises LabelrError where a directory holds results already that may not be replaced."""
    written = [folder / name for name in (METRICS_FILE, PER_LABEL_FILE, PREDICTIONS_FILE)]
    there = [path.name for path in (*written, *report_files(folder)) if path.exists()]
    if there and not force:
        raise LabelrError(
            f"there is {there[0]} in {folder} already", "replace it with `--force`, or name another `--output`"
        )


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Writes ``metrics.json``, ``per_label.csv`` and ``predictions.csv``, each in one piece.

    Raises:
        LabelrError: If they cannot be written.
    """
    files.make_folder(folder)
    rows = [without_nan(row) for row in evaluation.per_label]
    table = ([files.guarded(str(row["label"])), *(row[name] for name in COLUMNS[1:])] for row in rows)
    per_label = files.csv_text(COLUMNS, table)
    files.write_atomically(folder / PER_LABEL_FILE, per_label)
    files.write_atomically(folder / PREDICTIONS_FILE, predictions_csv(evaluation))
    files.write_atomically(folder / METRICS_FILE, files.json_text(evaluation.to_json()))


def predictions_csv(evaluation: Evaluation) -> str:
    """A row an image: for each label its target (empty where unknown), its probability, and whether it applies."""
    parts = ("target", "probability", "prediction")
    header = [files.guarded(f"{label}:{name}") for label in evaluation.labels for name in parts]
    preds = decide(evaluation.probs, evaluation.thresholds)

    def rows() -> Iterable[list[object]]:
        for file, targets, probs, chosen in zip(
            evaluation.files, evaluation.targets, evaluation.probs, preds, strict=True
        ):
            cells = zip(targets.tolist(), probs.tolist(), chosen.astype(int).tolist(), strict=True)
            shown = (("" if np.isnan(true) else int(true), f"{prob:.6f}", one) for true, prob, one in cells)
            yield [files.guarded_path(file), *(value for cell in shown for value in cell)]

    return files.csv_text(["filename", *header], rows())

"""Thresholds that people name in place of the model's own: one number, or a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelr import files
from labelr.errors import LabelrError, nearest
from labelr.model.predict import Model
from labelr.scoring.thresholds import Thresholds
from labelr.settings import SettingError

HINT = "give a table with the columns `label` and `threshold` to `--threshold-file`"


def check_overrides(threshold: float | None, threshold_file: str | Path | None) -> None:
    """Raises SettingError where both a number and a table are given."""
    if threshold is not None and threshold_file is not None:
        raise SettingError(
            "thresholds are one number, or those of a file", "give `--threshold` or `--threshold-file`, not both"
        )


def choose_thresholds(
    model: Model, threshold: float | None, threshold_file: str | Path | None
) -> tuple[Thresholds, str | float]:
    """The thresholds ``(L,)`` to go by, and where they come from: ``"auto"``, a number, or a file.

    Raises:
        LabelrError: If the file cannot be used.
    """
    own = model.thresholds(threshold)
    if threshold_file is not None:
        return read_thresholds(Path(threshold_file), model.labels, own), str(threshold_file)
    return own, "auto" if threshold is None else threshold


def read_thresholds(path: Path, labels: Sequence[str], usual: Thresholds) -> Thresholds:
    """The thresholds in a CSV ``label,threshold``; a label that it does not name keeps its usual one.

    Args:
        path: The table; other columns, such as those of ``per_label.csv``, are passed over.
        labels: L label names.
        usual: Shape ``(L,)``.

    Returns:
        Shape ``(L,)``.

    Raises:
        LabelrError: If it cannot be read, names a label that there is not, or one twice, or no number from 0 to 1.
    """
    chosen: dict[str, float] = {}
    for number, row in enumerate(_read_rows(path), start=2):
        label, where = files.unguarded(row["label"] or ""), f"{path}, row {number}"
        if label not in labels:
            hint = nearest(label, labels) or "leave the row out"
            raise LabelrError(f"{where}: the model has no label {label!r}", hint)
        if label in chosen:
            raise LabelrError(f"{where}: {label!r} is there twice", "keep one of the rows")
        chosen[label] = _read_number(row["threshold"], where)
    return np.array([chosen.get(label, value) for label, value in zip(labels, usual, strict=True)])


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LabelrError(f"cannot read {path}: {reason}", HINT) from error
    if not rows or not {"label", "threshold"} <= set(rows[0]):
        raise LabelrError(f"{path} is no table of thresholds", HINT)
    return rows


def _read_number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise LabelrError(f"{where}: expected a threshold from 0 to 1, got {text or ''!r}", "correct the cell")
    return value

"""Thresholds that people name in place of the model's own: one number, or a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelr.data.formats.source import read_text
from labelr.data.formats.table import Table, read_table
from labelr.errors import LabelrError, suggest
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.scoring.thresholds import Thresholds

COLUMNS = ("label", "threshold")
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
    """The thresholds in a table ``label,threshold``; a label that it does not name keeps its usual one.

    Args:
        path: The table, in any usual separator and encoding, with a decimal point or comma; other columns, such as
            those of ``per_label.csv``, are passed over.
        labels: L label names.
        usual: Shape ``(L,)``.

    Returns:
        Shape ``(L,)``.

    Raises:
        LabelrError: If it cannot be read, names a label that there is not, or one twice, or no number from 0 to 1.
    """
    chosen: dict[str, float] = {}
    table = _read_table(path)
    cells = (table.column(table.keys.index(name)) for name in COLUMNS)
    for row, (label, threshold) in enumerate(zip(*cells, strict=True)):
        where = table.location(row)
        if label not in labels:
            hint = suggest(label, labels) or "leave the row out"
            raise LabelrError(f"{where}: the model has no label {label!r}", hint)
        if label in chosen:
            raise LabelrError(f"{where}: {label!r} is there twice", "keep one of the rows")
        chosen[label] = _read_number(threshold, where)
    return np.array([chosen.get(label, value) for label, value in zip(labels, usual, strict=True)])


def _read_table(path: Path) -> Table:
    try:
        table = read_table(path, read_text(path).content)
    except LabelrError as error:
        raise LabelrError(error.message, HINT) from error
    if not set(COLUMNS) <= set(table.keys) or not table.body:
        raise LabelrError(f"{path} is no table of thresholds", HINT)
    return table


def _read_number(text: str, where: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise LabelrError(f"{where}: expected a threshold from 0 to 1, got {text!r}", "correct the cell")
    return value

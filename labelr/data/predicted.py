"""Rows of label files that `labelr tag` wrote and nobody corrected or confirmed: predictions are no labels."""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.data.formats.source import Source
from labelr.data.formats.table import column_key
from labelr.data.label_table import LabelTable, spread_targets
from labelr.errors import LabelrError, pluralize

JOURNAL = Path(".labelr", "journal.sqlite")
"""What `labelr tag` keeps in the directory that it writes; see `labelr.tagging.output`."""
CONFIRMED_COLUMNS = ("confirmed", "reviewed")
"""Names of the column in which people mark rows that are right."""
UNFILLED_FILE = "uncertain.csv"
"""The table of `labelr tag` that people fill in themselves."""


class Predictions(NamedTuple):
    """What `labelr tag` wrote: for each image whether each of K labels applies, as K bytes."""

    labels: tuple[str, ...]
    applies: dict[str, bytes]


def find_unconfirmed(source: Source, table: LabelTable) -> LabelTable:
    """The table of a label file with the names of its rows that are unchanged predictions, and are not confirmed.

    With `trust_predictions` off, these rows are left out. A column `confirmed` is no label.

    Raises:
        LabelrError: If no row is left.
    """
    folder = source.path if source.is_folder else source.path.parent
    predictions = read_predictions(folder / JOURNAL) if source.path.name != UNFILLED_FILE else None
    if predictions is None:
        return table
    table, confirmed = _take_confirmed(table, predictions.labels)
    rows = np.flatnonzero(_are_predicted(table, predictions) & ~confirmed).tolist()
    unconfirmed = tuple(table.names[row] for row in rows)
    trust = source.options.trust_predictions
    if not rows or trust is None:
        return replace(table, unconfirmed=unconfirmed)
    what = "predictions that nobody corrected or confirmed"
    if not trust:
        kept = sorted({*range(len(table.names))} - {*rows})
        if not kept:
            raise LabelrError(
                f"{source.path}: {pluralize(len(rows), 'row')}, all of them {what}",
                "correct the table, or confirm rows in a column `confirmed`",
            )
        table = replace(table.take(kept), aside=(*table.aside, *unconfirmed))
    done = "used as labels" if trust else "left out"
    return replace(table, notes=(*table.notes, f"{what}, {done}: {pluralize(len(rows), 'row')}"))


def read_predictions(journal: Path) -> Predictions | None:
    """The predictions in the journal of an output directory; None without a journal, and in one of an earlier version.

    Raises:
        LabelrError: If it is damaged, or in use.
    """
    if not journal.is_file():
        return None
    has_log = journal.with_name(f"{journal.name}-wal").exists()  # of a killed run, or of one that is not finished
    address = f"{journal.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'predicted'").fetchone():
                return None
            facts = dict(database.execute("SELECT name, value FROM facts"))
            labels = tuple(json.loads(facts["settings"])["labels"])
            rows = database.execute("SELECT name, applies FROM predicted WHERE length(applies) = ?", (len(labels),))
            return Predictions(labels, {os.fsdecode(name): applies for name, applies in rows})
    except (sqlite3.Error, KeyError) as error:
        raise LabelrError(
            f"cannot read what `labelr tag` wrote from {journal}: {error}", "wait until `labelr tag` ends, or repeat it"
        ) from error


def _take_confirmed(table: LabelTable, predicted: Sequence[str]) -> tuple[LabelTable, NDArray[np.bool_]]:
    """The table without the column of confirmations, and which rows are confirmed, ``(N,)``."""
    confirmed = np.zeros(len(table.names), dtype=bool)
    for column, label in enumerate(table.labels):
        if column_key(label) in CONFIRMED_COLUMNS and label not in predicted:
            confirmed = table.targets[:, column] == 1
            labels = table.labels[:column] + table.labels[column + 1 :]
            return replace(table, labels=labels, targets=np.delete(table.targets, column, axis=1)), confirmed
    return table, confirmed


def _are_predicted(table: LabelTable, predictions: Predictions) -> NDArray[np.bool_]:
    """Which rows have the labels that were predicted, ``(N,)``; labels without a column of their own do not count."""
    labels = tuple(dict.fromkeys((*predictions.labels, *table.labels)))
    num_predicted = len(predictions.labels)
    current = spread_targets(table.labels, table.targets, labels, closed=table.closed)
    predicted = np.full(current.shape, 0 if table.closed else np.nan, dtype=np.float32)
    rows = [row for row, name in enumerate(table.names) if name in predictions.applies]
    content = b"".join(predictions.applies[table.names[row]] for row in rows)
    predicted[rows, :num_predicted] = np.frombuffer(content, np.uint8).reshape(len(rows), num_predicted)
    has_column = np.array([table.closed or label in table.labels for label in labels])
    added = np.arange(len(labels)) >= num_predicted
    same = (current == predicted) | (np.isnan(current) & (added | ~has_column))
    found = np.zeros(len(table.names), dtype=bool)
    found[rows] = same[rows].all(axis=1)
    return found
